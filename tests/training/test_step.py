"""A step in parts is the same step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from normbench.errors import UserError
from normbench.settings.schema import Settings
from normbench.training.network import create_network
from normbench.training.optimizer import set_learning_rate
from normbench.training.step import Step

Cell = Callable[..., Settings]
CPU = torch.device("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "sn", "frn", "rbn", "bin", "brn", "ln"])
def test_four_parts_of_eight_workers_leave_what_one_leaves(cell: Cell, norm: str) -> None:
    """Weights and running statistics after ten steps, in float64."""
    ends = []
    for parts in (1, 4):
        settings = cell(norm=norm, batch=2, workers=8, accumulate=parts)
        network = create_network(settings, torch.Generator().manual_seed(0)).double()
        step = Step(network, settings, CPU)
        numbers = torch.Generator().manual_seed(1)
        for _ in range(10):
            images = torch.randn(16, 3, 16, 16, generator=numbers, dtype=torch.float64)
            labels = torch.randint(0, 10, (16,), generator=numbers)
            set_learning_rate(step.optimizer, 0.05)
            step(images, labels)
        ends.append((network.state_dict(), step.loss_sum, step.correct))
    (whole, *sums), (in_parts, *same_sums) = ends
    for name, value in whole.items():
        torch.testing.assert_close(in_parts[name], value, rtol=1e-12, atol=1e-12, msg=name)
    torch.testing.assert_close(sums, same_sums)


def test_workers_stay_whole(cell: Cell) -> None:
    with pytest.raises(UserError, match=r"accumulate=3 does not divide workers=8.*1, 2, 4, 8"):
        cell(batch=2, workers=8, accumulate=3)


def test_begin_forgets(cell: Cell) -> None:
    settings = cell()
    step = Step(create_network(settings, None), settings, CPU)
    set_learning_rate(step.optimizer, 0.1)
    step(torch.randn(16, 3, 16, 16), torch.zeros(16, dtype=torch.int64))
    assert step.loss_sum > 0
    step.begin()
    assert step.loss_sum == 0 and step.correct == 0
