"""What torch.save puts into a pickle: state dicts whose tensors say which stored numbers they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..source import Shape
from .pickles import Call, Global, PickleError, called, parsed
from .places import MOST_NUMBERS, TYPES, is_shape, itemsize


@dataclass(frozen=True)
class Storage:
    """Numbers that lie in the file under `key`; several tensors may show them.

    `each` takes so many bytes, all of them `size`; `start` and `end` bound the bytes that are meant.
    """

    key: str
    dtype: str | None
    each: int
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class View:
    """A tensor: which numbers of a storage it shows. `offset` and `strides` count numbers.

    `unreadable` says what it is instead, where it is no dense tensor of numbers, and how to make it one.
    """

    storage: Storage | None
    dtype: str
    shape: Shape
    offset: int = 0
    strides: Shape = ()
    unreadable: str = ""

    @property
    def in_a_row(self) -> bool:
        """Whether the numbers lie one behind the other, the last axis first."""
        expected = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != expected:
                return False
            expected *= size
        return True


def read(data: bytes, start: int = 0) -> tuple[Any, int, dict[str, Storage]]:
    """The content of a pickle of torch.save's, its tensors as `View`s; where it ends; and its storages by key."""
    storages: dict[str, Storage] = {}

    def remember(reference: Any) -> Storage:
        storage = _storage(reference)
        if storages.setdefault(storage.key, storage).size != storage.size:
            raise PickleError("it says two sizes of one storage")
        return storage

    content, end = parsed(data, start, CALLS, remember)
    return content, end, storages


def _storage(reference: Any) -> Storage:
    """What stands in a pickle for a storage: ("storage", type, key, device, length), in old files also a part."""
    if type(reference) is not tuple or reference[0] != "storage":
        raise PickleError("it holds more than tensors and plain values: a whole module")
    _, kind, key, _, length, *part = reference
    if not isinstance(kind, Global) or kind.name not in STORAGES or type(key) is not str:
        raise PickleError("it names a storage of an unknown type")
    dtype = STORAGES[kind.name]
    each = itemsize(dtype) if dtype in TYPES else 4 if dtype == "qint32" else 1
    size = _whole(length) * each
    first, count = (part[0][1], part[0][2]) if part and part[0] else (0, length)
    start, end = _whole(first) * each, (_whole(first) + _whole(count)) * each
    if end > size:
        raise PickleError("it shows more of a storage than that has")
    return Storage(key, dtype, each, size, start, end)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> View:
    """A tensor of its storage's type. `more`: whether it takes gradients, its hooks, and in new files its notes."""
    metadata = more[2] if len(more) > 2 else None
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise PickleError("it holds a tensor without numbers")
    return _view(storage, storage.dtype, offset, size, stride, metadata)


def _typed_tensor(storage: Any, offset: Any, size: Any, stride: Any, *more: Any) -> View:
    """A tensor of a type that storages do not know: it comes after the hooks."""
    dtype, metadata = more[2], more[3] if len(more) > 3 else None
    if not isinstance(storage, Storage) or not isinstance(dtype, Global):
        raise PickleError("it holds a tensor without numbers")
    return _view(storage, dtype.name.removeprefix("torch."), offset, size, stride, metadata)


def _view(storage: Storage, dtype: str, offset: Any, size: Any, stride: Any, metadata: Any) -> View:
    shape, first = _shape(size), _whole(offset)
    if type(stride) is not tuple or len(stride) != len(shape):
        raise PickleError("it holds a tensor with a step too many or too few")
    strides = tuple(map(_whole, stride))
    if dtype not in TYPES:
        return View(None, dtype, shape, unreadable=f"a tensor of {dtype}. Save it as float32")
    if metadata:
        return View(None, dtype, shape, unreadable="a conjugated or negated view. Save what it shows, its clone()")
    last = first + sum((length - 1) * step for length, step in zip(shape, strides, strict=True))
    if 0 not in shape and (last + 1) * itemsize(dtype) > storage.end - storage.start:
        raise PickleError(f"a tensor {shape} reaches past the {storage.end - storage.start} bytes it is stored in")
    return View(storage, dtype, shape, first, strides)


