"""What is written appears whole under its name, or not at all; what may not be overwritten stays as it is."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bridge
from bridge.files.atomic import refuse_same, replacing

ROOT = Path(__file__).resolve().parents[3]
Place = Callable[[Path], Any]
FORMER = b"what was there before"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A state dict in a folder of its own."""
    path = tmp_path / "in" / "source.pt"
    path.parent.mkdir()
    torch.save({"fc.weight": torch.arange(6.0).reshape(2, 3)}, path)
    return path


def named(name: str) -> Place:
    return lambda folder: folder / name


def linked(to: str, name: str = "there.pt") -> Place:
    def make(folder: Path) -> Path:
        (folder / name).symlink_to(to)
        return folder / name

    return make


def made(make: Callable[[Path], object], name: str = "there.pt") -> Place:
    def place(folder: Path) -> Path:
        make(folder / name)
        return folder / name

    return place


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(os.path.relpath(path))  # a socket's whole path may take 108 bytes


def through(path: Path) -> None:
    path.with_name("pipe").mkdir()
    os.mkfifo(path.with_name("pipe") / "fifo")
    path.symlink_to("pipe/fifo")


def with_a_file(path: Path) -> None:
    path.mkdir()
    (path / "kept").write_bytes(FORMER)


DESTINATIONS: dict[str, tuple[Place, str]] = {
    "a folder": (made(Path.mkdir), "is not a regular file"),
    "a folder that is not empty": (made(with_a_file), "is not a regular file"),
    "a FIFO": (made(os.mkfifo), "is not a regular file"),
    "a socket": (made(bound), "is not a regular file"),
    "a link to a folder": (linked("."), "is not a regular file"),
    "a link to a FIFO": (made(through), "is not a regular file"),
    "a link to a device": (linked("/dev/null"), "is not a regular file"),
    "a link to a device that is full": (linked("/dev/full", "there.safetensors"), "is not a regular file"),
    "a link to nothing": (linked("nowhere.pt"), "is a link to nothing"),
    "a link into a missing folder": (linked("no/there.pt"), "is a link to nothing"),
    "a link to itself": (linked("there.pt"), "cannot be written"),
    "in a missing folder": (named("no/there.pt"), "cannot be written: No such file or directory"),
    "below a file": (named("former.pt/there.pt"), "cannot be written: Not a directory"),
    "below a device": (lambda _: Path("/dev/null/there.pt"), "cannot be written: Not a directory"),
    "where no files are": (lambda _: Path("/proc/there.pt"), "cannot be written"),
    "a folder's name": (lambda folder: f"{folder}/there.pt/", "is the name of a folder"),
    "a folder's name and itself": (lambda folder: f"{folder}/there.safetensors/.", "is the name of a folder"),
    "a folder's name, twice itself": (lambda folder: f"{folder}/there.pt/./.", "is the name of a folder"),
    "a name that is too long": (named("n" * 300 + ".pt"), "cannot be written: File name too long"),
    "a path that is too long": (named("a/" * 3000 + "there.pt"), "cannot be written: File name too long"),
    "a name too long in bytes": (named("é" * 200 + ".safetensors"), "cannot be written: File name too long"),
    "another ending": (named("there.txt"), "should end in"),
    "no ending": (named("there"), "should end in"),
    "an ending alone": (named(".pt"), "should end in"),
    "an ending in capitals": (named("there.PT"), "should end in"),
    "an ending and a blank": (named("there.pt "), "should end in"),
    "an ending and a line's end": (named("there.pt\n"), "should end in"),
    "no name": (lambda _: Path(), "should end in"),
    "the folder itself": (lambda folder: folder, "should end in"),
    "the folder above": (named(".."), "should end in"),
    "the root": (lambda _: Path("/"), "should end in"),
}


def contents(folder: Path) -> dict[str, Any]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
        if path.name not in (".out", ".err")
    }


@pytest.mark.parametrize(("place", "message"), DESTINATIONS.values(), ids=DESTINATIONS.keys())
def test_a_hostile_destination_is_one_line_and_nothing_changes(
    place: Place, message: str, source: Path, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "former.pt").write_bytes(FORMER)
    there = place(tmp_path)
    before = contents(tmp_path)
    assert message in refused("convert", source, there)
    assert contents(tmp_path) == before


