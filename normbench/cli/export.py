"""`normbench export RUN out=FILE`: the trained network as a file for other programs."""

from __future__ import annotations

from pathlib import Path

from normbench.errors import UserError
from normbench.words import Words, one_of

HELP = """\
normbench export RUN out=model.pt2 [which=last]    the trained network as a file for other programs

  out    model.pt2: of torch.export, read by torch.export.load; model.onnx: ONNX (needs normbench[onnx])
  which  last: the weights after the last epoch; best: of the best one. Default last
The file takes float32 images [N, 3, H, W], normalized as it is said at the end, and gives logits. It is
read again and run before it is kept.
"""
WORDS = Words("export", keys={"out": Path, "which": one_of(("last", "best"))}, alone=Path)


def main(arguments: list[str]) -> int:
    """The command; its exit code."""
    given = WORDS.read(arguments)
    if len(given.alone) != 1 or "out" not in given.values:
        raise UserError("normbench export needs one run and a file: RUN out=model.pt2")
    from normbench.training.export import export

    out = given.values["out"]
    about = export(given.alone[0], out, given.values.get("which", "last"))
    size = about["size"]
    mean, std = (", ".join(f"{v:.4f}" for v in about[key]) for key in ("mean", "std"))
    print(f"{about['model']} with {about['norm']}, {about['weights']} weights, written to {out}")
    print(f"  takes  images [N, 3, {size}, {size}], (pixel / 255 - mean) / std of red, green, blue")
    print(f"  mean   {mean}\n  std    {std}")
    print(f"  gives  logits [N, {about['classes']}] of {about['dataset']}")
    return 0
