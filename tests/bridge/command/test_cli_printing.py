"""What a command prints where nothing takes it, and how it ends when it is stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[3]


def test_a_reader_that_has_seen_enough_is_no_error(file: Path) -> None:
    """As with `| head -1`."""
    command = f"{sys.executable} -m bridge inspect {file} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f"{sys.executable} -m bridge {command}"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("where", "reason"),
    [("> /dev/full", "No space left on device"), (">&-", "stdout is closed"), ("<&- >&-", "closed")],
)
def test_an_answer_that_cannot_be_printed_is_one_line_and_code_2(
    where: str, reason: str, file: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    done = in_shell(f"convert {file} {there} {where}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("bridge: The answer cannot be printed: ")
    assert reason in done.stderr
    assert done.stderr.endswith(f" {there} is written and complete.\n")
    assert len(load_file(there)) == 8


@pytest.mark.parametrize("call", ["--help", "--version", "convert --help"])
@pytest.mark.parametrize(("where", "reason"), [("> /dev/full", "No space left on device"), (">&-", "stdout is closed")])
def test_help_that_cannot_be_printed_is_one_line_and_code_2(call: str, where: str, reason: str) -> None:
    done = in_shell(f"{call} {where}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"The answer cannot be printed: {reason}" in done.stderr


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_the_exit_code_says_it_where_stderr_cannot(where: str, tmp_path: Path) -> None:
    for call in (f"inspect {tmp_path / 'nothing.h5'}", "inspect"):
        done = in_shell(f"{call} {where}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


STOPPED = """
import os, signal, sys, time
import bridge.__main__ as cli
def stopped(*_):
    os.kill(os.getpid(), int(sys.argv[3]))
    time.sleep(60)
cli.convert.__globals__["safetensors_files"].write = stopped
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(cli.main(["convert", *sys.argv[1:3]]))
"""


@pytest.mark.parametrize(("stop", "line"), [(15, "bridge: stopped by SIGTERM.\n"), (2, "bridge: interrupted.\n")])
def test_a_command_that_is_asked_to_stop_leaves_with_one_line_and_nothing_half_written(
    stop: int, line: str, file: Path, tmp_path: Path
) -> None:
    there = tmp_path / "out.safetensors"
    there.write_text("former")
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, file, there, str(stop)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (128 + stop, "", line)
    assert (sorted(tmp_path.iterdir()), there.read_text()) == (before, "former")


def test_an_answer_of_any_size_that_cannot_be_printed_is_one_line(tmp_path: Path) -> None:
    save_file({f"layer{number}.weight": torch.zeros(1) for number in range(2000)}, tmp_path / "w.safetensors")
    done = in_shell(f"inspect {tmp_path / 'w.safetensors'} > /dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "The answer cannot be printed" in done.stderr


def test_characters_that_a_terminal_does_not_have_are_printed_as_their_numbers(tmp_path: Path) -> None:
    save_file({"größe.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    done = in_shell(f"inspect {tmp_path / 'w.safetensors'}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe" in done.stdout
