"""A small server: requests go to children, which may crash or loop, and the server says how they ended.

A request is a message on `control` (the memory and the seconds that the child may take, and whether it has
to be one that has read no other file) with descriptors beside it: a socket for the request itself and its
answer, the file, and where to write numbers. The child answers on that socket, the length first; where it
ends before that, the four bytes of its exit code follow. A child is forked before it is needed, so that a
request need not wait for it, and one that read its file without trouble reads the next: a fork takes longer
than a file. When the other side of a socket goes, so does its child; when that of `control` goes, so do all.
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
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from . import answer
from .content import TOO_MUCH
from .warm import warm_up

ORDER = struct.Struct("QQ?")
LENGTH = struct.Struct("Q")
ENDED = struct.Struct("i")
DONE = b"+"
MOST_FILES = 200  # for one child, so that nothing piles up in it


@dataclass
class Child:
    """A process, the line on which it gets orders and says that it is done, and the socket of its request, if any."""

    process: int
    line: socket.socket
    channel: socket.socket | None = None
    used: bool = False


@dataclass
class Children:
    """Those that take orders, those that take no more, and the descriptors that none of them may keep."""

    ours: tuple[int, ...]
    alive: list[Child] = field(default_factory=list)
    leaving: list[int] = field(default_factory=list)

    def free(self, fresh: bool = False) -> Child | None:
        """One that waits for an order; a `fresh` one has had none yet."""
        return next((child for child in self.alive if child.channel is None and not (fresh and child.used)), None)


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
    children = Children((control.fileno(), woken, wake))
    _fork(children)
    while True:
        seen = _ready(control, woken, children)
        with suppress(BlockingIOError):
            os.read(woken, 4096)
        for child in children.alive.copy():
            _see_to(child, seen, children)
        children.leaving = [process for process in children.leaving if not os.waitpid(process, os.WNOHANG)[0]]
        if control.fileno() in seen:
            _pass_on(control, children)
        if not children.alive:  # nobody waits
            _fork(children)


def _ready(control: socket.socket, woken: int, children: Children) -> set[int]:
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    for child in children.alive:
        if child.channel is not None:
            poll.register(child.line, select.POLLIN)
            poll.register(child.channel, 0)  # tells only that the other side has gone
    return {descriptor for descriptor, _ in poll.poll()}


def _pass_on(control: socket.socket, children: Children) -> None:
    order, descriptors, *_ = socket.recv_fds(control, ORDER.size, 3)
    if not order:
        for child in children.alive:
            os.kill(child.process, signal.SIGKILL)
        os._exit(0)
    channel, *files = descriptors
    child = children.free(fresh=ORDER.unpack(order)[2]) or _fork(children)
    with suppress(OSError):  # it may have been killed, which will be seen
        socket.send_fds(child.line, [order], descriptors)
    child.channel, child.used = socket.socket(fileno=channel), True
    for file in files:
        os.close(file)


def _see_to(child: Child, seen: set[int], children: Children) -> None:
    """A child that is done waits for the next order; of one that ended, say how; one that nobody asks is ended."""
    channel = child.channel
    if channel is not None and child.line.fileno() in seen and child.line.recv(1) == DONE:
        channel.close()
        child.channel = None
        if sum(other.channel is None for other in children.alive) > 1:  # several threads asked at once
            child.line.close()  # which it finds once its answer is on its way
            children.alive.remove(child)
            children.leaving.append(child.process)
        return
    gone = channel is not None and channel.fileno() in seen
    if gone:
        os.kill(child.process, signal.SIGKILL)
    ended, status = os.waitpid(child.process, 0 if gone else os.WNOHANG)  # asking again and again would take its time
    if ended:
        children.alive.remove(child)
        child.line.close()
        if channel is not None:
            with suppress(OSError), channel:
                channel.sendall(ENDED.pack(os.waitstatus_to_exitcode(status)))


def _fork(children: Children) -> Child:
    line, end = socket.socketpair()
    process = os.fork()
    if process:
        end.close()
        children.alive.append(Child(process, line))
        return children.alive[-1]
    try:
        signal.set_wakeup_fd(-1)
        for descriptor in children.ours:
            os.close(descriptor)
        line.close()
        for other in children.alive:
            other.line.close()
            if other.channel is not None:
                other.channel.close()
        _work(end)
        os._exit(0)
    finally:
        os._exit(1)


def _work(line: socket.socket) -> None:
    warm_up()
    _forbid()
    for _ in range(MOST_FILES):
        order, descriptors, *_ = socket.recv_fds(line, ORDER.size, 3)
        if not order or not _answered(line, order, descriptors):
            return


def _answered(line: socket.socket, order: bytes, descriptors: list[int]) -> bool:
    """Whether the file was read without trouble."""
    memory, seconds, _ = ORDER.unpack(order)
    _limit(memory, seconds)
    channel = socket.socket(fileno=descriptors[0])
    with ExitStack() as opened:
        opened.callback(channel.close)
        for descriptor in descriptors[1:]:
            opened.callback(os.close, descriptor)
        into = opened.enter_context(mmap.mmap(descriptors[2], 0)) if descriptors[2:] else None
        with channel.makefile("rb") as stream:
            request = json.load(stream)
        try:
            given = answer(descriptors[1], request, into)
        except MemoryError:
            given = None, TOO_MUCH
        text = _as_json(given)
        if given[1] is None:  # before the answer: whoever has got it goes
            line.sendall(DONE)
        with suppress(OSError):
            channel.sendall(LENGTH.pack(len(text)))
            channel.sendall(text)
    return given[1] is None


def _as_json(value: tuple[Any, str | None]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf8", "replace")


def _forbid() -> None:
    """Write no file, start no process, leave no core."""
    for kind in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        with suppress(OSError, ValueError):  # macOS does not know all of them
            resource.setrlimit(kind, (0, 0))


def _limit(memory: int, seconds: int) -> None:
    """Take so much more memory and processor time at most."""
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _lower(resource.RLIMIT_AS, pages * mmap.PAGESIZE + memory)
    _lower(resource.RLIMIT_CPU, ceil(time.process_time() + seconds))


def _lower(kind: int, amount: int) -> None:
    """The hard limit stays, so that the next file gets its own."""
    hard = resource.getrlimit(kind)[1]
    with suppress(OSError, ValueError):
        resource.setrlimit(kind, (amount if hard == resource.RLIM_INFINITY else min(amount, hard), hard))
