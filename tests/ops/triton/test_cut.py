"""How the steps of a norm are shared out to programs, which needs neither a GPU nor Triton."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from normbench import create_norm
from normbench.ops.mix.program import Program, program_of
from normbench.ops.triton import cut
from normbench.ops.triton.cut import Part, parts_of
from normbench.ops.triton.fused import Kernels
from normbench.ops.triton.loops import loops

N, C = 64, 32


def program(name: str, n: int = N, **options: Any) -> Program:
    norm: Any = create_norm(name, C, activation="auto", **{"images": 4} | options)
    bound = "tau" if name == "frn" else None
    return program_of(norm, type(norm).map_of, (n, C), 9, bound)


def parts(name: str, n: int = N, **options: Any) -> tuple[list[Part], list[Part]]:
    made = Kernels(program(name, n, **options), (n, C))
    return made.forward.parts, made.backward.parts


def counts(some: list[Part]) -> list[int]:
    return [part.count for part in some]


def test_batch_norms_are_cut_by_channels_and_layer_norms_by_images() -> None:
    """The gradients of a layer norm's weights by channels, beside p and q by images."""
    for name in ("bn", "frn", "in", "bin", "rbn", "none"):
        assert [counts(some) for some in parts(name)] == [[C], [C]], name
    for name, options in (("ln", {}), ("gn", {"groups": 4}), ("lfrn", {})):
        assert [counts(some) for some in parts(name, **options)] == [[N], [N, C]], name


def test_what_joins_images_and_channels_is_one_program() -> None:
    assert [counts(some) for some in parts("sn")] == [[1], [1]]
    cumulative = parts("bn", momentum=None)[0]  # reads the counter that a program changes
    assert counts(cumulative) == [1]


def test_small_batches_are_one_program() -> None:
    for name in ("bn", "ln"):
        assert [counts(some) for some in parts(name, n=4)] == [[1], [1]]


def test_every_program_has_its_labels() -> None:
    (part,), _ = parts("bn")
    assert part.programs * part.block >= C
    assert part.block >= cut.SECTOR


def test_a_loop_hands_on_only_what_is_its_own() -> None:
    """Within a loop each storage is read and written along one way, and sums are by themselves."""
    for name in ("bn", "ln", "sn", "rbn", "frn"):
        one = program(name)
        for steps in (one.forward, one.backward):
            for some, _ in loops(Part(steps, [None] * len(steps))):
                assert len(some) == 1 or not {"sum", "mean"} & {step.operation for step in some}
                for written in {step.writes() for step in some}:
                    ways = {o for step in some for o in step.operands if o.storage == written}
                    assert len(ways) == 1


def test_labels_that_meet_are_no_cut() -> None:
    """A sum over channels cannot be cut by channels, and a permutation of images not by images."""
    one = program("ln")
    own = set(one.own.values())
    assert cut.cut(one.forward, (N, C), 1, one.lengths, own) is None
    assert cut.cut(one.forward, (N, C), 0, one.lengths, own) is not None
    assert cut.period(torch.arange(8).flip(0).numpy(), 8) is None
    assert [cut.period(torch.arange(24).numpy() // d % 4, 4) for d in (1, 2, 3, 6)] == [1, 2, 3, 6]


def test_both_passes_of_a_cut_program_are_all_of_it() -> None:
    one = program("gn", groups=4)
    own = set(one.own.values())
    results = [[one.ends["p"], one.ends["q"]], list(one.gradients.values())]
    found = parts_of(one.backward, (N, C), one.lengths, own, results)
    assert {step for part in found for step in part.steps} == set(one.backward)


@pytest.mark.parametrize("name", ["bn", "sn"])
def test_the_text_says_the_same_twice(name: str) -> None:
    """So that Triton finds its compiled kernel again, in another process too."""
    first, second = (Kernels(program(name), (N, C)) for _ in range(2))
    assert first.forward.text == second.forward.text
    assert first.backward.text == second.backward.text
    assert first.forward.text.count("@triton.jit") == 2
