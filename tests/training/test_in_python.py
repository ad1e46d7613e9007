"""The example of docs/training.md, as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_of_the_docs_trains_goes_on_and_keeps_features(tmp_path: Path) -> None:
    section = (ROOT / "docs/training.md").read_text().partition("## In Python")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    command, environment = [sys.executable, "-W", "error", "-c", code], os.environ | {"PYTHONPATH": str(ROOT)}
    answers = [
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [(answer.returncode, answer.stderr) for answer in answers] == [(0, "")] * 2
    assert float(answers[0].stdout.split()[-1]) > 0.9
    assert answers[1].stdout.split()[-1] == answers[0].stdout.split()[-1]
    assert "kept" in answers[0].stdout
    lines = (tmp_path / "runs/own/metrics.jsonl").read_text().splitlines()
    assert len(lines) == 6, "the second time there was nothing to do"
