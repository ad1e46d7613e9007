"""A pickle read as data: its plain values come out, and nothing in it is imported or run."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LARGEST = 32 << 20  # bytes; a tensor takes about 200
MOST_STEPS = 1_000_000  # a tensor takes about 40
LONGEST_NUMBER = 32  # bytes; a seed takes 8

STOP = b"."[0]

Call = Callable[..., Any]


class PickleError(ValueError):
    """A pickle that is damaged, or that holds more than plain values and what the reader knows."""


@dataclass(frozen=True)
class Global:
    """What a pickle names without holding it: a class, a function, a type."""

    name: str


@dataclass
class _State:
    """How far reading has come: the place in the bytes, and the values on the stack."""

    data: bytes
    at: int
    calls: Mapping[str, Call]
    persistent: Call
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    left: int = MOST_STEPS

    def spend(self, steps: int) -> None:
        """Count what was done, so that a small file cannot ask for work without end."""
        self.left -= steps
        if self.left < 0:
            raise PickleError(f"it takes more than {MOST_STEPS} steps")

    def code(self) -> int:
        """The next instruction."""
        self.spend(1)
        if self.at >= len(self.data):
            raise PickleError("it breaks off")
        self.at += 1
        return self.data[self.at - 1]

    def bytes(self, length: int) -> bytes:
        """The next bytes."""
        start, self.at = self.at, self.at + length
        if length < 0 or self.at > len(self.data):
            raise PickleError("it breaks off")
        return self.data[start : self.at]

    def number(self, form: struct.Struct) -> Any:
        """The next number, in that form."""
        return form.unpack(self.bytes(form.size))[0]

    def line(self) -> str:
        """The text up to the next end of a line."""
        end = self.data.find(b"\n", self.at, self.at + 1000)
        if end < 0:
            raise PickleError("it breaks off")
        return self.bytes(end + 1 - self.at)[:-1].decode("utf8")

    def above_mark(self) -> list[Any]:
        """Everything that was put on the stack since the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values


