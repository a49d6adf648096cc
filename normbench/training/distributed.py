"""Several processes that compute one run together, on torch's own engine:

    torchrun --nproc-per-node=4 -m normbench train norm=bn batch=2 workers=8

Each rank plays workers / ranks of the workers. With workers=1 the images of the one worker lie on all
ranks, and batch norms pool their moments over these (`norms.spread`). After the backward pass of a step,
one sum over the ranks of gradients, running statistics and counts makes it the step of one process.

This is an all_reduce of one flat tensor and not DistributedDataParallel. DDP takes the buffers of
rank 0, where running statistics here are means over all workers; it would reduce after each part of
`accumulate`; and its wrapper changes the names of a checkpoint. It sends gradients while the backward
pass goes on, which this does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from normbench import machine, signals
from normbench.data import EpochBatches, stream
from normbench.data.feed import Batch
from normbench.errors import FailedError, UserError, divisors
from normbench.norms import Norm, norm_class, per_image
from normbench.settings.schema import Settings

LOOK_EVERY = 4  # steps
PATIENCE = timedelta(
    days=1
)  # rank 0 may decode ImageNet first; torchrun sees that a rank has ended


class LostRankError(FailedError):
    """Another rank cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, of which this one is number `rank`; alone, it is 0 of 1 and sends nothing."""

    rank: int = 0
    count: int = 1

    def share(self, batches: EpochBatches) -> EpochBatches:
        """This rank's part of the epoch: of each step's images, in their order, so many as all have."""
        return batches if self.count == 1 else Share(batches, self)

    def parts(self, settings: Settings) -> int:
        """In how many parts this rank computes its images, so that none has more workers than
        `accumulate` says of the whole step."""
        own = max(1, settings.workers // self.count)
        parts = (n for n in range(1, own + 1) if own % n == 0)
        return next(n for n in parts if n * self.count >= settings.accumulate)

    def dropout(self, seed: int, epoch: int) -> int:
        """The seed of what draws in the forward pass: another one on each rank, whose images differ."""
        purpose = f"dropout {self.rank}" if self.rank else "dropout"
        return stream(seed, purpose, epoch).initial_seed()

    @torch.no_grad()
    def add(self, tensors: Sequence[Tensor], averaged: Sequence[Tensor] = ()) -> None:
        """Puts the sum over the ranks in the place of each tensor, and the mean in that of each of
        `averaged`; the same bits on each rank. One message for each dtype."""
        if self.count == 1:
            return
        for t in averaged:
            t.div_(self.count)
        for dtype in dict.fromkeys(t.dtype for t in [*tensors, *averaged]):
            some = [t for t in [*tensors, *averaged] if t.dtype == dtype]
            flat = torch.cat([t.reshape(-1) for t in some])
            with found_together():
                dist.all_reduce(flat)
            totals = torch.split(flat, [t.numel() for t in some])
            for t, total in zip(some, totals, strict=True):
                t.copy_(total.view_as(t))

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Puts the mean over the ranks in the place of each tensor."""
        self.add((), averaged=tensors)

    def tell(self, what: Any = None) -> Any:
        """What rank 0 says, on every rank."""
        said = [what]
        if self.count > 1:
            with found_together():
                dist.broadcast_object_list(said, device=torch.device("cpu"))
        return said[0]

    def gather(self, own: Tensor) -> Tensor:
        """See `norms.spread.Spread`."""
        every: Tensor = _Gather.apply(own, self)
        return every

    def own(self, of_all: Tensor) -> Tensor:
        """See `norms.spread.Spread`."""
        return of_all.chunk(self.count)[self.rank]


ALONE = Ranks()


class LookTogether:
    """Called after each step: every so often the ranks ask each other whether a signal has asked one
    of them to stop; then each raises Stopped after the same step."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.steps = ranks, 0

    def __call__(self) -> None:
        self.steps += 1
        if self.steps % LOOK_EVERY == 0:
            number = torch.tensor(signals.number())
            with found_together():
                dist.all_reduce(number, dist.ReduceOp.MAX)
            if number:
                raise signals.Stopped(int(number))


class Share(EpochBatches):
    """The part of an epoch's batches that one rank has: of equal size for all, in the order of ranks."""

    def __init__(self, batches: EpochBatches, ranks: Ranks) -> None:
        self.batches, self.ranks = batches, ranks
        batches.stride = ranks.count

    def steps(self, size: int) -> int:
        return self.batches.steps(size * self.ranks.count)

    def batch(self, step: int, size: int) -> Batch:
        self.check_step(step, size)
        return self.batches.batch(step * self.ranks.count + self.ranks.rank, size)


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        every = own.new_empty(ranks.count * len(own), *own.shape[1:])
        with found_together():
            dist.all_gather_into_tensor(every, own.contiguous())
        return every

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        g = g.clone(memory_format=torch.contiguous_format)
        ctx.ranks.add([g])
        return ctx.ranks.own(g), None


@contextmanager
def found_together() -> Iterator[None]:
    """LostRankError where torch cannot reach a rank."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        what = str(error).splitlines()[0]
        raise LostRankError(
            f"another rank of this run has ended or cannot be reached ({what}); the same command goes"
            " on from the last checkpoint"
        ) from error


@contextmanager
def together() -> Iterator[Ranks]:
    """The ranks that torchrun started with this one, joined until its end; else this process alone."""
    if machine.ranks() == 1:
        yield ALONE
        return
    cuda = torch.cuda.is_available()
    if cuda:  # what "cuda" means from now on
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    with found_together():
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def spread(model: nn.Module, settings: Settings, ranks: Ranks) -> None:
    """Has the norms pool over all ranks, where the images of one worker lie on these."""
    if is_spread(settings, ranks.count):
        for module in model.modules():
            if isinstance(module, Norm) and module.spreadable:
                module.spread = ranks
                vars(module)["traceable"] = False  # what is traced sends nothing


def is_spread(settings: Settings, count: int) -> bool:
    """Whether so many ranks have each a part of the images over which a norm pools."""
    norm = settings.norm
    by_itself = settings.norm_stages is None and per_image(norm.name, norm.options)
    return count > 1 and settings.workers == 1 and not by_itself


def check_devices(device: torch.device) -> None:
    """UserError where there are more ranks than GPUs for them on this machine."""
    here = machine.ranks_here()
    if device.type == "cuda" and here > torch.cuda.device_count():
        raise UserError(
            f"{here} ranks, but torch sees {torch.cuda.device_count()} CUDA devices: each rank takes"
            " one; start fewer, or say device=cpu"
        )


def check_ranks(settings: Settings, count: int) -> None:
    """UserError where the images of a step cannot be shared out among so many ranks."""
    workers, batch = settings.workers, settings.batch
    if workers > 1 and workers % count:
        raise UserError(
            f"workers={workers} cannot be shared out among {count} ranks; there may be"
            f" {divisors(workers)}, or any that divides the images with sync_bn=true"
        )
    if workers == 1 and batch % count:
        raise UserError(
            f"batch={batch}: the images of the one worker cannot be shared out among {count} ranks;"
            f" there may be {divisors(batch)}"
        )
    norm = norm_class(settings.norm.name, settings.norm.options.get("target"))
    if is_spread(settings, count) and not getattr(norm, "spreadable", False):
        raise UserError(
            f"norm={settings.norm.label} cannot pool over {count} ranks the images of one worker; take"
            " workers that the ranks divide, or one process"
        )
