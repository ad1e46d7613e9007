"""Whatever becomes of stdout and stderr, whoever asks for an end: one line at most, and the exit code says it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import torch_convae

ROOT = Path(__file__).resolve().parents[2]

# One process imports the commands, and each call is a fork of it whose streams are what they are to be.
SCRIPT = """
import importlib, io, json, os, signal, sys, time, traceback
VERBS = ("train", "features.__main__", "predict.__main__", "explain.__main__", "report.__main__")
VERBS = {verb.partition(".")[0]: importlib.import_module(f"torch_convae.{verb}") for verb in VERBS}

def opened(kind, kept):
    if kind == "full":
        return os.open("/dev/full", os.O_WRONLY)
    if kind == "gone":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)

def stream(number, kind, kept):
    if kind == "closed":
        os.close(number)
        return None
    os.dup2(opened(kind, kept), number)
    encoding = "ascii" if kind == "ascii" else "utf8"
    return io.TextIOWrapper(io.FileIO(number, "w", closefd=False), encoding)

for line in sys.stdin:
    verb, arguments, out, err, stop = json.loads(line)
    child = os.fork()
    if not child:
        code = 99
        try:
            sys.stdout, sys.stderr = stream(1, out, "out"), stream(2, err, "err")
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.alarm(60)
            if stop:  # as soon as it is at work
                def stopped(*_):
                    os.kill(os.getpid(), stop)
                    time.sleep(60)
                sys.modules[VERBS[verb].__name__].source = stopped
            code = VERBS[verb].main(arguments)
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("streams")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
    ) as server:

        def call(
            verb: str, *arguments: object, out: str = "kept", err: str = "kept", stop: int = 0
        ) -> tuple[int, str, str]:
            for name in ("out", "err"):
                (folder / name).write_text("")
            assert server.stdin is not None
            assert server.stdout is not None
            server.stdin.write(json.dumps([verb, [str(each) for each in arguments], out, err, stop]) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline()), (folder / "out").read_text(), (folder / "err").read_text()

        yield call
        assert server.stdin is not None
        server.stdin.close()


CALLS = [("train", "--list"), *((verb, "--help") for verb in ("train", "features", "predict", "explain", "report"))]


@pytest.mark.parametrize(("out", "reason"), [("full", "No space left on device"), ("closed", "stdout is closed")])
@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_an_answer_that_cannot_be_printed_is_one_line_and_code_2(
    call: tuple[str, str], out: str, reason: str, forks: Any
) -> None:
    line = f"torch_convae.{call[0]}: Not all of it could be printed: {reason}. Send stdout to another place.\n"
    assert forks(*call, out=out) == (2, "", line)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(call: tuple[str, str], forks: Any) -> None:
    assert forks(*call, out="gone") == (0, "", "")


@pytest.mark.parametrize("err", ["full", "closed", "gone"])
@pytest.mark.parametrize("call", [("features", "no-such-model", "--list"), ("train", "--nothing")], ids=" ".join)
def test_the_exit_code_says_it_where_stderr_cannot(call: tuple[str, ...], err: str, forks: Any) -> None:
    assert forks(*call, err=err) == (2, "", "")


def test_a_wrong_call_is_one_line_where_stdout_is_closed(forks: Any) -> None:
    code, _, err = forks("predict", out="closed")
    assert (code, err.count("\n")) == (2, 1), err


def test_a_run_goes_on_when_nobody_reads_what_it_says(forks: Any, tmp_path: Path) -> None:
    flags = ("--limit", 20, "--batch-size", 10, "--epochs", "1,0,0", "--out", tmp_path / "run")
    code, _, err = forks("train", *flags, out="full")
    assert (code, err.count("\n")) == (2, 1), err
    assert "Not all of it could be printed: No space left on device" in err
    assert (tmp_path / "run/summary.json").exists()


def test_characters_that_a_terminal_does_not_have_are_printed_as_their_numbers(forks: Any, tmp_path: Path) -> None:
    model = torch_convae.create("convae")
    save_file(model.state_dict(), tmp_path / "größe.safetensors")
    out = tmp_path / "größe.npz"
    picture = ROOT / "docs/images/explain_car.png"
    flags = ("--weights", tmp_path / "größe.safetensors", "--layer", "conv2d", "--out", out, "--size", "28")
    code, said, err = forks("features", "convae", picture, *flags, out="ascii")
    assert code in (0, 1), err
    assert "gr\\xf6\\xdfe.npz" in said


@pytest.mark.parametrize(("stop", "name"), [(15, "SIGTERM"), (2, "SIGINT")])
@pytest.mark.parametrize("verb", ["features", "predict", "explain"])
def test_a_verb_that_is_asked_to_stop_leaves_with_one_line(
    verb: str, stop: int, name: str, forks: Any, tmp_path: Path
) -> None:
    flags = (["--layer", "conv2d"] if verb == "features" else []) + ["--out", str(tmp_path / "out.npz")]
    code, _, err = forks(verb, "convae", ROOT / "docs/images/explain_car.png", *flags, stop=stop)
    assert (code, err) == (128 + stop, f"torch_convae.{verb}: stopped by {name}\n")
    assert list(tmp_path.iterdir()) == []
