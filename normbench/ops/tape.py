"""What torch does with small tensors, taken down as rows of integers.

`Tape` notes each operation that torch carries out within it: which one, on which numbers of which
storage, with which strides. A view is not an operation: it is another way to the same storage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

# Rows: operation; four sizes; then for the output and three operands the base, the offset in it and
# four strides. Of a sum the first two sizes are kept and the last two summed over.
OPERANDS, DIMS = 4, 4
WIDTH = 1 + DIMS + OPERANDS * (2 + DIMS)
CODES = {name: code for code, name in enumerate((
    "copy", "add", "sub", "mul", "div", "rsqrt", "sqrt", "sigmoid", "sigmoid_backward", "abs", "sign",
    "clamp_min", "clamp", "lerp", "where", "ge", "gt", "sum", "mean", "softmax", "softmax_backward", "count",
    "from_int",
))}  # fmt: skip

SAME = {  # operations of torch that are one row, operands in torch's order
    aten.add.Tensor: "add",
    aten.sub.Tensor: "sub",
    aten.mul.Tensor: "mul",
    aten.mul.Scalar: "mul",
    aten.div.Tensor: "div",
    aten.div.Scalar: "div",
    aten.rsqrt.default: "rsqrt",
    aten.sqrt.default: "sqrt",
    aten.abs.default: "abs",
    aten.sgn.default: "sign",
    aten.sigmoid.default: "sigmoid",
    aten.sigmoid_backward.default: "sigmoid_backward",
    aten.clamp_min.default: "clamp_min",
    aten.ge.Scalar: "ge",
    aten.gt.Scalar: "gt",
    aten.where.self: "where",
    aten.clone.default: "copy",
}
IN_PLACE = {
    aten.add_.Tensor: "add",
    aten.lerp_.Scalar: "lerp",
    aten.lerp_.Tensor: "lerp",
}
ARITHMETIC = ("add", "sub", "mul", "div")  # on truth values it is another arithmetic
FILLED = {aten.ones_like.default: 1.0, aten.zeros_like.default: 0.0}


class UnrecordableError(Exception):
    """The recorded function does something that there is no row for."""


class Operand(NamedTuple):
    storage: int
    offset: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]


class Row(NamedTuple):
    operation: str
    sizes: tuple[int, ...]
    operands: tuple[tuple[int, int, tuple[int, ...]], ...]  # storage, offset, strides; output first

    def writes(self) -> int:
        return self.operands[0][0]

    def reads(self) -> set[int]:
        return {storage for storage, _, _ in self.operands[1:]}


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what torch does within it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rows: list[Row] = []
        self.alive: list[Any] = []  # so that no address is given twice
        self.sizes: dict[int, int] = {}  # numbers in each storage
        self.numbers: dict[int, float] = {}  # storages that are a constant
        self.integers: set[int] = set()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.alive += [args, out]
        self.take_down(func, args, kwargs, out)
        return out

    def take_down(
        self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any
    ) -> None:
        if kwargs.get("alpha", 1) != 1:
            raise UnrecordableError(f"{func} with alpha")
        if func in IN_PLACE and args[0].dtype != torch.int64:
            self.note(IN_PLACE[func], args[0], *args)
        elif func is aten.add_.Tensor:
            self.note("count", args[0], args[1])
        elif func is aten.logical_and_.default and args[0].dtype is args[1].dtype is torch.bool:
            self.note("mul", args[0], *args)
        elif isinstance(out, Tensor) and any(
            isinstance(a, Tensor) and address(a) == address(out) for a in args
        ):
            if not func.is_view and func is not aten._unsafe_view.default:
                raise UnrecordableError(f"{func} writes in place")
        elif isinstance(out, (tuple, list)):
            if not func.is_view:
                raise UnrecordableError(str(func))
        elif func in SAME:
            self.note(SAME[func], out, *args)
        elif func in FILLED:
            self.note("copy", out, FILLED[func])
        elif func is aten.scalar_tensor.default:
            self.note("copy", out, args[0])
        elif func in (aten.le.Scalar, aten.lt.Scalar):
            self.note("ge" if func is aten.le.Scalar else "gt", out, args[1], args[0])
        elif func in (aten.sum.dim_IntList, aten.sum.default, aten.mean.dim, aten.mean.default):
            name = "sum" if func in (aten.sum.dim_IntList, aten.sum.default) else "mean"
            self.reduce(name, out, args[0], args[1] if len(args) > 1 else None)
        elif func is aten.logical_and.default and args[0].dtype is args[1].dtype is torch.bool:
            self.note("mul", out, *args)
        elif func is aten.neg.default:
            self.note("mul", out, args[0], -1.0)
        elif func is aten.reciprocal.default:
            self.note("div", out, 1.0, args[0])
        elif func is aten.rsub.Scalar and len(args) == 2:
            self.note("sub", out, args[1], args[0])
        elif func is aten.pow.Tensor_Scalar and args[1] in range(5):
            self.note("copy", out, args[0] if args[1] else 1.0)
            for _ in range(int(args[1]) - 1):
                self.note("mul", out, out, args[0])
        elif func in (aten.clamp.default, aten.clamp.Tensor):
            low, high = (*args[1:], None, None)[:2]
            self.note(
                "clamp", out, args[0],
                -math.inf if low is None else low, math.inf if high is None else high,
            )  # fmt: skip
        elif func is aten._softmax.default and is_row(args[0]):
            self.note("softmax", out, args[0])
        elif func is aten._softmax_backward_data.default and is_row(args[0]) and is_row(args[1]):
            self.note("softmax_backward", out, args[0], args[1])
        elif func is aten.stack.default and not any(args[1:]):
            for part, value in zip(out, args[0], strict=True):
                self.note("copy", part, value)
        else:
            raise UnrecordableError(str(func))

    def operand(self, value: Any) -> Operand:
        if isinstance(value, (int, float)):
            tensor = torch.tensor(float(value), dtype=torch.float32, device="cpu")
            self.alive.append(tensor)
            self.numbers[address(tensor)] = float(value)
            return Operand(address(tensor), 0, (), ())
        if not isinstance(value, Tensor) or not value.is_cpu:
            raise UnrecordableError(f"an operand {value!r}")
        if value.dtype == torch.int64:
            number = torch.empty(value.shape, dtype=torch.float32, device="cpu")
            self.alive.append(number)
            self.elementwise("from_int", [self.storage(number), self.storage(value)])
            return self.storage(number)
        return self.storage(value)

    def storage(self, value: Tensor) -> Operand:
        """Where a tensor lies; numbers are counted alike for every dtype."""
        if value.dtype not in (torch.float32, torch.bool, torch.int64):
            raise UnrecordableError(f"{value.dtype} is not float32")
        place = address(value)
        if value.dtype == torch.int64:
            self.integers.add(place)
        self.sizes[place] = value.untyped_storage().nbytes() // value.element_size()
        return Operand(place, int(value.storage_offset()), tuple(value.shape), value.stride())

    def note(self, operation: str, out: Tensor, *operands: Any) -> None:
        flags = [isinstance(t, Tensor) and t.dtype is torch.bool for t in operands]
        if any(flags) and operation in ARITHMETIC and not (operation == "mul" and all(flags)):
            raise UnrecordableError(f"{operation} of truth values")
        self.elementwise(operation, [self.storage(out), *map(self.operand, operands)])

    def elementwise(self, operation: str, operands: list[Operand]) -> None:
        shape = operands[0].sizes
        if operation in ("add", "mul") and operands[1].sizes != shape:
            operands[1:] = reversed(operands[1:])  # what is repeated comes second
        strides = [spread(operand, shape) for operand in operands]
        sizes, strides = merged(shape, strides)
        self.row(operation, pad(sizes, 1), operands, [pad(some, 0) for some in strides])

    def reduce(self, operation: str, out: Tensor, value: Tensor, dims: list[int] | None) -> None:
        over = {d % value.dim() for d in dims} if dims else set(range(value.dim()))
        kept = [d for d in range(value.dim()) if d not in over]
        same_dims = out.dim() == value.dim()
        to = [out.stride(d if same_dims else i) for i, d in enumerate(kept)]
        sizes: list[int] = []
        strides: tuple[list[int], list[int]] = ([], [])
        for group, out_strides in ((kept, to), (sorted(over), [0] * len(over))):
            some, both = merged(
                tuple(value.shape[d] for d in group),
                [out_strides, [value.stride(d) for d in group]],
            )
            sizes += pad(some, 1, 2)
            for all_of, of_group in zip(strides, both, strict=True):
                all_of += pad(of_group, 0, 2)
        operands = [self.storage(out), self.operand(value)]
        self.row(operation, sizes, operands, list(strides))

    def row(
        self, operation: str, sizes: list[int], operands: list[Operand], strides: list[list[int]]
    ) -> None:
        places = [
            (operand.storage, operand.offset, tuple(some))
            for operand, some in zip(operands, strides, strict=True)
        ]
        self.rows.append(Row(operation, tuple(sizes), tuple(places)))


def is_row(tensor: Tensor) -> bool:
    return tensor.dim() == 1 and tensor.is_contiguous()


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def spread(operand: Operand, shape: tuple[int, ...]) -> list[int]:
    """Its strides along `shape`: 0 where it is repeated."""
    missing = len(shape) - len(operand.sizes)
    own = zip(operand.sizes, operand.strides, strict=True)
    return [0] * missing + [0 if size == 1 else stride for size, stride in own]


def merged(shape: Sequence[int], strides: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """The same walk in as few dimensions as can be."""
    sizes: list[int] = []
    walks: list[list[int]] = [[] for _ in strides]
    for d, size in enumerate(shape):
        if size == 1:
            continue
        steps = [some[d] for some in strides]
        if sizes and all(walk[-1] == step * size for walk, step in zip(walks, steps, strict=True)):
            sizes[-1] *= size
            for walk, step in zip(walks, steps, strict=True):
                walk[-1] = step
        else:
            sizes.append(size)
            for walk, step in zip(walks, steps, strict=True):
                walk.append(step)
    return sizes, walks


def pad(numbers: Sequence[int], by: int, to: int = DIMS) -> list[int]:
    if len(numbers) > to:
        raise UnrecordableError(f"more than {to} dimensions")
    return [by] * (to - len(numbers)) + list(numbers)
