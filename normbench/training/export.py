"""A finished run as a file for other programs: torch.export's .pt2, or ONNX; each is run before it counts."""

from __future__ import annotations

import importlib.util
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from normbench.data import Dataset, dataset_info
from normbench.data.download.catalogue import IMAGENET_MEAN, IMAGENET_STD
from normbench.errors import FailedError, UserError
from normbench.ops import use
from normbench.training.load import Trained, load_run

ABOUT = "normbench.json"  # in a .pt2: what the network is and wants
TOLERANCE = 1e-4  # of the greatest logit, between the network and its file, in float32
KINDS = (".pt2", ".onnx")
TRY = 3  # images that the file is tried with; it was made with two


def export(folder: Path, out: Path, which: Literal["last", "best"] = "last") -> dict[str, Any]:
    """Writes the network of the run in `folder` to `out`, and says what the file wants.

    The file takes float32 [N, 3, H, W] for any N, normalized as its `mean` and `std` say, and gives
    logits [N, classes]. It is read again and run on other images: FailedError, and no file, where it
    does not give what the network gives. UserError for another suffix, or a package that is missing.
    """
    if out.suffix not in KINDS:
        raise UserError(f"out={out}: must end in {' or '.join(KINDS)}")
    if out.suffix == ".onnx":
        needs("onnx", "onnxscript")
    trained = load_run(folder, device="cpu", which=which)
    network = trained.network.float().to(memory_format=torch.contiguous_format)
    about = {**about_run(trained), "weights": which, "run": str(folder)}
    size = about["size"]
    two, others = (torch.randn(n, 3, size, size) for n in (2, TRY))
    aside = out.with_name(f"{out.stem}.{os.getpid()}.tmp{out.suffix}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with use("eager"), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporters, about themselves
            wanted = network(others)
            write, run = WAYS[out.suffix]
            write(network, two, aside, about)
            compare(run(aside, others), wanted, out)
        os.replace(aside, out)
    except OSError as error:
        raise UserError(f"out={out}: {error.strerror or error}") from None
    finally:
        for left in aside.parent.glob(f"{aside.name}*"):  # with what ONNX puts beside it
            left.unlink()
    return about


def needs(*packages: str) -> None:
    """UserError for a package that is not installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"an .onnx file needs {' and '.join(missing)}: pip install normbench[onnx]")


def about_run(trained: Trained) -> dict[str, Any]:
    """The network, its input and how that is normalized: (pixel / 255 - mean) / std."""
    s, data = trained.settings, trained.data
    of_data = (data.mean, data.std) if isinstance(data, Dataset) else (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = ([round(float(v), 6) for v in some] for some in of_data)
    return {
        "model": s.model.label,
        "norm": s.norm_label,
        "dataset": s.dataset.label,
        "classes": data.classes,
        "size": dataset_info(s.dataset.name, s.dataset.options).size,
        "mean": mean,
        "std": std,
    }


def compare(found: Tensor, wanted: Tensor, out: Path) -> None:
    """FailedError where the file gives other numbers than the network."""
    apart = (found - wanted).abs().max().item()
    if not apart <= TOLERANCE * max(1.0, wanted.abs().max().item()):
        raise FailedError(
            f"out={out}: the file's logits are {apart:.2g} from the network's; not kept"
        )


def program_of(network: nn.Module, images: Tensor) -> torch.export.ExportedProgram:
    """The exported program, for any number of images."""
    try:
        return torch.export.export(
            network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False
        )
    except Exception as error:  # torch raises nearly anything for what it cannot trace
        said = " ".join(str(error).split())[:300]
        raise FailedError(f"torch.export cannot trace this network: {said}") from error


def write_pt2(network: nn.Module, images: Tensor, path: Path, about: dict[str, Any]) -> None:
    program = program_of(network, images)
    torch.export.save(program, path, extra_files={ABOUT: json.dumps(about, indent=1)})


def run_pt2(path: Path, images: Tensor) -> Tensor:
    found: Tensor = torch.export.load(path).module()(images)
    return found


def write_onnx(network: nn.Module, images: Tensor, path: Path, about: dict[str, Any]) -> None:
    try:
        made = torch.onnx.export(
            network,
            (images,),
            dynamo=True,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # as torch.export does
        said = " ".join(str(error).split())[:300]
        raise FailedError(f"torch.onnx cannot translate this network: {said}") from error
    assert made is not None
    made.model.metadata_props.update({key: json.dumps(value) for key, value in about.items()})
    made.save(path, external_data=False)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """By onnxruntime where it is installed, else by ONNX's own reference."""
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    else:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    (logits,) = session.run(None, {"images": images.numpy()})
    return torch.from_numpy(logits)


WAYS: dict[str, tuple[Callable[..., None], Callable[[Path, Tensor], Tensor]]] = {
    ".pt2": (write_pt2, run_pt2),
    ".onnx": (write_onnx, run_onnx),
}