OTHER_NAMES: dict[str, Place] = {
    "itself": lambda path: path,
    "another spelling": lambda path: path.parent / "." / ".." / path.parent.name / path.name,
    "a hard link": lambda path: (os.link(path, path.with_name("link.pt")), path.with_name("link.pt"))[1],
    "a symbolic link": lambda path: linked(path.name)(path.parent),
    "a link to a link": lambda path: linked(linked(path.name, "inner.pt")(path.parent).name)(path.parent),
    "a hard link under another ending": lambda path: (
        os.link(path, path.with_name("link.safetensors")),
        path.with_name("link.safetensors"),
    )[1],
    "a link to its folder": lambda path: linked(path.parent.name, "folder")(path.parent.parent) / path.name,
    "a process's own view of it": lambda path: Path("/proc/self/root") / path.relative_to("/"),
}


@pytest.mark.parametrize("other", OTHER_NAMES.values(), ids=OTHER_NAMES.keys())
def test_the_source_is_never_overwritten_under_any_name(other: Place, source: Path, refused: Any) -> None:
    there, before = other(source), source.read_bytes()
    assert "is the source itself" in refused("convert", source, there)
    assert source.read_bytes() == before
    with pytest.raises(bridge.BridgeError, match="is the source itself"):
        refuse_same(there, [source])


