"""New classes from old ones, as a user writes them."""

import json
from pathlib import Path

import pytest

from torch_convae import ConvaeError
from torch_convae.groups import read_groups

OLD = ("Sky", "Road", "Car", "Bicyclist")
GROUPS = {"above": ("Sky",), "Road": ("Road",), "moving": ("Car", "Bicyclist")}


def test_a_line_a_text_file_and_a_json_file_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("above = Sky\nRoad\n\nmoving = Car + Bicyclist\n")
    (tmp_path / "c.json").write_text(json.dumps({"above": "Sky", "Road": ["Road"], "moving": ["Car", "Bicyclist"]}))
    for text in ("above=Sky,Road,moving=Car+Bicyclist", str(tmp_path / "c.txt"), str(tmp_path / "c.json")):
        assert read_groups(text, OLD) == GROUPS
        assert list(read_groups(text, OLD)) == list(GROUPS), "the order is that of the new indices"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("above=Sky,Road,moving=Car+Byciclist", r"no class 'Byciclist'; did you mean Bicyclist\?"),
        ("above=Sky,Road,moving=Car", r"leaves out Bicyclist\. Give each old class once"),
        ("above=Sky,Road,moving=Car+Bicyclist+Sky", r"'Sky' is in more than one place"),
        ("a=Sky,a=Road,moving=Car+Bicyclist", r"new class 'a' is there twice"),
        ("all=Sky+Road+Car+Bicyclist", r"one class of all"),
        ("=Sky,Road,moving=Car+Bicyclist", r"lacks a name"),
        ("a=Sky+,Road,moving=Car+Bicyclist", r"'a' lacks a name"),
        ("nowhere.txt", r"nowhere\.txt cannot be read"),
        ("nowhere.json", r"nowhere\.json cannot be read"),
    ],
)
def test_what_does_not_cover_every_class_once_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConvaeError, match=said):
        read_groups(text, OLD)


@pytest.mark.parametrize("held", ["[1, 2]", '{"a": 3}', '{"a": [1]}', "nonsense"])
def test_json_of_another_kind_is_refused(tmp_path: Path, held: str) -> None:
    (tmp_path / "c.json").write_text(held)
    with pytest.raises(ConvaeError, match=r"c\.json (should hold|cannot be read)"):
        read_groups(str(tmp_path / "c.json"), OLD)
