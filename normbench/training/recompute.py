"""Activation checkpointing: modules whose activations are computed again in the backward pass.

Chen et al. 2016, arXiv 1604.06174: memory for time, at the price of one more forward pass of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from normbench.errors import UserError
from normbench.norms.base import Norm
from normbench.norms.tracking import without_tracking


def recompute(model: nn.Module, patterns: Sequence[str]) -> nn.Module:
    """The same model, which keeps of every module that a pattern names only its input.

    patterns: names of modules as `named_modules` has them, `*` for anything: `stages.*`. A module in
    one that is named already is left to it. The gradients are those of before.
    UserError for a pattern that names none, and for a norm whose second pass would differ.
    """
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            outer = sorted({name.split(".")[0] for name in names})
            raise UserError(
                f"recompute={pattern!r} names no module; there are {', '.join(outer)} and what is in"
                f" them, such as '{outer[0]}.*'"
            )
    done: list[str] = []
    for name, module in model.named_modules():
        named = any(fnmatchcase(name, pattern) for pattern in patterns)
        if not name or not named or any(name.startswith(f"{outer}.") for outer in done):
            continue
        for inner in module.modules():
            if isinstance(inner, Norm) and not inner.repeatable:
                raise UserError(
                    f"recompute={name!r}: {type(inner).__name__} depends on what its first pass has"
                    " moved, and its second would differ; use accumulate=… to save memory"
                )
        done.append(name)
        module.forward = again(module)
    return model


def draws(module: nn.Module) -> bool:
    """Whether its forward may use random numbers, which its second pass then has to repeat."""
    kinds = {type(inner) for inner in module.modules()}
    quiet = ("normbench.", "torch.nn.modules.")
    return any(
        not kind.__module__.startswith(quiet) or "Drop" in kind.__name__ or kind is nn.RReLU
        for kind in kinds
    )


def again(module: nn.Module) -> Callable[..., Any]:
    """The module's forward under a checkpoint. The second pass tracks no running statistics."""
    forward = module.forward
    random = draws(module)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), without_tracking()

    def run(*inputs: Any, **named: Any) -> Any:
        if not module.training:
            return forward(*inputs, **named)
        return checkpoint(
            functools.partial(forward, **named),
            *inputs,
            use_reentrant=False,
            context_fn=contexts,
            preserve_rng_state=random,
        )

    return run
