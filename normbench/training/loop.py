"""The loop: `epochs` trains, epoch by epoch; `Run` is what it holds in its hands."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from normbench.data import Dataset, EpochBatches, Feed, FolderDataset, stream
from normbench.errors import UserError
from normbench.norms import Norm
from normbench.record.record import Row
from normbench.settings.schema import Settings
from normbench.training import checkpoint
from normbench.training.channel_means import channel_means
from normbench.training.computing import Note, no_graph, say_nothing
from normbench.training.cuda_graph import NotCapturedError, Replay, captured
from normbench.training.evaluate import (
    Accuracy,
    accuracy,
    evaluation_batch,
    population_statistics,
)
from normbench.training.network import seeded_network
from normbench.training.optimizer import learning_rate, set_learning_rate
from normbench.training.provenance import learned, plain
from normbench.training.step import Step

CHECK_EVERY = 16  # steps between two looks at the loss: a look waits for the device


def epochs(run: Run, first: int, on_step: Callable[[int, int], None]) -> Iterator[Row]:
    """The loop: from `first` on, one row an epoch; ends after a row whose loss is not finite."""
    settings, step = run.settings, run.step
    for epoch in range(first, settings.epochs):
        run.model.train()
        batches = run.plan(epoch)
        steps = batches.steps(settings.sgd_batch)
        step.begin()
        take = run.stepper(batches)
        torch.manual_seed(stream(settings.seed, "dropout", epoch).initial_seed())
        start = time.perf_counter()
        for done in range(1, steps + 1):
            rate = learning_rate(settings, epoch + done / steps)
            set_learning_rate(step.optimizer, rate)
            take(done - 1)
            if done % CHECK_EVERY == 0 or done == steps:
                if not math.isfinite(step.loss_sum.item()):
                    yield run.row(epoch, rate, None, None, start, done)
                    return
                on_step(done, steps)
        loss, top1 = step.loss_sum / steps, 100 * step.correct / (steps * settings.sgd_batch)
        yield run.row(epoch, rate, loss.item(), top1.item(), start, steps)


@dataclass
class Run:
    """What the loop holds in its hands."""

    settings: Settings
    device: torch.device
    model: nn.Module
    step: Step
    feed: Feed
    note: Note = say_nothing  # tells a line to whoever follows the run
    replay: Replay | None = None  # the step as a CUDA graph
    graph: str = ""  # whether there is one: "yes", or "no: " and why; empty before the first step

    @classmethod
    def start(
        cls,
        settings: Settings,
        data: Dataset | FolderDataset,
        device: torch.device,
        note: Note = say_nothing,
    ) -> Run:
        """Everything at its first values, images and network on the device."""
        feed = data.on(device, channels_last=settings.channels_last)
        model = seeded_network(settings, device, note)
        announce(model, settings.epochs * (feed.images // settings.sgd_batch))
        step = Step(model, settings, device)
        return cls(settings, device, model, step, feed, note)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    @property
    def test_batch(self) -> int:
        """Test images that are evaluated at a time, at most."""
        return evaluation_batch(self.device, self.feed.size)

    def plan(self, epoch: int) -> EpochBatches:
        """The images of an epoch in the run's own order, cropped and flipped."""
        return self.feed.epoch(self.settings.seed, epoch, augment=self.settings.augment)

    def stepper(self, batches: EpochBatches) -> Callable[[int], None]:
        """What takes step 0, 1, ... of the epoch: on CUDA a graph, if the step can be captured."""
        step, size = self.step, self.settings.sgd_batch
        if not self.graph:
            why_not = no_graph(self.settings, self.device)
            self.graph = f"no: {why_not}" if why_not else self.capture(batches)
        if (replay := self.replay) is not None:
            return lambda number: replay(batches, number)
        return lambda number: step(*batches.batch(number, size))

    def capture(self, batches: EpochBatches) -> str:
        """Captures the step, and returns `graph`. UserError where cuda_graph=true and it cannot be."""
        try:
            self.replay = captured(self.step, batches, self.settings.sgd_batch)
        except NotCapturedError as error:
            if self.settings.cuda_graph is True:
                raise UserError(
                    f"cuda_graph=true: the step cannot be captured ({error}); use cuda_graph=auto"
                ) from None
            self.note(f"the step runs without a CUDA graph: {error}")
            return f"no: {error}"
        return "yes"

    def row(
        self,
        epoch: int,
        rate: float,
        loss: float | None,
        top1: float | None,
        start: float,
        steps: int,
    ) -> Row:
        """The line of an epoch; evaluates, unless training diverged (loss None)."""
        seconds = time.perf_counter() - start
        test_top1 = test_top5 = test_loss = None
        by_domain = dict.fromkeys(self.feed.test_domains, None)
        if loss is not None:
            (test_top1, test_top5, test_loss), by_domain = self.evaluate(epoch)
        return {
            "epoch": epoch + 1,
            "lr": rate,
            "train_loss": loss,
            "train_top1_percent": top1,
            "test_top1_percent": test_top1,
            "test_top5_percent": test_top5,
            "test_loss": test_loss if test_loss is None or math.isfinite(test_loss) else None,
            "train_seconds": seconds,
            "images_per_second": steps * self.settings.sgd_batch / seconds,
            **{f"test_top1_percent.{name}": top1 for name, top1 in by_domain.items()},
        }

    def evaluate(self, epoch: int) -> tuple[Accuracy, dict[str, float | None]]:
        """Accuracy on the test images, with the statistics that were chosen; top-1 in each domain."""
        right: list[Tensor] = []
        statistics: AbstractContextManager[None] = nullcontext()
        if self.settings.evaluate.statistics == "precise":
            statistics = population_statistics(self.model, self.fresh_batches(epoch))
        with self.step.autocast(), statistics:
            found = accuracy(self.model, self.feed.test(self.test_batch), right)
        domains = self.feed.test_domains.items()
        return found, {
            name: 100 * torch.cat(right)[at].float().mean().item() for name, at in domains
        }

    def learned(self) -> dict[str, dict[str, list[float]]]:
        """What the norms learned, and the means of their channels where that is asked for."""
        by_layer = learned(self.model)
        if self.settings.channel_means:
            images = (pixels for pixels, _ in self.feed.test(self.test_batch))
            for layer, means in channel_means(self.model, images).items():
                by_layer.setdefault(layer, {}).update(plain(means))
        return by_layer

    def fresh_batches(self, epoch: int) -> Iterator[Tensor]:
        """`evaluate.batches` training batches, of the order that the next epoch will show."""
        size, wanted = self.settings.sgd_batch, self.settings.evaluate.batches
        while wanted > 0:
            epoch += 1
            batches = self.plan(epoch)
            for step in range(min(wanted, batches.steps(size))):
                yield batches.batch(step, size)[0]
            wanted -= batches.steps(size)

    def save(self, folder: Path, rows: list[Row]) -> None:
        """Writes the checkpoint after the last of `rows`."""
        checkpoint.save(folder, {"rows": rows, **self.step.state()})

    def resume(self, folder: Path) -> list[Row]:
        """Goes back to the folder's checkpoint; returns the rows of the epochs that it has seen."""
        state = checkpoint.load(folder, self.device)
        if state is None:
            return []
        self.step.load(state)
        return list(state["rows"])


def announce(model: nn.Module, steps: int) -> None:
    """Tells every norm over how many SGD steps it will be trained."""
    for module in model.modules():
        if isinstance(module, Norm):
            module.schedule(steps)
