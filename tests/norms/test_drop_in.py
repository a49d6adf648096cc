"""A norm where other people's code puts a layer of torch: each use in `USES`, tried with every norm."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, grad, jacrev, jvp, vmap

from normbench import create_norm
from normbench.errors import UserError
from normbench.norms.activation import Activation
from normbench.norms.tracking import without_tracking

from ..cases import each
from .table import CHANNELS, ROWS, Row, close, gradients, images, perturbed, state_of
from .textbook import ACTIVATIONS

MODES = (True, False)  # training, evaluation


def lived(row: Row, training: bool, **options: Any) -> nn.Module:
    return perturbed(row.create(**{"activation": "relu", **options})).train(training)


def penalty(y: Tensor, x: Tensor, others: list[Tensor]) -> list[Tensor]:
    """‖∂L/∂x‖² and its gradients, of a weighted sum L of squares: a gradient penalty."""
    weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view_as(y)
    (gx,) = torch.autograd.grad((weights * y.square()).sum(), x, create_graph=True)
    size = gx.square().sum()
    found = torch.autograd.grad(size, [x, *others], allow_unused=True)
    return [size, *(torch.zeros_like(t) if g is None else g
                    for g, t in zip(found, [x, *others], strict=True))]  # fmt: skip


def second_derivatives(row: Row) -> None:
    """Those of the textbook in float64; in float32, where kernels compute the outputs, the same."""
    for training in MODES:
        norm, x = lived(row, training), images(n=2, height=2, width=2).requires_grad_()
        single = copy.deepcopy(norm).float()
        state = state_of(norm)
        expected = penalty(
            ACTIVATIONS["relu"](row.reference(x, state, training), state), x,
            [state[name] for name, _ in norm.named_parameters()],
        )  # fmt: skip
        ours = penalty(norm(x), x, list(norm.parameters()))
        if (
            row.norm != "mabn" or not training
        ):  # whose gradient is no derivative, nor its derivative
            close(ours, expected, max(row.tolerance, 1e-7))
        x = x.detach().float().requires_grad_()
        y = single(x)
        kept = [b.clone() for b in single.buffers()]
        for one, other in zip(penalty(y, x, list(single.parameters())), ours, strict=True):
            largest = other.abs().max().clamp_min(1).float()
            close(one / largest, other.float() / largest, 2e-3)
        if row.norm != "mabn":  # whose backward pass has a memory
            close(list(single.buffers()), kept, tolerance=0)


def torch_func(row: Row) -> None:
    """grad, jacrev and jvp agree with autograd; in evaluation vmap does as the batch."""
    for training in MODES:
        norm, x = lived(row, training), images(n=2, height=2, width=2)
        parameters: dict[str, Tensor] = dict(norm.named_parameters())

        def loss(parameters: dict[str, Tensor], x: Tensor, norm: nn.Module = norm) -> Tensor:
            return functional_call(norm, parameters, (x,)).square().sum()

        with without_tracking():
            if parameters:
                own = torch.autograd.grad(loss(parameters, x), list(parameters.values()))
                close(list(grad(loss)(parameters, x).values()), list(own))
            if row.norm != "mabn" or not training:  # whose backward pass is no derivative
                tangent = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
                by_rows = (jacrev(norm)(x) * tangent).sum((4, 5, 6, 7))
                close(jvp(norm, (x,), (tangent,))[1], by_rows, 1e-7)
        if not training:
            close(vmap(lambda one, norm=norm: norm(one[None])[0])(x), norm(x))


def torch_fx(row: Row) -> None:
    """A leaf, as torch's own layers are; a module that is no `Norm` is traced as any other."""
    if row.name == "own-module":
        return
    norm = perturbed(row.create(activation="auto" if "tlu" in row.activations else "relu"))
    conv, joint = nn.Conv2d(CHANNELS, CHANNELS, 1).double(), Activation(CHANNELS, "tlu").double()
    net = nn.Sequential(conv, norm, joint)
    traced = fx.symbolic_trace(net)
    calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert calls == ["0", "1", "2"]
    for mode in MODES:
        ours, theirs = copy.deepcopy(net).train(mode), copy.deepcopy(traced).train(mode)
        close(theirs(images()), ours(images()), tolerance=0)