def parsed(data: bytes, start: int, calls: Mapping[str, Call], persistent: Call) -> tuple[Any, int]:
    """The value of the pickle that begins at `start`, and where it ends.

    Dictionaries come without the keys that are no text, sets come as lists. `calls` says by name what
    becomes of each function or class that may occur, given its arguments; it is never the real one that
    is called. `persistent` takes what stands for something outside of the pickle. Whatever else the
    pickle names is refused, as are instructions that only Python before 2.3 wrote.
    """
    state = _State(data, start, calls, persistent)
    try:
        while (code := state.code()) != STOP:
            if code not in INSTRUCTIONS:
                raise PickleError(f"{bytes([code])!r} is no instruction of a pickle")
            INSTRUCTIONS[code](state)
        return state.stack.pop(), state.at
    except PickleError:
        raise
    except (LookupError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PickleError("it makes no sense") from error


def _pushes(make: Callable[[_State], Any]) -> Callable[[_State], None]:
    def step(state: _State) -> None:
        state.stack.append(make(state))

    return step


def _sized(form: str, text: str = "") -> Callable[[_State], None]:
    """Bytes or text behind their length."""
    length = struct.Struct(form)

    def read(state: _State) -> Any:
        data = state.bytes(state.number(length))
        return data.decode(text, "surrogatepass" if text == "utf8" else "strict") if text else data

    return _pushes(read)


def _number(form: str) -> Callable[[_State], None]:
    number = struct.Struct(form)
    return _pushes(lambda state: state.number(number))


def _long(form: str) -> Callable[[_State], None]:
    length = struct.Struct(form)

    def read(state: _State) -> int:
        size = state.number(length)
        if size > LONGEST_NUMBER:
            raise PickleError(f"it holds a whole number of {size} bytes")
        return int.from_bytes(state.bytes(size), "little", signed=True)

    return _pushes(read)


def _last(count: int) -> Callable[[_State], None]:
    def step(state: _State) -> None:
        if len(state.stack) < count:
            raise PickleError("it makes no sense")
        state.stack[-count:] = [tuple(state.stack[-count:])]

    return step


def _skips(length: int) -> Callable[[_State], None]:
    def step(state: _State) -> None:
        state.bytes(length)

    return step


def _mark(state: _State) -> None:
    state.marks.append(len(state.stack))


def _put(form: str) -> Callable[[_State], None]:
    place = struct.Struct(form)

    def step(state: _State) -> None:
        state.memo[state.number(place)] = state.stack[-1]

    return step


def _memoize(state: _State) -> None:
    state.memo[len(state.memo)] = state.stack[-1]


def _get(form: str) -> Callable[[_State], None]:
    place = struct.Struct(form)
    return _pushes(lambda state: state.memo[state.number(place)])


def _extend(values: Callable[[_State], list[Any]]) -> Callable[[_State], None]:
    def step(state: _State) -> None:
        added, target = values(state), state.stack[-1]
        if type(target) is not list:
            raise PickleError("it adds to what is no list")
        target.extend(added)

    return step


def _set(values: Callable[[_State], list[Any]]) -> Callable[[_State], None]:
    def step(state: _State) -> None:
        added, target = values(state), state.stack[-1]
        if type(target) is not dict:
            raise PickleError("it adds entries to what is no dictionary")
        target.update(_named(added))

    return step


def _named(values: list[Any]) -> dict[str, Any]:
    # Other keys than text can be made to collide, so that looking them up takes hours.
    return {key: value for key, value in zip(values[::2], values[1::2], strict=True) if type(key) is str}


def _popped(count: int) -> Callable[[_State], list[Any]]:
    return lambda state: [state.stack.pop() for _ in range(count)][::-1]


def _global(state: _State) -> Global:
    return _known(state, f"{state.line()}.{state.line()}")


def _stack_global(state: _State) -> Global:
    module, name = state.stack.pop(-2), state.stack.pop()
    return _known(state, f"{module}.{name}" if type(module) is type(name) is str else "")


def _known(state: _State, name: str) -> Global:
    if name not in state.calls:
        raise PickleError(f"it holds more than tensors and plain values: {name[:80]!r}")
    return Global(name)


def _call(state: _State) -> Any:
    function, arguments = _popped(2)(state)
    state.spend(sum(len(each) for each in arguments if isinstance(each, (list, tuple))))
    return called(state.calls, function, arguments)


def called(calls: Mapping[str, Call], function: Any, arguments: Any) -> Any:
    """What `calls` says becomes of the function with these arguments."""
    if not isinstance(function, Global) or type(arguments) is not tuple:
        raise PickleError("it calls what is no function")
    return calls[function.name](*arguments)


def _build(state: _State) -> None:
    """An object's attributes; nothing here has any that matter (a state dict has notes on its modules)."""
    state.stack.pop()
    if not state.stack:
        raise PickleError("it makes no sense")


_BY_BYTE: Mapping[bytes, Callable[[_State], None]] = {
    b"\x80": _skips(1),  # which protocol
    b"\x95": _skips(8),  # how many bytes belong together
    b"N": _pushes(lambda _: None),
    b"\x88": _pushes(lambda _: True),
    b"\x89": _pushes(lambda _: False),
    b")": _pushes(lambda _: ()),
    b"]": _pushes(lambda _: []),
    b"}": _pushes(lambda _: {}),
    b"\x8f": _pushes(lambda _: []),  # a set
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"J": _number("<i"),
    b"G": _number(">d"),
    b"\x8a": _long("<B"),
    b"\x8b": _long("<i"),
    b"X": _sized("<I", "utf8"),
    b"\x8c": _sized("<B", "utf8"),
    b"\x8d": _sized("<Q", "utf8"),
    b"U": _sized("<B", "latin1"),  # text of Python 2
    b"T": _sized("<i", "latin1"),
    b"C": _sized("<B"),
    b"B": _sized("<I"),
    b"\x8e": _sized("<Q"),
    b"\x96": _sized("<Q"),
    b"(": _mark,
    b"t": _pushes(lambda state: tuple(state.above_mark())),
    b"l": _pushes(lambda state: state.above_mark()),
    b"d": _pushes(lambda state: _named(state.above_mark())),
    b"\x91": _pushes(lambda state: state.above_mark()),  # a frozen set
    b"\x85": _last(1),
    b"\x86": _last(2),
    b"\x87": _last(3),
    b"a": _extend(_popped(1)),
    b"e": _extend(_State.above_mark),
    b"\x90": _extend(_State.above_mark),
    b"s": _set(_popped(2)),
    b"u": _set(_State.above_mark),
    b"q": _put("<B"),
    b"r": _put("<I"),
    b"\x94": _memoize,
    b"h": _get("<B"),
    b"j": _get("<I"),
    b"c": _pushes(_global),
    b"\x93": _pushes(_stack_global),
    b"R": _pushes(_call),
    b"\x81": _pushes(_call),
    b"b": _build,
    b"Q": _pushes(lambda state: state.persistent(state.stack.pop())),
}
INSTRUCTIONS = {byte[0]: step for byte, step in _BY_BYTE.items()}
