"""What torch does with small tensors, traced as steps between places in memory.

`Trace` sees each operation that torch carries out within it: which one, on which numbers of which
storage, with which strides. A view is not an operation: it is another way to the same storage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from normbench.ops.mix.lowering import ARITHMETIC, LOWERED
from normbench.ops.mix.steps import (
    DIMS,
    Operand,
    Step,
    UntraceableError,
    address,
    merged,
    padded,
    spread,
)

aten = torch.ops.aten


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects, in `steps`, what torch does within it. Raises UntraceableError where it cannot.

    A storage is known by its address. lengths: the numbers in each; constants: those that hold one
    number that is known now; integers: those of int64.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.lengths: dict[int, int] = {}
        self.constants: dict[int, float] = {}
        self.integers: set[int] = set()
        self.alive: list[Any] = []  # so that no address is given twice

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
        if kwargs.get("alpha", 1) != 1:
            raise UntraceableError(f"{func} with alpha")
        lower = LOWERED.get(func)
        if lower is not None:
            lower(self, out, *args)
        elif not func.is_view and func is not aten._unsafe_view.default:
            raise UntraceableError(str(func))
        return out

    def storage(self, value: Tensor) -> int:
        """The storage of a tensor; its numbers are counted alike for every dtype."""
        if not value.is_cpu or value.dtype not in (torch.float32, torch.bool, torch.int64):
            raise UntraceableError(f"a tensor of {value.dtype} on {value.device}")
        place = address(value)
        if value.dtype == torch.int64:
            self.integers.add(place)
        self.lengths[place] = value.untyped_storage().nbytes() // value.element_size()
        return place

    def constant(self, number: float) -> Tensor:
        tensor = torch.tensor(float(number), dtype=torch.float32, device="cpu")
        self.alive.append(tensor)
        self.constants[address(tensor)] = float(number)
        return tensor

    def operand(self, value: Any) -> Tensor:
        """A number or a tensor as a tensor of float32 or of truth values."""
        if isinstance(value, (int, float)):
            return self.constant(value)
        if not isinstance(value, Tensor):
            raise UntraceableError(f"an operand {value!r}")
        if value.dtype != torch.int64:
            return value
        number = torch.empty(value.shape, dtype=torch.float32, device="cpu")
        self.alive.append(number)
        self.elementwise("from_int", [number, value])
        return number

    def add(self, operation: str, out: Tensor, *values: Any) -> None:
        """A step that treats each number of `out` by itself; the values are broadcast to it."""
        truth = [isinstance(v, Tensor) and v.dtype is torch.bool for v in values]
        if any(truth) and operation in ARITHMETIC and not (operation == "mul" and all(truth)):
            raise UntraceableError(f"{operation} of truth values")
        operands = [self.operand(value) for value in values]
        if operation in ("add", "mul") and operands[0].shape != out.shape:
            operands.reverse()  # what is repeated comes second
        self.elementwise(operation, [out, *operands])

    def elementwise(self, operation: str, tensors: list[Tensor]) -> None:
        strides = [spread(t.shape, t.stride(), tensors[0].dim()) for t in tensors]
        sizes, strides = merged(tensors[0].shape, strides)
        self.append(operation, padded(sizes, 1), tensors, [padded(some, 0) for some in strides])

    def reduce(self, operation: str, out: Tensor, value: Tensor, dims: Sequence[int]) -> None:
        """A sum or mean of `value` over some of its dimensions (none said: over all)."""
        over = {d % value.dim() for d in dims} if dims else set(range(value.dim()))
        kept = [d for d in range(value.dim()) if d not in over]
        same_dims = out.dim() == value.dim()
        to = [out.stride(d if same_dims else i) for i, d in enumerate(kept)]
        sizes: list[int] = []
        strides: tuple[list[int], list[int]] = ([], [])
        for group, out_strides in ((kept, to), (sorted(over), [0] * len(over))):
            shape = [value.shape[d] for d in group]
            some, both = merged(shape, [out_strides, [value.stride(d) for d in group]])
            sizes += padded(some, 1, DIMS // 2)
            for all_of, of_group in zip(strides, both, strict=True):
                all_of += padded(of_group, 0, DIMS // 2)
        self.append(operation, sizes, [out, self.operand(value)], list(strides))

    def append(
        self, operation: str, sizes: list[int], tensors: list[Tensor], strides: list[list[int]]
    ) -> None:
        if max(len(sizes), *map(len, strides)) > DIMS:
            raise UntraceableError(f"more than {DIMS} dimensions")
        operands = [
            Operand(self.storage(t), int(t.storage_offset()), tuple(some))
            for t, some in zip(tensors, strides, strict=True)
        ]
        self.steps.append(Step(operation, tuple(sizes), tuple(operands)))
