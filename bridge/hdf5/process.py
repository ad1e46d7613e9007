"""The process that reads HDF5: started at the first read, asked over a socket, gone with the interpreter."""

from __future__ import annotations

import atexit
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from array import array
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

SECONDS_TO_START = 60.0
LARGEST_ANSWER = 128 << 20
CAN_FORK = hasattr(os, "fork")

_HERE = str(Path(__file__).parent)
_ORDER = struct.Struct("QQ?")
_LENGTH = struct.Struct("Q")
_ENDED = struct.Struct("i")
_QUIET = getattr(socket, "MSG_NOSIGNAL", 0)  # a program may let SIGPIPE end it

# Without `site`, which takes long: the paths are the parent's. Only then comes the folder above the worker.
_BEGIN = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); import h5py; sys.path.insert(0, sys.argv[2]); "
_ONCE = _BEGIN + "from worker.once import once; once(sys.argv[3])"
_SERVE = f"""
import socket, sys
control = socket.socket(fileno=int(sys.argv[3]))
try:
    {_BEGIN}from worker.serve import serve; from worker.warm import warm_up; warm_up()
except BaseException as error:
    control.sendall(repr(error).encode())
else:
    control.sendall(b"+")
    serve(control)
"""
_ENVIRONMENT = {
    "HDF5_PLUGIN_PRELOAD": "::",  # no code from elsewhere for filters that HDF5 does not know
    "OPENBLAS_NUM_THREADS": "1",  # threads that do nothing make a fork slow
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


class NotStarted(Exception):
    """Why there is no process to read HDF5: the end of a sentence."""


@dataclass(frozen=True)
class Order:
    """A request, the descriptors it is about, and what it may take: bytes, seconds of processor time and in all.

    A `fresh` process is one that has read no other file.
    """

    request: bytes
    descriptors: list[int]
    memory: int
    seconds: float
    patience: float
    fresh: bool = False


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    control: socket.socket


_lock = threading.Lock()
_server: _Server | None = None


def asked(order: Order) -> bytes | int | None:
    """The answer, or the exit code of the process that gave none; None where the server itself has gone.

    Raises TimeoutError after the order's patience, and NotStarted.
    """
    if not CAN_FORK:
        return _asked_once(order)
    mine, theirs = socket.socketpair()
    with mine:
        with theirs, _lock:
            server = _running()
            sent = _sent(server, order, theirs)
        given = _received(mine, order) if sent else None
    if given is None:
        with _lock:
            if _server is server:  # no other thread has seen to it
                stop()
    return given


def _sent(server: _Server, order: Order, theirs: socket.socket) -> bool:
    message = _ORDER.pack(order.memory, ceil(order.seconds), order.fresh)
    descriptors = array("i", [theirs.fileno(), *order.descriptors])
    try:  # socket.send_fds loses the flags
        server.control.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)], _QUIET)
    except OSError:
        return False
    return True


def _received(mine: socket.socket, order: Order) -> bytes | int | None:
    end, given = time.monotonic() + order.patience, bytearray()
    with suppress(ConnectionError):  # it did not read all of the request
        mine.settimeout(order.patience)
        mine.sendall(order.request, _QUIET)
        mine.shutdown(socket.SHUT_WR)
    with suppress(ConnectionError):
        while (missing := _missing(given)) and (block := mine.recv(min(missing, 1 << 20))):
            given += block
            mine.settimeout(max(0.001, end - time.monotonic()))
    if not _missing(given):
        return bytes(given[_LENGTH.size :])
    if len(given) < _ENDED.size:
        return None
    code: int = _ENDED.unpack_from(given, len(given) - _ENDED.size)[0]
    return code


def _missing(given: bytearray) -> int:
    """How many bytes are left to come of an answer, which begins with its length."""
    if len(given) < _LENGTH.size:
        return _LENGTH.size - len(given)
    announced: int = _LENGTH.unpack_from(given)[0]
    return max(0, min(announced, LARGEST_ANSWER) + _LENGTH.size - len(given))


def _running() -> _Server:
    global _server
    if _server is None:
        _server = _started()
    return _server


def _started() -> _Server:
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = subprocess.Popen(
                _command(_SERVE, str(theirs.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ENVIRONMENT,
                start_new_session=True,  # an interrupt from the keyboard is for the program, not for its helper
            )
    except BaseException:
        ours.close()
        raise
    server = _Server(process, ours)
    try:
        _wait_for(ours)
    except BaseException:
        _end(server)
        raise
    return server


def _wait_for(ours: socket.socket) -> None:
    ours.settimeout(SECONDS_TO_START)
    try:
        word = ours.recv(4096).decode(errors="replace") or "it ends at once"
    except TimeoutError:
        word = f"it takes more than {SECONDS_TO_START:.0f} seconds"
    ours.settimeout(None)
    if word != "+":
        raise NotStarted(f"the process that reads HDF5 does not start: {word}")


def _asked_once(order: Order) -> bytes | int:
    file, *into = order.descriptors
    command = _command(_ONCE, order.request.decode())
    with _lock:  # processes share the place at which a descriptor is read
        process = subprocess.Popen(
            command,
            stdin=file,
            stdout=into[0] if into else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | _ENVIRONMENT,
        )
        with process:
            try:
                _, given = process.communicate(timeout=order.patience + SECONDS_TO_START)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise TimeoutError from error
    return given if process.returncode == 0 else process.returncode


def _command(program: str, argument: str) -> list[str]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise NotStarted("no Python interpreter is known that could read HDF5 in a process of its own")
    paths = json.dumps([path for path in sys.path if isinstance(path, str)])
    flags = ["-S", "-W", "ignore", *(["-E"] if sys.flags.ignore_environment else [])]
    return [sys.executable, *flags, "-c", program, paths, _HERE, argument]


def stop() -> None:
    """End the server, if there is one; the next read starts another."""
    global _server
    if _server is not None:
        _end(_server)
        _server = None


def _end(server: _Server) -> None:
    server.control.close()  # which tells it
    try:
        server.process.wait(5)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()


def _forget() -> None:
    """In a child of this process: the server is the parent's."""
    global _lock, _server
    if _server is not None:
        _server.control.close()
        _server.process.returncode = 0  # not a process to wait for here
    _lock, _server = threading.Lock(), None


atexit.register(stop)
if CAN_FORK:
    os.register_at_fork(after_in_child=_forget)
