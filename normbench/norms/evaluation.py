"""By which statistics batch norms evaluate: the running ones, or the input's own mixed into them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from normbench.errors import UserError
from normbench.norms.plane import Moments, combine, pool


class RunningStatistics:
    """What norms with running statistics have in common in evaluation.

    own_weight: the weight of the input's own moments beside the running ones; own_images: the number
    of images over which those are pooled. `evaluation_statistics` sets both.
    """

    own_weight: float = 0.0
    own_images: int = 1

    def tracked(self, moments: Moments) -> Moments:
        """The moments [N, C] that are pooled into the running statistics, from those of the input."""
        return moments

    def set_running(self, mean: Tensor, var: Tensor) -> None:
        """Puts a mean and a biased variance [C] into the place of the running statistics."""
        raise NotImplementedError(f"{type(self).__name__} has no set_running")

    def mixed_with_own(self, running: Moments, moments: Moments | None) -> Moments:
        """`running` [C], or [N, C] with the input's own `moments` in them where they have a weight."""
        if not self.own_weight:
            return running
        if moments is None:
            raise UserError(
                f"{type(self).__name__} evaluates by running statistics alone; use"
                " statistics=running, precise or pooled"
            )
        return combine(running, pool(moments, images=self.own_images), self.own_weight)


@contextmanager
def evaluation_statistics(model: nn.Module, weight: float, images: int = 1) -> Iterator[None]:
    """Within it, batch norms evaluate with the input's own statistics at this weight.

    mean (1 − a)·M + a·m, variance (1 − a)·V + a·v + a(1 − a)(M − m)², with M and V running, m and v
    of each block of `images` images of the input. images=1: example weighing (Summers & Dinneen 2020,
    arXiv 1906.03548). weight=1: the statistics of a test batch alone. UserError for a weight outside
    [0, 1], and where no norm of the model keeps running statistics of this kind.
    """
    if not 0 <= weight <= 1:
        raise UserError(f"weight={weight}: must be from 0 to 1")
    norms = norms_with_running_statistics(model)
    # nothing is traced: each weight would be, for every layer, and then be seen for a few batches
    meanwhile = {"own_weight": weight, "own_images": images, "traceable": False}
    for norm in norms:
        vars(norm).update(meanwhile)
    try:
        yield
    finally:
        for norm in norms:
            for name in meanwhile:
                del vars(norm)[name]


def norms_with_running_statistics(model: nn.Module) -> list[RunningStatistics]:
    """Those of a model, in order. UserError where there is none, or one of another kind."""
    found: list[RunningStatistics] = []
    for module in model.modules():
        names = [name for name, _ in module.named_buffers(recurse=False) if "running" in name]
        if names and isinstance(module, RunningStatistics):
            found.append(module)
        elif names:
            raise UserError(
                f"{type(module).__name__} keeps {names[0]} in a way of its own; it can be evaluated"
                " with statistics=running alone"
            )
    if not found:
        raise UserError(
            "no norm of this network keeps running statistics: statistics=running is all there is"
        )
    return found
