"""One run, from its settings to its record. `epochs` is the loop; the rest is what it stands on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from normbench.data import Dataset, EpochBatches, Feed, FolderDataset, load_dataset, stream
from normbench.errors import FailedError, UserError
from normbench.norms import Norm
from normbench.ops import use
from normbench.record import record
from normbench.record.display import Follower
from normbench.record.evaluations import EVALUATIONS
from normbench.record.record import Metrics, Record, Row
from normbench.settings.cell import Cell
from normbench.settings.schema import Settings
from normbench.training import checkpoint, memory
from normbench.training.channel_means import channel_means
from normbench.training.cuda_graph import NotCapturedError, Replay, captured
from normbench.training.evaluate import (
    EVALUATION_BATCH,
    Accuracy,
    accuracy,
    population_statistics,
)
from normbench.training.network import check, device_of, seeded_network
from normbench.training.optimizer import learning_rate, set_learning_rate
from normbench.training.provenance import (
    device_name,
    git_commit,
    learned,
    peak_memory_mib,
    plain,
    versions,
)
from normbench.training.step import Step
from normbench.training.tensorboard import Board

CHECK_EVERY = 16  # steps between two looks at the loss: a look waits for the device


def run(cell: Cell, display: Follower) -> Record:
    """Trains a cell, or goes on with it, or, where it is done, returns the record it has.

    UserError before anything is written for what cannot work; any other exception is written into
    the record (failed, out_of_memory) and raised. A diverged run is a result like any other.
    """
    settings, folder = cell.settings, cell.folder
    device = device_of(settings)
    if (old := record.read_record(folder)) is not None and old.done:
        display.already_done(cell, old)
        return old
    check(settings)
    data = data_of(settings)
    with alone_in(folder):
        if (old := record.read_record(folder)) is not None and old.done:
            display.already_done(cell, old)  # by another process, a moment ago
            return old
        for stale in (record.RECORD, EVALUATIONS, "error.txt"):
            (folder / stale).unlink(missing_ok=True)
        record.write_settings(cell)
        rows: list[Row] = []
        try:
            with use(settings.ops):
                result = train(cell, data, device, display, rows)
        except Exception as error:
            status: record.Status = "failed"
            full = isinstance(error, torch.OutOfMemoryError | MemoryError)
            if full or "can't allocate memory" in str(error):
                status = "out_of_memory"
            what = " ".join(f"{type(error).__name__}: {error}".split())
            bad = record.record_of(cell, status, rows, error=what)
            record.write_record(folder, bad)
            raise
        record.write_record(folder, result)
    display.finished(cell, result)
    return result


def data_of(settings: Settings) -> Dataset | FolderDataset:
    """The images of a run."""
    data = load_dataset(settings.dataset.name, **settings.dataset.options)
    if data.images < settings.sgd_batch:
        raise UserError(
            f"batch={settings.batch} × workers={settings.workers} = {settings.sgd_batch} images a"
            f" step, but {data.images} can be decoded; lower batch or workers"
        )
    return data


def train(
    cell: Cell,
    data: Dataset | FolderDataset,
    device: torch.device,
    display: Follower,
    rows: list[Row],
) -> Record:
    """Trains from the folder's checkpoint, or from the start, to the end; fills `rows`."""
    settings = cell.settings
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run_ = Run.start(settings, data, device)
    memory.warn(settings, device)
    rows += run_.resume(cell.folder)
    metrics = Metrics(cell.folder, rows)
    status: record.Status = "ok"
    with Board(cell, run_.model, len(rows)) as board:
        display.started(settings, run_.parameters, device, done=len(rows))
        for row in epochs(run_, len(rows), display.step):
            metrics.add(row)
            board.epoch(row)
            display.epoch(row)
            if row["train_loss"] is None or row["test_loss"] is None:
                status = "diverged"
                break
            run_.save(cell.folder, rows)
        result = record.record_of(
            cell,
            status,
            rows,
            parameters=run_.parameters,
            peak_memory_mib=peak_memory_mib(device),
            device=device_name(device),
            versions=versions(),
            git_commit=git_commit(),
            learned=run_.learned(),
        )
        board.end(result)
    return result


def epochs(run: Run, first: int, on_step: Callable[[int, int], None]) -> Iterator[Row]:
    """The loop: from `first` on, one row an epoch; ends after a row whose loss is not finite."""
    settings, step = run.settings, run.step
    for epoch in range(first, settings.epochs):
        run.model.train()
        shown = run.plan(epoch)
        steps = shown.steps(settings.sgd_batch)
        step.begin()
        take = run.stepper(shown)
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
    replay: Replay | None = None  # the step as a CUDA graph, when it has been recorded
    tried: bool = False  # to record it

    @classmethod
    def start(cls, settings: Settings, data: Dataset | FolderDataset, device: torch.device) -> Run:
        """Everything at its first values, images and network on the device."""
        feed = data.on(device, channels_last=settings.channels_last)
        model = seeded_network(settings, device)
        announce(model, settings.epochs * (feed.images // settings.sgd_batch))
        step = Step(model, settings, device)
        return cls(settings, device, model, step, feed)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())

    def plan(self, epoch: int) -> EpochBatches:
        """The images of an epoch in the run's own order, cropped and flipped."""
        return self.feed.epoch(self.settings.seed, epoch, augment=self.settings.augment)

    def stepper(self, shown: EpochBatches) -> Callable[[int], None]:
        """What takes step 0, 1, ... of the epoch: on CUDA a graph, if the step can be recorded."""
        step, size = self.step, self.settings.sgd_batch
        graph = self.settings.cuda_graph and self.device.type == "cuda"
        if graph and not self.tried and self.settings.precision != "fp16":  # its scaler waits
            self.tried = True
            try:
                self.replay = captured(step, shown, size)
            except NotCapturedError as error:
                said = f"normbench: the step runs without a CUDA graph: {error}"
                print(said, file=sys.stderr)
        if (replay := self.replay) is not None:
            return lambda number: replay(shown, number)
        return lambda number: step(*shown.batch(number, size))

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
        if loss is not None:
            test_top1, test_top5, test_loss = self.evaluate(epoch)
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
        }

    def evaluate(self, epoch: int) -> Accuracy:
        """Accuracy on the test images, with the statistics that were chosen."""
        statistics: AbstractContextManager[None] = nullcontext()
        if self.settings.evaluate.statistics == "precise":
            statistics = population_statistics(self.model, self.fresh_batches(epoch))
        with self.step.autocast(), statistics:
            return accuracy(self.model, self.feed.test(EVALUATION_BATCH))

    def learned(self) -> dict[str, dict[str, list[float]]]:
        """What the norms learned, and the means of their channels where that is asked for."""
        found = learned(self.model)
        if self.settings.channel_means:
            images = (some for some, _ in self.feed.test(EVALUATION_BATCH))
            for layer, own in channel_means(self.model, images).items():
                found.setdefault(layer, {}).update(plain(own))
        return found

    def fresh_batches(self, epoch: int) -> Iterator[Tensor]:
        """`evaluate.batches` training batches, of the order that the next epoch will show."""
        size, wanted = self.settings.sgd_batch, self.settings.evaluate.batches
        while wanted > 0:
            epoch += 1
            shown = self.plan(epoch)
            for step in range(min(wanted, shown.steps(size))):
                yield shown.batch(step, size)[0]
            wanted -= shown.steps(size)

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


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes the folder and holds it against other processes that want to train the same cell."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {folder}: {error.strerror}; say another results=…") from None
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise FailedError(f"{folder} is being trained by another process; wait for it") from None
    try:
        yield
    finally:
        lock.release()
