"""A report is one page of a run, or of several, that needs nothing else and trusts nothing that it shows."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from torch_convae.report.__main__ import main

PNG = b"\x89PNG\r\n\x1a\n" + b"the rest of a picture"
VOID = {"meta", "img", "line", "circle", "rect", "polyline"}


class Page(HTMLParser):
    """Checks that every element is closed, and keeps texts and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.names.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def write_run(folder: Path, accuracy: float = 0.5, **config: Any) -> Path:
    """A run as it lies in its folder when it is complete."""
    folder.mkdir(parents=True)
    stage = {"name": "head", "epochs": 2, "lr": 1e-3, "trained": ["head.*"], "trained_parameters": 30}
    files: dict[str, Any] = {
        "config.json": {"recipe": "convae", "seed": 0, "batch_size": None} | config,
        "outline.json": {"settings": {"batch_size": 64}, "parameters": 120, "stages": [stage]},
        "summary.json": {
            "test_accuracy": accuracy,
            "test_loss": 1 - accuracy,
            "seconds": 75.0,
            "stages": {"head": {"frozen_sha256": "0123456789abcdef", "seconds": 70.0, "peak_memory": 3 * 2**20}},
        },
        "weights.json": {
            "source": "vgg16.h5",
            "module": "VGG16UNet",
            "copied": [
                {
                    "source": "block1_conv1/kernel",
                    "target": "encoder.block1_conv1.weight",
                    "transform": "HWIO -> OIHW",
                    "from_shape": [3, 3, 3, 64],
                    "to_shape": [64, 3, 3, 3],
                    "ambiguous": True,
                }
            ],
            "filled": [],
            "skipped": [{"source": "predictions/kernel", "reason": "nothing in the module has that name"}],
            "untouched": [{"target": "decoder.conv.weight", "reason": "nothing in the file has that name"}],
            "notes": [],
        },
        "confusion.json": {"split": "test", "classes": ["cat", "dog"], "counts": [[3, 1], [2, 4]]},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    lines = [
        {"stage": "head", "epoch": epoch, "train_loss": 1 / epoch, "test_loss": 1.5 / epoch, "test_accuracy": accuracy}
        for epoch in (1, 2)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "reconstructions.png").write_bytes(PNG)
    return folder


@pytest.fixture
def reported(tmp_path: Path) -> Callable[..., Page]:
    """The page of these runs."""

    def report(*runs: Path) -> Page:
        out = tmp_path / "page.html"
        assert main([*map(str, runs), "--out", str(out)]) == 0
        return Page(out.read_text())

    return report


def test_a_page_shows_all_that_a_run_knows(tmp_path: Path, reported: Callable[..., Page]) -> None:
    text = reported(write_run(tmp_path / "run")).text
    for shown in (
        "0.5000",  # the final figure
        "1 min 10 s",
        "3 MiB",
        "head.*",  # what trained
        "0123456789ab",  # the proof that the rest did not
        "block1_conv1/kernel",  # loaded
        "encoder.block1_conv1.weight",
        "HWIO -> OIHW",
        "3 x 3 x 3 x 64",
        "nothing in the module has that name",  # skipped
        "decoder.conv.weight",  # untouched
        "1 tensors would fit with their axes in another order",
        "0.750",  # the recall of cats
        "0.500",  # their intersection over union
        "batch_size",
    ):
        assert shown in text, shown
    assert re.search(r"batch_size\s+64", text), "what the recipe chose is not shown"


def test_a_page_loads_nothing_and_runs_nothing(tmp_path: Path, reported: Callable[..., Page]) -> None:
    page = reported(write_run(tmp_path / "one"), write_run(tmp_path / "two", seed=1))
    assert not page.names & {"script", "link", "iframe", "object", "embed", "base"}
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data", "action")]
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "http" not in page.text
    assert "url(" not in page.text
    assert "@import" not in page.text


def test_runs_are_compared_side_by_side(tmp_path: Path, reported: Callable[..., Page]) -> None:
    runs = (write_run(tmp_path / "a" / "run", 0.5), write_run(tmp_path / "b" / "run", 0.75, seed=7))
    page = reported(*runs)
    assert "2 runs compared" in page.text
    assert {"a/run", "b/run"} <= set(page.texts), "runs of the same name cannot be told apart"
    text = (tmp_path / "page.html").read_text()
    assert '<td class="best">0.7500</td>' in text, "the higher accuracy is the better one"
    assert '<td class="best">0.2500</td>' in text, "the lower loss is the better one"
    marked = re.findall(r'<tr class="differs"><th scope="row"><code>(.*?)</code>', text)
    assert marked == ["seed"]
    titles = set(re.findall(r"<title>([^<]*?), epoch 1: ", text))
    assert {"a/run, train_loss", "b/run, train_loss", "a/run, test_accuracy", "b/run, test_accuracy"} <= titles


def test_names_are_shown_and_never_obeyed(tmp_path: Path, reported: Callable[..., Page]) -> None:
    attack = "<script>alert(1)</script>\"'&"
    run = write_run(tmp_path / "<b>run", data=attack)
    classes = {"classes": [attack, "dog"], "counts": [[1, 0], [0, 1]]}
    (run / "confusion.json").write_text(json.dumps(classes))
    (run / "metrics.jsonl").write_text(json.dumps({"stage": attack, "epoch": 1, f"val_{attack}": 0.5}) + "\n")
    page = reported(run)
    assert "script" not in page.names
    assert "b" in page.names  # the page's own, as for the count of tensors
    assert attack in page.texts
    assert "<b>run" in page.texts


def test_a_run_that_is_not_complete_has_a_page_too(tmp_path: Path, reported: Callable[..., Page]) -> None:
    run = write_run(tmp_path / "run")
    for name in ("summary.json", "confusion.json", "weights.json", "outline.json"):
        (run / name).unlink()
    assert "not complete; head, epoch 2 is done" in reported(run).text
    (run / "metrics.jsonl").unlink()
    assert "no epoch is done yet" in reported(run).text


def test_figures_that_are_no_numbers_leave_gaps(tmp_path: Path, reported: Callable[..., Page]) -> None:
    run = write_run(tmp_path / "run")
    (run / "metrics.jsonl").write_text('{"stage": "head", "epoch": 1, "train_loss": NaN, "val_loss": null}\n')
    (run / "summary.json").write_text('{"test_loss": Infinity}')
    assert "nan" not in "".join(value for name, value in reported(run).attributes if name == "points")


def test_the_page_of_one_run_lies_in_its_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    for _ in range(2):  # a second report replaces the first
        assert main([str(run)]) == 0
        assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def changed(name: str, text: str) -> Callable[[Path], int]:
    return lambda run: (run / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda run: run.rename(run.with_name("elsewhere")), "does not exist"),
        (lambda run: (run / "config.json").unlink(), "no run"),
        (changed("config.json", "{"), "config.json is not readable JSON"),
        (changed("config.json", '{"seed": 1}'), "no run"),
        (changed("metrics.jsonl", '{"stage": "head", "epoch": 1}\n{"stage'), "metrics.jsonl is not readable"),
        (changed("metrics.jsonl", "[1]\n"), "metrics.jsonl is not what a run writes"),
        (changed("summary.json", "[]"), "summary.json is not"),
        (changed("summary.json", '{"stages": [1]}'), "summary.json is not what a run writes"),
        (changed("outline.json", '{"stages": [{}]}'), "outline.json is not what a run writes"),
        (changed("weights.json", '{"copied": 3}'), "weights.json is not what a run writes"),
        (
            changed("confusion.json", '{"classes": ["a"], "counts": [[1, 2]]}'),
            "confusion.json is not what a run writes",
        ),
    ],
)
def test_a_folder_that_holds_no_run_is_one_line(
    spoil: Callable[[Path], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run")
    spoil(run)
    assert main([str(run), "--out", str(tmp_path / "page.html")]) == 2
    answer = capsys.readouterr()
    assert answer.out == ""
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("torch_convae.report: ")
    assert said in answer.err
    assert not (tmp_path / "page.html").exists()


def test_what_is_no_report_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run")
    for out in (run / "summary.json", run, tmp_path / "nowhere" / "page.html"):
        assert main([str(run), "--out", str(out)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main([str(run), str(run)]) == 2
    assert "named twice" in capsys.readouterr().err
    assert json.loads((run / "summary.json").read_text())["seconds"] == 75.0


def test_it_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch_convae.report"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
