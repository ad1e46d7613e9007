"""The process that reads HDF5: its crashes, its limits, its end, and what a program that has one may do."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_values import drawn, held

from bridge import BridgeError
from bridge.hdf5 import File, isolation, open_file, process

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def slow(made: Any) -> Path:
    """A small file that takes seconds to describe: 14 doublings of one way through it, each of them legal."""

    def fill(file: h5py.File) -> None:
        group = file.create_group("x")
        for _ in range(13):
            inner = group.create_group("a")
            group["b"], group = inner, inner

    return Path(made(fill, name="slow.h5"))


@pytest.fixture
def fresh() -> Iterator[None]:
    """A test's own server: none before, none after."""
    process.stop()
    yield
    process.stop()


def server() -> int:
    assert process._server is not None
    return process._server.process.pid


def children(parent: int) -> list[int]:
    """The processes that a process has started and that have not ended, from the system."""
    shown = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in shown.splitlines()]
    return [int(pid) for pid, above, state in rows if int(above) == parent and not state.startswith("Z")]


def eventually(condition: Callable[[], object], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def is_busy(pid: int) -> bool:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]) > 15  # hundredths of a second of processor time


def the_busy_one(server: int) -> int:
    """The child that reads, once it has done so for a while."""
    found: list[int] = []
    assert eventually(lambda: found.extend(filter(is_busy, children(server))) or found)
    return found[0]


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")


@linux
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(("number", "message"), [(signal.SIGSEGV, "Segmentation fault"), (signal.SIGKILL, "Killed")])
def test_a_crash_while_reading_is_one_clear_line_and_the_next_file_is_read(
    number: signal.Signals, message: str, slow: Path, made: Any
) -> None:
    good = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    open_file(good)
    own = server()
    with ThreadPoolExecutor(1) as pool:
        reading: Future[File] = pool.submit(open_file, slow)
        first = the_busy_one(own)
        os.kill(first, number)
        assert eventually(lambda: first not in children(own))
        os.kill(the_busy_one(own), number)  # which has read no other file that could be to blame
        with pytest.raises(BridgeError, match=rf"slow\.h5 is damaged: HDF5 crashes on it \({message}"):
            reading.result()
    np.testing.assert_array_equal(held(open_file(good), "x"), drawn("<f4"))
    assert server() == own, "one crash does not take the server down"


@linux
@pytest.mark.usefixtures("fresh")
def test_a_crash_that_an_earlier_file_may_have_caused_is_not_held_against_the_next(slow: Path, made: Any) -> None:
    open_file(made(lambda file: file.create_dataset("x", data=drawn("<f4"))))
    (used,) = children(server())
    with ThreadPoolExecutor(1) as pool:
        reading: Future[File] = pool.submit(open_file, slow)
        assert the_busy_one(server()) == used, "a process that read a sound file reads the next"
        os.kill(used, signal.SIGSEGV)
        assert isinstance(reading.result(), File)


@linux
@pytest.mark.usefixtures("fresh")
def test_a_process_that_refused_a_file_reads_no_other(made: Any) -> None:
    good, bad = (made(lambda file: file.create_dataset("x", data=drawn("<f4")), name=f"{name}.h5") for name in "gb")
    os.truncate(bad, bad.stat().st_size - 100)
    open_file(good)
    (used,) = children(server())
    open_file(good)
    assert children(server()) == [used]
    with pytest.raises(BridgeError, match="truncated"):
        open_file(bad)
    assert eventually(lambda: used not in children(server()))
    open_file(good)


