"""The command as a user meets it: its flags, what a whole run leaves behind, and what it says on the way."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torch_convae.config import FREE, Config
from torch_convae.train import parser
from torch_convae.training.archive import read_archive

ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = ("--epochs", "2,1,1", "--batch-size", "8", "--seed", "3", "--lr", "1e-3", "--layout", "contiguous")
IMAGES = {"curves.png", "reconstructions.png", "confusion.png"}
OTHERS = {
    "config.json",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "checkpoint.previous.safetensors",
    "checkpoint.good.safetensors",
    "model.safetensors",
    "summary.json",
    "outline.json",
    "confusion.json",
}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, class_folder: Path, train_in: Callable[[Path], Any]
) -> tuple[Path, Any]:
    """A run of convae to its end, in a folder `run`, and what the command gave."""
    folder = tmp_path_factory.mktemp("finished")
    answer = train_in(folder)("--data", class_folder, "--out", "run", *ARGUMENTS)
    assert (answer.code, answer.err) == (0, "")
    return folder / "run", answer


def test_there_are_at_most_forty_options_and_each_has_help() -> None:
    actions = [action for action in parser()._actions if action.option_strings]
    assert 10 < len(actions) <= 40
    assert [action.option_strings for action in parser()._actions if not action.help] == []


def test_there_is_a_flag_for_every_field_of_the_configuration_and_no_other_but_help_and_list() -> None:
    names = {action.dest for action in parser()._actions}
    assert names == {field.name for field in fields(Config)} | {"help", "list"}


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_and_list_fit_the_screen(train: Any, tmp_path: Path, flag: str) -> None:
    answer = train(flag)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    assert 5 < len(lines) < 70
    assert max(map(len, lines)) <= 100
    assert not (tmp_path / "runs").exists()


def test_the_list_names_recipes_stages_and_defaults(train: Any) -> None:
    out = train("--list").out
    for text in ("convae", "unet", "pretrain", "head", "finetune", "fashion-mnist-mini", "0.001", "--batch-size 32"):
        assert text in out


def test_the_module_runs_as_a_program_of_its_own(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "torch_convae.train",
        "--epochs",
        "1,1,0",
        "--limit",
        "20",
        "--size",
        "8",
        "--out",
        "run",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run/summary.json").read_text())["data"] == "fashion-mnist-mini"
    assert json.loads((tmp_path / "run/summary.json").read_text())["stages"].keys() == {"pretrain", "head"}


def test_a_run_leaves_these_files_and_no_others(finished: tuple[Path, Any]) -> None:
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == OTHERS | IMAGES | {".lock"}
    for name in IMAGES:
        with Image.open(folder / name) as image:
            assert image.format == "PNG"
            assert len(np.unique(np.asarray(image.convert("L")))) > 20, f"{name} is blank"


def test_config_json_holds_the_flags(finished: tuple[Path, Any], class_folder: Path) -> None:
    config = json.loads((finished[0] / "config.json").read_text())
    given = {
        "data": str(class_folder),
        "epochs": "2,1,1",
        "batch_size": 8,
        "seed": 3,
        "lr": "1e-3",
        "layout": "contiguous",
    }
    defaults = {field.name: field.default for field in fields(Config) if field.name not in FREE}
    assert config == defaults | given


def test_metrics_has_a_line_for_every_epoch(finished: tuple[Path, Any]) -> None:
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        ("pretrain", 1),
        ("pretrain", 2),
        ("head", 1),
        ("finetune", 1),
    ]
    figures, classes = {"stage", "epoch", "train_loss", "test_loss"}, {"test_accuracy", "test_f1", "test_kappa"}
    assert lines[0].keys() == figures | {"frozen_sha256_start"}
    assert lines[1].keys() == figures | {"frozen_sha256_end"}
    assert lines[2].keys() == figures | {"frozen_sha256_start", "frozen_sha256_end"} | classes
    assert lines[2]["frozen_sha256_start"] == lines[2]["frozen_sha256_end"] != "nothing"
    assert lines[1]["train_loss"] < lines[0]["train_loss"]


def test_the_summary_has_the_figures_of_every_stage(finished: tuple[Path, Any]) -> None:
    summary = json.loads((finished[0] / "summary.json").read_text())
    lines = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    assert list(summary["stages"]) == ["pretrain", "head", "finetune"]
    assert summary["classes"] == ["class0", "class1", "class2"]
    assert "test_accuracy" not in summary["stages"]["pretrain"]
    for stage in ("head", "finetune"):
        last = [line for line in lines if line["stage"] == stage][-1]
        assert summary["stages"][stage]["test_accuracy"] == last["test_accuracy"]
        assert summary["stages"][stage]["test_loss"] == last["test_loss"]
    assert summary["test_accuracy"] == summary["stages"]["finetune"]["test_accuracy"]
    assert 0 <= summary["test_accuracy"] <= 1
    assert summary["stages"]["head"]["trained"] == ["head.*"]
    assert summary["stages"]["head"]["trained_parameters"] < summary["stages"]["finetune"]["trained_parameters"]


def test_what_is_said_is_plain_text_with_a_line_for_every_epoch(finished: tuple[Path, Any]) -> None:
    out = finished[1].out
    assert all(character.isprintable() or character == "\n" for character in out), "a progress bar in a log file"
    lines = out.splitlines()
    assert lines[0].startswith("convae on bars: 24 train, 6 test, 3 classes")
    assert [line.split()[:2] for line in lines[1:5]] == [
        ["pretrain", "1/2"],
        ["pretrain", "2/2"],
        ["head", "1/1"],
        ["finetune", "1/1"],
    ]
    assert "test_accuracy" in lines[-1]
    assert "in run" in lines[-1]
    assert len(lines) == 6


def test_a_finished_run_started_again_says_so_and_changes_nothing(
    finished: tuple[Path, Any], class_folder: Path, train: Any, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    folder = finished[0]
    before, times = contents(folder), {path: path.stat().st_mtime_ns for path in folder.glob("[a-z]*")}
    again = train("--data", class_folder, "--out", folder, "--device", "cpu", *ARGUMENTS)  # these may differ
    assert (again.code, again.err) == (0, "")
    assert "is complete; --fresh starts over" in again.out
    assert again.out.splitlines()[-1].split(" in ")[0] == finished[1].out.splitlines()[-1].split(" in ")[0]
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.glob("[a-z]*")} == times


def test_other_options_are_refused_by_name(
    finished: tuple[Path, Any], class_folder: Path, train: Any, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    folder = finished[0]
    before = contents(folder)
    answer = train("--data", class_folder, "--out", folder, *ARGUMENTS, "--seed", "4", "--limit", "20")
    assert answer.code == 2
    assert "seed 3 -> 4" in answer.line
    assert "limit None -> 20" in answer.line
    assert "epochs" not in answer.line
    assert "--fresh" in answer.line
    assert contents(folder) == before


def test_the_same_run_elsewhere_gives_the_same_bits(
    finished: tuple[Path, Any], class_folder: Path, train: Any, tmp_path: Path
) -> None:
    assert train("--data", class_folder, "--out", "other", *ARGUMENTS).code == 0
    assert (tmp_path / "other/model.safetensors").read_bytes() == (finished[0] / "model.safetensors").read_bytes()
    assert (tmp_path / "other/metrics.jsonl").read_bytes() == (finished[0] / "metrics.jsonl").read_bytes()


def test_fresh_starts_over_and_leaves_foreign_files_alone(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--out", "run", "--epochs", "1,0,0")
    assert train(*command).code == 0
    first = (tmp_path / "run/model.safetensors").read_bytes()
    foreign = {
        "holiday.png": b"a picture",
        "notes.jsonl": b"{}",
        "other.safetensors": b"mine",
        "checkpoint_mine.safetensors": b"x",
    }
    for name, text in foreign.items():
        (tmp_path / "run" / name).write_bytes(text)
    left = tmp_path / "run/.checkpoint.safetensors.4711.safetensors"
    left.write_bytes(b"what a killed process was writing")
    answer = train(*command, "--fresh", "--seed", "1")
    assert (answer.code, answer.err) == (0, "")
    assert "pretrain 1/1" in answer.out
    assert (tmp_path / "run/model.safetensors").read_bytes() != first
    assert json.loads((tmp_path / "run/config.json").read_text())["seed"] == 1
    assert len((tmp_path / "run/metrics.jsonl").read_text().splitlines()) == 1
    assert {name: (tmp_path / "run" / name).read_bytes() for name in foreign} == foreign
    assert not left.exists()


def test_a_run_that_diverges_ends_with_one_line_and_keeps_what_was_written(
    train: Any, class_folder: Path, tmp_path: Path
) -> None:
    answer = train(
        "--data", class_folder, "--out", "run", "--epochs", "1,1,2", "--lr", "1e-3,1e-3,1e30", "--batch-size", "8"
    )
    assert answer.code == 1
    assert "The loss of stage finetune is" in answer.line
    assert "--lr than 1e+30" in answer.line
    assert "head 1/1" in answer.out
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert kept >= {"config.json", "metrics.jsonl", "checkpoint.safetensors", "reconstructions.png", "confusion.png"}
    assert not kept & {"summary.json", "model.safetensors"}
    assert [json.loads(line)["stage"] for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()] == [
        "pretrain",
        "head",
    ]
    saved = read_archive(tmp_path / "run/checkpoint.safetensors")
    assert saved is not None
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())


def test_one_step_is_enough_to_notice_divergence(train: Any, class_folder: Path, tmp_path: Path) -> None:
    """The loss of the only step is that before it: what spoils the weights shows in the measuring."""
    answer = train("--data", class_folder, "--out", "run", "--epochs", "0,0,1", "--lr", "1e30")
    assert answer.code == 1
    assert "finetune" in answer.line
    saved = read_archive(tmp_path / "run/checkpoint.safetensors")
    assert saved is not None
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())
    assert not (tmp_path / "run/summary.json").exists()


@pytest.mark.parametrize("flags", [["--precision", "bfloat16"], ["--layout", "channels-last"]])
def test_precision_and_layout_give_nearly_the_same(
    finished: tuple[Path, Any], train: Any, class_folder: Path, tmp_path: Path, flags: list[str]
) -> None:
    assert train("--data", class_folder, "--out", "run", *ARGUMENTS[:-2], *flags).code == 0
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (tmp_path / "run", finished[0]))
    for stage in ("pretrain", "head", "finetune"):
        assert ours["stages"][stage]["test_loss"] == pytest.approx(theirs["stages"][stage]["test_loss"], rel=0.1)


def test_pretraining_alone_gives_an_autoencoder(train: Any, class_folder: Path, tmp_path: Path) -> None:
    assert train("--data", class_folder, "--out", "run", "--epochs", "1,0,0").code == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["model"] == "convae"
    assert "test_accuracy" not in summary
    assert summary["test_loss"] == summary["stages"]["pretrain"]["test_loss"]


def test_a_full_disk_ends_with_one_line_and_leaves_whole_files(train: Any, class_folder: Path, tmp_path: Path) -> None:
    command = ("--data", class_folder, "--out", "run", "--epochs", "1,0,0")
    train.largest_file = 100_000
    answer = train(*command)
    assert answer.code == 2
    assert "run/checkpoint.safetensors cannot be written" in answer.line
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        ".lock",
        "config.json",
        "outline.json",
        "metrics.jsonl",
    }
    train.largest_file = 0
    assert train(*command).code == 0, "with space again the same command goes on"


PROGRAM = (
    "import runpy, sys; sys.modules['matplotlib'] = None; runpy.run_module('torch_convae.train', run_name='__main__')"
)


def test_without_matplotlib_a_run_has_all_but_pictures_and_says_so(class_folder: Path, tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        "--data",
        str(class_folder),
        "--epochs",
        "1,1,0",
        "--size",
        "8",
        "--out",
        "run",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0
    assert done.stderr == "No pictures: they need matplotlib (pip install 'torch-convae[plots]').\n"
    assert {path.name for path in (tmp_path / "run").iterdir()} == OTHERS | {".lock"}


@pytest.mark.slow
def test_a_compiled_network_learns_what_a_plain_one_learns(
    finished: tuple[Path, Any], class_folder: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "torch_convae.train",
        "--data",
        str(class_folder),
        "--out",
        "run",
        *ARGUMENTS,
        "--compile",
    ]
    assert (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=900, check=False).returncode
        == 0
    )
    folders = tmp_path / "run", finished[0]
    both = [[json.loads(line) for line in (each / "metrics.jsonl").read_text().splitlines()] for each in folders]
    assert len(both[0]) == len(both[1])
    # Rounding alone is another at first; RMSprop and 24 images make it more from epoch to epoch.
    for at, (ours, theirs) in enumerate(zip(*both, strict=True)):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=0.25 if at else 0.02), ours["stage"]
