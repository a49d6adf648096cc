"""What a run will keep, told from shapes, and the ways to keep less."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from normbench import create_norm
from normbench.errors import UserError
from normbench.settings.schema import Settings
from normbench.training import memory
from normbench.training.network import create_network
from normbench.training.recompute import draws, recompute

Cell = Callable[..., Settings]
CPU = torch.device("cpu")


def really_kept(settings: Settings) -> int:
    """The same count on real tensors."""
    network = create_network(settings, None).train()
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    images = torch.randn(settings.sgd_batch // settings.accumulate, 3, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss = network(images).logsumexp(1).sum()
    total = sum(size for at, size in kept.items() if at not in own)
    del loss
    return total + 3 * 4 * sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("norm", ["bn", "frn", "sn"])
def test_shapes_tell_what_is_kept(cell: Cell, norm: str) -> None:
    settings = cell(norm=norm, batch=8, workers=4)
    assert memory.needed(settings) == pytest.approx(really_kept(settings), rel=0.02)


def test_what_saves_memory(cell: Cell) -> None:
    whole = memory.needed(cell(batch=8, workers=4))
    assert memory.needed(cell(batch=8, workers=4, accumulate=4)) < 0.35 * whole
    assert memory.needed(cell(batch=8, workers=4, recompute=["stages.*"])) < 0.5 * whole
    assert memory.needed(cell(batch=8, workers=4, precision="bf16")) < 0.6 * whole


def test_the_warning_names_the_way_out(cell: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = cell(batch=8, workers=4)
    assert memory.warning(settings, CPU) is None
    half = memory.needed(cell(batch=8, workers=4, accumulate=2))
    monkeypatch.setattr(memory, "free", lambda device: half)
    assert "accumulate=2 takes 0.0" in str(memory.warning(settings, CPU))
    monkeypatch.setattr(memory, "free", lambda device: 0)
    assert "take recompute=" in str(memory.warning(settings, CPU))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("norm", ["bn", "frn", "sn", "rbn", "bin"])
def test_recomputed_is_the_same(cell: Cell, norm: str, dtype: torch.dtype) -> None:
    """Weights and running statistics after three steps, to the bit; float32 is played from records."""
    ends = []
    for patterns in ([], ["stages.*"]):
        settings = cell(norm=norm, batch=2, workers=2, recompute=patterns)
        network = create_network(settings, torch.Generator().manual_seed(0)).to(dtype).train()
        optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
        numbers = torch.Generator().manual_seed(1)
        for _ in range(3):
            images = torch.randn(4, 3, 16, 16, generator=numbers, dtype=torch.float64).to(dtype)
            optimizer.zero_grad()
            network(images).logsumexp(1).sum().backward()
            optimizer.step()
        ends.append(network.state_dict())
    for name, value in ends[0].items():
        assert torch.equal(ends[1][name], value), name


def test_random_numbers_are_drawn_once() -> None:
    """Also where the name of a module does not say that it draws; ours and torch's plain layers do not."""

    class Noisy(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.rand_like(x)

    gradients = []
    for patterns in ([], ["0"]):
        torch.manual_seed(0)
        network = recompute(torch.nn.Sequential(torch.nn.Sequential(Noisy())), patterns).train()
        x = torch.ones(8, requires_grad=True)
        network(x).square().sum().backward()
        gradients.append(x.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(*gradients)
    assert not draws(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), create_norm("sn", 4)))
    assert draws(torch.nn.Sequential(torch.nn.Dropout2d()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recompute": ["layers.*"]}, r"recompute='layers.\*' names no module; there are .*stages"),
        (
            {"norm": "brn", "recompute": ["stages.*"]},
            "BatchRenorm depends on what its first pass has moved",
        ),
    ],
)
def test_mistakes(cell: Cell, changes: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        create_network(cell(**changes), None)
