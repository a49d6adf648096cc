"""`normbench bench`: what is measured, from the words of the command line to tables and CSV files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from normbench.bench import arguments as args
from normbench.bench import growth, layers, step, study, table
from normbench.bench.peers import PEERS
from normbench.bench.timing import keep_freed_memory
from normbench.errors import UserError, did_you_mean
from normbench.norms import NORMS
from normbench.ops import BACKENDS
from normbench.settings.cell import Cell
from normbench.training.network import device_named

Compose = Callable[[list[str]], Cell]  # the cell of `normbench train WORDS`

HELP = """\
normbench bench layers [key=value ...]   every norm, forward and backward, against BatchNorm2d + ReLU
normbench bench step [key=value ...]     a step of training in its parts, and on the layers of others
normbench bench study [key=value ...]    a small study, 1, 2, ... cells at a time
normbench bench growth [key=value ...]   time of an image by batch, workers, depth and resolution
normbench bench all [device=cuda]        all four

  of all      device=auto  rounds=15  out=results/bench
  of layers   norms=bn,ln,...  shapes=32x64x32x32,2x16x32x32  layouts=nchw,channels_last
              dtypes=fp32  backends=auto,eager  peers=torch,plain (timm)
  of step     peers=plain (torch, timm), and every setting of normbench train: norm=frn batch=2
  of study    jobs=1,2  seeds=1, and every setting of normbench train
A ratio is one of medians in one run, in which the contenders took turns. CSV files go to out=.
"""

COMMON: dict[str, args.Reader] = {
    "rounds": args.number,
    "out": lambda key, text: Path(text),
    "device": lambda key, text: args.some_of(("auto", "cpu", "cuda"))(key, text)[0],
}
LAYERS: dict[str, args.Reader] = COMMON | {
    "norms": args.some_of(NORMS),
    "shapes": args.shapes,
    "layouts": args.some_of(layers.LAYOUTS),
    "dtypes": args.some_of(layers.DTYPES),
    "backends": args.some_of(BACKENDS),
    "peers": args.some_of(PEERS, or_none=True),
}
SHAPES = {"cpu": "32x64x32x32,2x16x32x32", "cuda": "256x64x64x64,32x64x32x32,2x16x32x32"}


def run(arguments: list[str], compose: Compose) -> int:
    """The command; the exit code."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return 0
    what, *rest = arguments
    keep_freed_memory()
    if what == "all":
        _, others = args.read(rest, COMMON)
        args.nothing_else("all", others, COMMON)
        for one in PARTS.values():
            one(rest, compose)
        return 0
    if what not in PARTS:
        hint = did_you_mean(what, PARTS) or f"; there are {', '.join([*PARTS, 'all'])}"
        raise UserError(f"normbench bench has no {what!r}{hint}")
    PARTS[what](rest, compose)
    return 0


def bench_layers(words: list[str], compose: Compose) -> None:
    values, rest = args.read(words, LAYERS)
    args.nothing_else("layers", rest, LAYERS)
    device = device_named(values.get("device", "auto"))
    cuda = device.type == "cuda"
    request = layers.Request(
        norms=values.get("norms", tuple(NORMS)),
        shapes=values.get("shapes") or args.shapes("shapes", SHAPES[device.type]),
        layouts=values.get("layouts", tuple(layers.LAYOUTS)),
        dtypes=values.get("dtypes", ("fp32", "bf16") if cuda else ("fp32",)),
        backends=values.get("backends", ("auto", "eager")),
        peers=values.get("peers", ("torch", "plain")),
        device=device,
        rounds=values.get("rounds", 15),
    )
    rows = []
    for some in layers.measure(request):
        table.show(f"{some[0].shape} {some[0].dtype}, {request.rounds} rounds", some)
        rows += some
    table.write(out(values, "layers", device), rows, device, request.rounds)


def out(values: dict[str, Any], what: str, device: torch.device) -> Path:
    folder: Path = values.get("out", Path("results/bench"))
    return folder / f"{what}-{device.type}.csv"


def bench_step(words: list[str], compose: Compose) -> None:
    values, settings = args.read(words, COMMON | {"peers": args.some_of(PEERS, or_none=True)})
    device, rounds = device_named(values.get("device", "auto")), values.get("rounds", 15)
    asked = [settings] if settings else STEPS
    cells = [compose([*some, f"device={device.type}"]).settings for some in asked]
    peers = values.get("peers", ("plain",))
    for cell in cells:
        step.refuse(cell, peers)  # before the first is measured
    rows: list[step.Row] = []
    for some, cell in zip(asked, cells, strict=True):
        new = step.measure(cell, peers, rounds)
        table.show(" ".join(some), new)
        rows += new
    table.write(out(values, "step", device), rows, device, rounds)


STEPS = [  # what the goals of speed are about: small batches, and the usual one
    f"model=resnet20 norm={norm} batch={batch} workers={workers}".split()
    for norm in ("bn", "frn")
    for batch, workers in ((2, 1), (2, 64), (128, 1))
]


def bench_study(words: list[str], compose: Compose) -> None:
    own = COMMON | {"jobs": args.numbers, "seeds": args.number}
    values, settings = args.read(words, own)
    device = device_named(values.get("device", "auto"))
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    jobs = values.get("jobs", (1, 2, 4, 8) if gpus else (1, 2))
    words = [f"device={device.type}", "epochs=2", *settings]
    rows = list(study.measure(compose, words, jobs, gpus, values.get("seeds", 1)))
    table.show(" ".join(words), rows)
    table.write(out(values, "study", device), rows, device, 1)


def bench_growth(words: list[str], compose: Compose) -> None:
    values, rest = args.read(words, COMMON)
    args.nothing_else("growth", rest, COMMON)
    device, rounds = device_named(values.get("device", "auto")), values.get("rounds", 7)
    rows: list[growth.Row] = []
    for some in growth.measure(device, rounds):
        table.show(f"by {some[0].grows}", some)
        rows += some
    path = out(values, "growth", device)
    table.write(path, rows, device, rounds)
    for kind in ("svg", "png"):
        path.with_suffix(f".{kind}").write_bytes(growth.figure(rows, kind))


PARTS: dict[str, Callable[[list[str], Compose], None]] = {
    "layers": bench_layers,
    "step": bench_step,
    "study": bench_study,
    "growth": bench_growth,
}