def test_a_name_with_a_zero_byte_is_one_line(source: Path, tmp_path: Path) -> None:
    with pytest.raises(bridge.BridgeError, match="cannot be written"):
        bridge.convert(source, tmp_path / "a\0b.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_written_to_is_left_alone(what: str, source: Path, refused: Any, tmp_path: Path) -> None:
    there = tmp_path / "locked" / "there.pt"
    there.parent.mkdir()
    there.write_bytes(FORMER)
    (there if what == "file" else there.parent).chmod(0o500)
    assert "cannot be written: Permission denied" in refused("convert", source, there)
    there.parent.chmod(0o700)
    assert there.read_bytes() == FORMER


def saved_weight(path: Path) -> np.ndarray:
    return bridge.read(path)["fc/weight"]


def test_a_link_to_a_file_stays_and_that_file_is_replaced(source: Path, bridge_cli: Any, tmp_path: Path) -> None:
    (tmp_path / "shelf").mkdir()
    former, link = tmp_path / "shelf" / "former.pt", tmp_path / "link.pt"
    former.write_bytes(FORMER)
    link.symlink_to("shelf/former.pt")
    assert bridge_cli("convert", source, link).code == 0
    assert link.is_symlink()
    np.testing.assert_array_equal(saved_weight(former), saved_weight(source))
    assert [path.name for path in former.parent.iterdir()] == ["former.pt"]


def test_a_hard_link_to_the_former_file_keeps_it(source: Path, bridge_cli: Any, tmp_path: Path) -> None:
    former, kept = tmp_path / "there.pt", tmp_path / "kept.pt"
    former.write_bytes(FORMER)
    os.link(former, kept)
    assert bridge_cli("convert", source, former).code == 0
    assert kept.read_bytes() == FORMER


@pytest.mark.parametrize("name", ["n" * 252 + ".pt", "é" * 126 + ".pt", "two\nlines \x1b[31m.pt", "-rf.pt", "~.pt"])
def test_any_name_that_the_system_takes_is_written(name: str, source: Path, bridge_cli: Any, tmp_path: Path) -> None:
    answer = bridge_cli("convert", source, tmp_path / name)
    assert (answer.code, answer.err) == (0, "")
    np.testing.assert_array_equal(saved_weight(tmp_path / name), saved_weight(source))


def test_a_new_file_has_the_usual_permissions_and_a_replaced_one_its_own(source: Path, tmp_path: Path) -> None:
    usual, private, there = tmp_path / "usual", tmp_path / "private.pt", tmp_path / "there.pt"
    usual.touch()
    private.touch(0o600)
    bridge.convert(source, there)
    bridge.convert(source, private)
    assert stat.S_IMODE(there.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


class Stop(BaseException):
    """Anything that ends a command before its time: Ctrl-C, say."""


@pytest.mark.parametrize("error", [Stop, OSError, RuntimeError, bridge.BridgeError, MemoryError])
def test_what_is_interrupted_leaves_the_former_file_and_nothing_else(
    error: type[BaseException], tmp_path: Path
) -> None:
    there = tmp_path / "there.pt"
    there.write_bytes(FORMER)

    def interrupted() -> None:
        with replacing(there) as beside:
            beside.write_bytes(b"half")
            raise error

    with pytest.raises(bridge.BridgeError if error is OSError else error):
        interrupted()
    assert contents(tmp_path) == {"there.pt": FORMER}


# Commands in a process of their own that is killed, or may write no more than so many bytes.
PROCESSES = """
import json, os, resource, signal, sys, traceback
from pathlib import Path
import bridge

source, folder = Path(sys.argv[1]), Path(sys.argv[2])
former = (source.parent / "former").read_bytes()
EVENTS = {"open", "os.rename", "os.remove", "os.chmod", "os.link"}

def apart(work):
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except bridge.BridgeError as error:
            print(json.dumps(str(error)), flush=True)
            code = 2
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(step, there):
    count = 0
    def watch(event, arguments):
        nonlocal count
        if event in EVENTS:
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
    real = os.fsync
    def fsync(handle):
        real(handle)
        watch("open", ())
    os.fsync = fsync
    sys.addaudithook(watch)
    bridge.convert(source, there)

def killed(name, whole):
    there, left = folder / name, []
    for step in range(1, 500):
        there.write_bytes(former)
        code = apart(lambda: killed_at(step, there))
        now = there.read_bytes()
        assert now == former or now == whole, (step, len(now))
        assert now == whole or code, step
        for path in folder.iterdir():  # killed between its being whole and its having the name
            assert path == there or path.read_bytes() == whole, path
            left += [path] * (path != there)
            path == there or path.unlink()
        if not code:
            return {"steps": step, "left": len(left)}
        assert code == -signal.SIGKILL, code

def limited(name, most):
    there = folder / name
    there.write_bytes(former)
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        bridge.convert(source, there)
    code = apart(work)
    assert there.read_bytes() == former
    assert [path.name for path in folder.iterdir()] == [name]
    there.unlink()
    return code

results = {}
for name in ("there.pt", "there.safetensors"):
    bridge.convert(source, folder / name)
    whole = (folder / name).read_bytes()
    results[name] = killed(name, whole)
    (folder / name).unlink()
    sizes = {0, 1, 8, 600, len(whole) // 2, len(whole) - 1}
    results[name]["limited"] = [limited(name, size) for size in sorted(sizes)]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[str]]:
    given, folder = tmp_path_factory.mktemp("given"), tmp_path_factory.mktemp("there")
    torch.save({"fc.weight": torch.ones(40, 50), "fc.bias": torch.ones(40)}, given / "source.pt")
    (given / "former").write_bytes(FORMER)
    command = [sys.executable, "-W", "ignore", "-c", PROCESSES, str(given / "source.pt"), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, results = done.stdout.splitlines()
    return json.loads(results), [json.loads(line) for line in lines]


def test_a_process_killed_at_any_step_leaves_the_old_file_or_the_new_one_whole(processes: Any) -> None:
    results, _ = processes
    for name in ("there.pt", "there.safetensors"):
        assert results[name]["steps"] > 5
        assert results[name]["left"] <= 1


def test_a_file_that_grows_beyond_what_the_process_may_write_is_one_line(processes: Any) -> None:
    results, lines = processes
    assert all(result["limited"] == [2] * 6 for result in results.values())
    assert len(lines) == 12
    assert all("cannot be written: " in line and "\n" not in line for line in lines)


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 64 KiB and a few files, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=4", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", ["there.pt", "there.safetensors"])
def test_a_full_disk_is_one_line_and_the_former_file_stays(
    name: str, small_disk: Path, refused: Any, tmp_path: Path
) -> None:
    large = tmp_path / "large.pt"
    torch.save({"fc.weight": torch.ones(200, 200)}, large)
    there = small_disk / name
    there.write_bytes(FORMER)
    assert f"{name} cannot be written: " in refused("convert", large, there)
    assert contents(small_disk) == {name: FORMER}


def test_a_disk_that_takes_no_more_files_is_one_line(small_disk: Path, source: Path, refused: Any) -> None:
    there = small_disk / "there.pt"
    there.write_bytes(FORMER)
    (small_disk / "one").touch()
    (small_disk / "two").touch()
    assert "cannot be written: No space left on device" in refused("convert", source, there)
    assert there.read_bytes() == FORMER