@linux
@pytest.mark.usefixtures("fresh")
def test_a_loop_ends_with_the_time_limit_and_holds_nobody_up(
    slow: Path, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    open_file(good)
    monkeypatch.setattr(isolation, "SECONDS", 4.0)  # enough for a sound file, however busy the machine
    monkeypatch.setattr(isolation, "BUSY", 1)
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        reading: Future[File] = pool.submit(open_file, slow)
        os.kill(the_busy_one(server()), signal.SIGSTOP)  # now it never comes to an end
        np.testing.assert_array_equal(held(open_file(good), "x"), drawn("<f4"))
        assert not reading.done(), "another file was read in the meantime"
        with pytest.raises(BridgeError, match=r"slow\.h5 is damaged: HDF5 comes to no end of it within 4 seconds"):
            reading.result()
        assert time.monotonic() - begun < 60
    assert eventually(lambda: not any(map(is_busy, children(server())))), "what hung has been ended"


@linux
@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("when", ["between two reads", "while reading"])
def test_a_server_that_is_killed_is_replaced(when: str, slow: Path, made: Any) -> None:
    good = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    open_file(good)
    first = server()
    if when == "between two reads":
        os.kill(first, signal.SIGKILL)
        np.testing.assert_array_equal(held(open_file(good), "x"), drawn("<f4"))
    else:
        with ThreadPoolExecutor(1) as pool:
            reading: Future[File] = pool.submit(open_file, slow)
            assert eventually(lambda: any(map(is_busy, children(first))))
            busy = children(first)
            for each in (first, *busy):
                os.kill(each, signal.SIGKILL)
            assert isinstance(reading.result(), File)
    assert server() != first
    assert not Path(f"/proc/{first}").exists(), "it has been waited for"


@linux
@pytest.mark.usefixtures("fresh")
def test_what_is_given_up_is_ended(slow: Path) -> None:
    """An interrupt in the middle of a read closes the socket, and that ends the process behind it."""
    script = f"""
        import signal, sys
        from bridge.hdf5 import open_file, process
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell has it ignored
        print(process._running().process.pid, flush=True)
        try:
            open_file({str(slow)!r})
        except KeyboardInterrupt:
            print("given up", flush=True)
        sys.stdin.read()
    """
    with started(script) as program:
        assert program.stdout is not None
        own = int(program.stdout.readline())
        busy = the_busy_one(own)
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "given up\n"
        assert eventually(lambda: busy not in children(own), 2)
        program.communicate("", timeout=30)
    assert program.returncode == 0


# Programs that read HDF5 and nothing else: PyTorch takes seconds to import.
LEAN = """
import sys, types
package, preprocessing = types.ModuleType("bridge"), types.ModuleType("bridge.preprocessing")
package.__path__, preprocessing.Preprocessing, preprocessing.recognise = ["bridge"], None, None
sys.modules |= {"bridge": package, "bridge.preprocessing": preprocessing}
"""


def started(script: str, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-c", LEAN + textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


def ran(script: str, *options: str) -> list[str]:
    """The words that a program printed, which ends well and complains of nothing."""
    with started(script, *options) as program:
        out, err = program.communicate("", timeout=60)
    assert (program.returncode, err) == (0, "")
    return out.split()


@linux
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_no_process_outlives_the_program(end: str, made: Any) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    script = f"""
        import os, signal, sys
        from bridge.hdf5 import open_file, process
        open_file({str(path)!r})
        print(process._server.process.pid, flush=True)
        {end}
    """
    with started(script) as program:
        out, err = program.communicate("", timeout=60)
    assert err == ""
    assert program.returncode == (-signal.SIGKILL if "SIGKILL" in end else 0)
    assert eventually(lambda: not Path(f"/proc/{int(out)}").exists())
    assert children(int(out)) == []


@linux
def test_a_program_that_is_killed_while_it_reads_leaves_nothing_behind(slow: Path) -> None:
    script = f"""
        import threading
        from bridge.hdf5 import open_file, process
        process._running()
        print(process._server.process.pid, flush=True)
        open_file({str(slow)!r})
    """
    with started(script) as program:
        assert program.stdout is not None
        own = int(program.stdout.readline())
        assert eventually(lambda: any(map(is_busy, children(own))))
        busy = children(own)
        program.kill()
        program.communicate()
    assert eventually(lambda: not any(Path(f"/proc/{each}").exists() for each in (own, *busy)), 3)


def test_a_forked_child_reads_with_a_server_of_its_own_and_so_does_its_parent(made: Any) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("x", data=drawn("<f4"), compression="gzip")

    path = made(fill)
    words = ran(f"""
        import os, sys
        from bridge.hdf5 import open_file, process
        file = open_file({str(path)!r})
        child = os.fork()
        print(file.array(file.root.datasets["x"]).sum(), process._server.process.pid, flush=True)
        if child:
            assert os.waitpid(child, 0)[1] == 0
            print(file.array(open_file({str(path)!r}).root.datasets["x"]).sum(), process._server.process.pid)
        sys.exit(0)
    """)
    sums, servers = words[::2], words[1::2]
    assert set(sums) == {str(drawn("<f4").sum())}
    assert len(sums) == 3
    assert len(set(servers)) == 2


def test_a_program_with_signals_of_its_own_and_a_module_called_worker_reads(made: Any, tmp_path: Path) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    (tmp_path / "worker.py").write_text("raise SystemExit('another module of that name')")
    assert ran(f"""
        import os, signal, sys, time
        sys.path.insert(0, {str(tmp_path)!r})
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        from bridge.hdf5 import open_file, process
        open_file({str(path)!r})
        os.kill(process._server.process.pid, signal.SIGKILL)
        time.sleep(0.2)
        print(open_file({str(path)!r}).root.datasets["x"].shape)
    """) == ["(7,", "5)"]


def test_a_script_without_a_main_guard_reads(made: Any, tmp_path: Path) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"import bridge\nfrom bridge.hdf5 import open_file\nprint(open_file({str(path)!r}).root.datasets['x'].shape)\n"
    )
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "(7, 5)\n", "")