def _with_attributes(function: Any, kind: Any, arguments: Any, _: Any) -> Any:
    if kind not in (Global("torch.Tensor"), Global("torch.nn.parameter.Parameter")):
        raise PickleError("it holds more than tensors and plain values: a tensor of a class of its own")
    if not isinstance(function, Global) or not function.name.startswith("torch._utils._rebuild_"):
        raise PickleError("it makes no sense")
    return called(CALLS, function, arguments)


def _sparse(_: Any, data: Any) -> View:
    """The shape is the only tuple, behind two or three tensors."""
    shape = next((part for part in data[:4] if type(part) is tuple), ())
    return _other("a sparse tensor. Save it dense, its to_dense()", shape)


def _quantised(_: Any, __: Any, size: Any, *___: Any) -> View:
    return _other("a quantised tensor. Save it as numbers, its dequantize()", size)


def _meta(_: Any, size: Any, *__: Any) -> View:
    return _other("a meta tensor, which has no numbers. Save the one that has them", size)


def _other(what: str, shape: Any) -> View:
    return View(None, what.split()[1], _shape(shape), unreadable=what)


def _shape(value: Any) -> Shape:
    if type(value) is not tuple or not is_shape(value):
        raise PickleError("it holds a tensor of a shape that none can have")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MOST_NUMBERS:
        raise PickleError("it gives a size that is none")
    return value


def _dictionary(entries: Any = (), *_: Any) -> dict[str, Any]:
    """An OrderedDict, empty or, as Python 2 wrote it, of pairs; a Counter of counts."""
    if isinstance(entries, dict):
        return entries
    return {pair[0]: pair[1] for pair in entries if len(pair) == 2 and type(pair[0]) is str}


def _nothing(*_: Any) -> None:
    """A value that no weights depend on."""


STORAGES: Mapping[str, str | None] = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": "float64",
        "Float": "float32",
        "Half": "float16",
        "BFloat16": "bfloat16",
        "Long": "int64",
        "Int": "int32",
        "Short": "int16",
        "Char": "int8",
        "Byte": "uint8",
        "Bool": "bool",
        "ComplexFloat": "complex64",
        "ComplexDouble": "complex128",
        "QInt8": "qint8",
        "QUInt8": "quint8",
        "QInt32": "qint32",
        "Untyped": None,
    }.items()
} | {"torch.storage.UntypedStorage": None}

_VALUES = "set frozenset bytearray complex bytes".split()
_PLAIN = ["torch.device", "torch.serialization._get_layout", "_codecs.encode"]
_DTYPES = [*TYPES, *"complex32 qint8 quint8 qint32 float4_e2m1fn_x2".split()]
_SCHEMES = [f"per_{what}" for what in ("tensor_affine", "tensor_symmetric", "channel_affine", "channel_symmetric")]

CALLS: Mapping[str, Call] = {
    "collections.OrderedDict": _dictionary,
    "collections.Counter": _dictionary,
    "torch.Size": lambda size=(): size,
    "torch.Tensor": _nothing,  # only as the class of a tensor
    "torch.nn.parameter.Parameter": lambda data=None, *_: data,
    "torch._utils._rebuild_parameter": lambda data, *_: data,
    "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._tensor._rebuild_from_type_v2": _with_attributes,
    "torch._utils._rebuild_sparse_tensor": _sparse,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._utils._rebuild_meta_tensor_no_storage": _meta,
    **dict.fromkeys((*STORAGES, *_PLAIN, *(f"torch.{each}" for each in (*_DTYPES, *_SCHEMES))), _nothing),
    **dict.fromkeys((f"{module}.{each}" for module in ("builtins", "__builtin__") for each in _VALUES), _nothing),
}
