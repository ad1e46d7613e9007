"""A small server: each request goes to a child of its own, which may crash or loop, and the server says how it ended.

A request is a message on `control` (the memory and the seconds that the child may take) with descriptors
beside it: a socket for the request itself and its answer, the file, and where to write numbers. The child
answers on that socket, the length first; once it has ended, the four bytes of its exit code follow. A
child is forked before it is needed, so that a request need not wait for it. When the other side of a
socket goes, so does its child; when that of `control` goes, so do all.
"""

from __future__ import annotations

import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import answer
from .content import TOO_MUCH
from .warm import warm_up

ORDER = struct.Struct("QQ")
LENGTH = struct.Struct("Q")
ENDED = struct.Struct("i")


@dataclass
class Children:
    """Those at work, each with the socket of its request, and the one that waits for the next."""

    busy: dict[int, socket.socket] = field(default_factory=dict)
    spare: tuple[int, socket.socket] | None = None


def serve(control: socket.socket) -> None:
    """Pass requests on until the other side has gone; never returns."""
    os.chdir("/")  # where it was started may be unmounted
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    gc.disable()
    gc.freeze()
    children, ours = Children(), (control.fileno(), woken, wake)
    _fork(children, ours)
    while True:
        seen = _ready(control, woken, children)
        if control.fileno() in seen:
            _pass_on(control, children, ours)
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        if _reap(children, seen) and not children.busy and children.spare is None:  # nobody waits
            _fork(children, ours)


def _ready(control: socket.socket, woken: int, children: Children) -> set[int]:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    for channel in children.busy.values():
        poll.register(channel, 0)  # tells only that the other side has gone
    return {descriptor for descriptor, _ in poll.poll()}


def _pass_on(control: socket.socket, children: Children, ours: tuple[int, ...]) -> None:
    order, descriptors, *_ = socket.recv_fds(control, ORDER.size, 3)
    if not order:
        for child in children.busy:
            os.kill(child, signal.SIGKILL)
        os._exit(0)  # which ends the spare one, too
    channel, *files = descriptors
    if children.spare is None:
        _fork(children, ours)
    if children.spare is not None:
        child, line = children.spare
        with suppress(OSError), line:  # it may have been killed, which will be seen
            socket.send_fds(line, [order], descriptors)
        children.busy[child], children.spare = socket.socket(fileno=channel), None
    for file in files:
        os.close(file)


def _reap(children: Children, ready: set[int]) -> bool:
    """Say how the children ended that did, and whether there were such."""
    before = len(children.busy)
    for child, channel in list(children.busy.items()):
        gone = channel.fileno() in ready  # whoever asked
        if gone:
            os.kill(child, signal.SIGKILL)
        ended, status = os.waitpid(child, 0 if gone else os.WNOHANG)  # asking again and again would take its time
        if ended:
            with suppress(OSError), children.busy.pop(child):
                channel.sendall(ENDED.pack(os.waitstatus_to_exitcode(status)))
    if children.spare is not None and os.waitpid(children.spare[0], os.WNOHANG)[0]:  # killed from outside
        children.spare[1].close()
        children.spare = None
    return len(children.busy) < before


def _fork(children: Children, ours: tuple[int, ...]) -> None:
    line, end = socket.socketpair()
    child = os.fork()
    if child:
        end.close()
        children.spare = child, line
        return
    try:
        signal.set_wakeup_fd(-1)
        for descriptor in ours:
            os.close(descriptor)
        for other in (line, *children.busy.values()):
            other.close()
        _work(end)
        os._exit(0)
    finally:
        os._exit(1)


def _work(line: socket.socket) -> None:
    warm_up()
    order, descriptors, *_ = socket.recv_fds(line, ORDER.size, 3)
    if not order:
        return
    channel, file = socket.socket(fileno=descriptors[0]), descriptors[1]
    into = mmap.mmap(descriptors[2], 0) if descriptors[2:] else None
    _limit(*ORDER.unpack(order))
    with channel.makefile("rb") as stream:
        request = json.load(stream)
    try:
        given = _as_json(answer(file, request, into))
    except MemoryError:
        given = _as_json((None, TOO_MUCH))
    channel.sendall(LENGTH.pack(len(given)))
    channel.sendall(given)


def _as_json(value: tuple[Any, str | None]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf8", "replace")


def _limit(memory: int, seconds: int) -> None:
    """Take so much memory and processor time at most, write no file, start no process, leave no core."""
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * mmap.PAGESIZE + memory
    for kind, amount in limits.items():
        most = resource.getrlimit(kind)[1]
        least = amount if most == resource.RLIM_INFINITY else min(amount, most)
        with suppress(OSError, ValueError):  # macOS does not know all of them
            resource.setrlimit(kind, (least, least))