def no_images(row: Row) -> None:
    """In evaluation they come back, with gradients of 0; in training they are refused."""
    for dtype in (torch.float32, torch.float64):
        norm = lived(row, False).to(dtype)
        x = images(dtype=dtype)[:0].requires_grad_()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            y = norm(x)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        assert not any(g.any() for g in gradients(y.double(), [x, *norm.parameters()]))
        if row.norm != "custom":
            with pytest.raises(UserError, match="nothing to normalize"):
                norm.train()(x)


def saved_whole(row: Row) -> None:
    norm, file = lived(row, True), io.BytesIO()
    torch.save(norm, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    close(again(images()), norm(images()), tolerance=0)
    close(again.eval()(images()), norm.eval()(images()), tolerance=0)


def shapes_alone(row: Row) -> None:
    norm, x = lived(row, False).to("meta"), images().to("meta")
    assert norm(x).shape == x.shape


USES: dict[str, Callable[[Row], None]] = {
    "second derivatives (gradient penalty)": second_derivatives,
    "torch.func (grad, jacrev, jvp, vmap)": torch_func,
    "torch.fx.symbolic_trace": torch_fx,
    "a batch of no images": no_images,
    "torch.save of the whole module": saved_whole,
    "the meta device": shapes_alone,
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch.func.jvp itself
@pytest.mark.parametrize("use", USES)
@each("row", ROWS)
def test_use(row: Row, use: str) -> None:
    USES[use](row)


@pytest.mark.slow
@each("name", ["bn", "frn", "sn"])
def test_torch_compile_takes_it_in_one_graph(name: str) -> None:
    for training in MODES:
        norm = perturbed(create_norm(name, CHANNELS, activation="relu")).train(training)
        whole = torch.compile(copy.deepcopy(norm), backend="aot_eager", fullgraph=True)
        found = []
        for layer in (norm, whole):
            x = images(dtype=torch.float32).requires_grad_()
            y = layer(x)
            found.append([y.detach(), *torch.autograd.grad(y.square().sum(), x)])
        close(found[0], found[1], 1e-5)


def test_a_parameter_that_has_changed_meanwhile_is_told() -> None:
    norm, x = create_norm("gn", CHANNELS, groups=2), images(dtype=torch.float32).requires_grad_()
    y = norm(x)
    with torch.no_grad():
        norm.bias.add_(1)
    with pytest.raises(RuntimeError, match="GroupNorm was changed between"):
        torch.autograd.grad(y.square().sum(), x, create_graph=True)


def test_a_norm_used_twice_has_both_parts_of_its_derivative() -> None:
    for dtype in (torch.float32, torch.float64):
        norm = perturbed(create_norm("gn", CHANNELS, groups=2)).to(dtype)
        theirs = nn.GroupNorm(2, CHANNELS).to(dtype)
        theirs.load_state_dict(norm.state_dict())
        seconds = []
        layer: Any
        for layer in (norm, theirs):
            x = images(dtype=dtype).requires_grad_()
            (g,) = torch.autograd.grad(
                layer(layer(x)).square().sum(), layer.weight, create_graph=True
            )
            seconds.append(list(torch.autograd.grad(g.square().sum(), [x, layer.weight])))
        close(seconds[0], seconds[1], 1e-3 if dtype == torch.float32 else 1e-9)


def test_a_transform_that_would_move_running_statistics_is_refused() -> None:
    """As with torch's own layers."""
    norm, x = create_norm("bn", CHANNELS).double(), images()
    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        grad(lambda x: norm(x).sum())(x)
