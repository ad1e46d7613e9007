"""What the documents point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINKS = [
    (document, text, target.partition("#")[0])
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
    for text, target in re.findall(r"\[([^\]]*)\]\(([^)\s]+)\)", document.read_text())
    if "://" not in target and not target.startswith("#")
]


def test_there_are_links() -> None:
    assert len(LINKS) > 50


@pytest.mark.parametrize(("document", "text", "target"), LINKS, ids=[f"{d.name}:{t}" for d, t, _ in LINKS])
def test_a_link_leads_to_a_file_and_the_name_of_a_test_to_that_test(document: Path, text: str, target: str) -> None:
    path = (document.parent / target).resolve()
    assert path.exists()
    if text.startswith("test_") and text != path.stem and path.suffix == ".py":
        assert f"def {text}(" in path.read_text()