def test_threads_read_at_the_same_time(made: Any) -> None:
    paths = [
        made(lambda file, n=n: file.create_dataset("x", data=drawn("<f4") * n, compression="gzip"), name=f"{n}.h5")
        for n in range(8)
    ]
    with ThreadPoolExecutor(8) as pool:
        for n, array in enumerate(pool.map(lambda path: held(open_file(path), "x"), paths)):
            np.testing.assert_array_equal(array, drawn("<f4") * n)


@pytest.mark.usefixtures("fresh")
def test_where_processes_cannot_fork_each_request_has_one(
    made: Any, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(file: h5py.File) -> None:
        file["plain"] = drawn("<f4")
        file.create_dataset("packed", data=drawn(">f8"), compression="gzip")

    path = made(fill)
    monkeypatch.setattr(process, "CAN_FORK", False)
    file = open_file(path)
    assert file.root == open_file(path, isolated=False).root
    np.testing.assert_array_equal(held(file, "plain"), drawn("<f4"))
    np.testing.assert_array_equal(held(file, "packed"), drawn(">f8"))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(BridgeError, match="is damaged"):
        open_file(path)
    monkeypatch.setattr(isolation, "SECONDS", 0.1)
    monkeypatch.setattr(isolation, "BUSY", 1)
    monkeypatch.setattr(process, "SECONDS_TO_START", 0.3)
    with pytest.raises(BridgeError, match=r"slow\.h5 is damaged: HDF5 comes to no end"):
        open_file(slow)
    assert process._server is None


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("kind", ["no interpreter", "a frozen program", "no such interpreter", "no h5py"])
def test_a_process_that_cannot_be_started_is_one_line_with_the_way_out(
    kind: str, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4")))
    if kind == "a frozen program":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif kind == "no h5py":
        monkeypatch.setattr(sys, "path", [each for each in sys.path if "site-packages" not in each])
    else:
        monkeypatch.setattr(sys, "executable", None if kind == "no interpreter" else "/no/such/python")
    with pytest.raises(BridgeError) as caught:
        open_file(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ")
    assert "\n" not in str(caught.value)
    assert kind == "no such interpreter" or "isolated=False" in str(caught.value)
    assert held(open_file(path, isolated=False), "x").shape == (7, 5)


def test_reading_in_this_process_starts_no_other(made: Any) -> None:
    path = made(lambda file: file.create_dataset("x", data=drawn("<f4"), compression="gzip"))
    assert ran(f"""
        from bridge.hdf5 import open_file, process
        file = open_file({str(path)!r}, isolated=False)
        print(file.array(file.root.datasets["x"]).shape, process._server)
    """) == ["(7,", "5)", "None"]


def test_nothing_of_hdf5_reaches_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 8)
    assert ran(f"""
        from bridge.hdf5 import open_file
        from bridge.errors import BridgeError
        for isolated in (True, False):
            try:
                open_file({str(tmp_path / "broken.h5")!r}, isolated=isolated)
            except BridgeError:
                print("refused")
    """) == ["refused", "refused"]
