"""What a generated kernel computes of numbers, and where it finds them in memory, as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from math import prod

from normbench.ops.mix.steps import Step

FORMULAS = {
    "copy": "{0}",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "rsqrt": "1.0 / tl.sqrt({0})",
    "sqrt": "tl.sqrt({0})",
    "sigmoid": "1.0 / (1.0 + tl.exp(-{0}))",
    "sigmoid_backward": "{0} * (1.0 - {1}) * {1}",
    "abs": "tl.abs({0})",
    "sign": "tl.where({0} > 0, 1.0, 0.0) - tl.where({0} < 0, 1.0, 0.0)",
    "clamp_min": "tl.where({0} < {1}, {1}, {0})",  # NaN stays
    "lerp": "tl.where({2} < 0.5, {0} + {2} * ({1} - {0}), {1} - (1.0 - {2}) * ({1} - {0}))",
    "where": "tl.where({0} != 0, {1}, {2})",
    "gt": "tl.where({0} > {1}, 1.0, 0.0)",
    "ge": "tl.where({0} >= {1}, 1.0, 0.0)",
}


def formula(step: Step, names: Sequence[str], constants: Mapping[int, float]) -> str:
    """What a step of one number computes."""
    if step.operation != "clamp":
        return FORMULAS[step.operation].format(*names)
    text = names[0]
    for name, operand, way in zip(names[1:], step.operands[2:], "<>", strict=True):
        if math.isfinite(constants.get(operand.storage, 0.0)):
            text = f"tl.where({text} {way} {name}, {name}, {text})"
    return text


def terms(sizes: Sequence[int], strides: Sequence[int], index: str) -> str:
    """Where in memory a number is, from its index in the sizes."""
    whole = [prod(sizes[d + 1 :]) for d in range(len(sizes))]
    if all(
        size == 1 or stride == step
        for size, stride, step in zip(sizes, strides, whole, strict=True)
    ):
        return index
    found = []
    for d, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        if size == 1 or stride == 0:
            continue
        at = index if whole[d] == 1 else f"{index} // {whole[d]}"
        at = at if prod(sizes[:d]) == 1 else f"{at} % {size}"
        found.append(at if stride == 1 else f"{at} * {stride}")
    return " + ".join(found) or f"{index} * 0"


def literal(number: float) -> str:
    return repr(number) if math.isfinite(number) else f"float('{number}')"
