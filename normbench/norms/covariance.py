"""The algebra of whitening: as `plane`, with a covariance matrix where that has a variance.

A group is d contiguous channels of one image: a vector of d numbers at each of its H×W pixels. The
moments of groups are [N, G, d] and [N, G, d, d]. A whitening norm is a sentence of three verbs:

    moments = pool(moments_of(x, d), images=batch)
    y = centred(newton(moments, ...), moments.mean).of(x)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from normbench.norms import plane
from normbench.ops.definition import differentiated, transformed


class Moments(NamedTuple):
    """Mean [., G, d] and biased covariance [., G, d, d], and of how many vectors each was taken."""

    mean: Tensor
    cov: Tensor
    count: int  # type: ignore[assignment]  # a field, not tuple.count


class Linear(NamedTuple):
    """The map x → matrix·x + shift of each group."""

    matrix: Tensor  # [N, G, d, d] or [G, d, d]
    shift: Tensor  # [N, G, d] or [G, d]

    def then(self, scale: Tensor, shift: Tensor) -> Linear:
        """scale·y + shift of each channel [C] after this map."""
        scale, shift = (t.view(self.shift.shape[-2:]) for t in (scale, shift))
        return Linear(scale[..., None] * self.matrix, scale * self.shift + shift)

    def of(self, x: Tensor) -> Tensor:
        """The map of each group of x [N, C, H, W]."""
        n, c, h, w = x.shape
        groups, size = self.shift.shape[-2:]
        matrix = self.matrix.expand(n, groups, size, size).reshape(-1, size, size)
        shift = self.shift.expand(n, groups, size).reshape(-1, size, 1)
        return torch.baddbmm(shift, matrix, x.reshape(-1, size, h * w)).view(n, c, h, w)


def moments_of(x: Tensor, size: int) -> Moments:
    """Those of each group of `size` channels. x: [N, C, H, W] in the dtype of the statistics."""
    n, c, h, w = x.shape
    vectors = x.reshape(n, c // size, size, h * w)
    mean = vectors.mean(3)
    z = vectors - mean[..., None]
    return Moments(mean, z @ z.mT / (h * w), h * w)


def pool(moments: Moments, *, images: int | None) -> Moments:
    """Moments of blocks of `images` images (None: all), by the law of total covariance.

    M = mean(m), C = mean(c) + mean((m − M)(m − M)ᵀ), for each worker: [N / images, G, d].
    UserError where `images` does not divide N.
    """
    mean, cov, count = moments
    images = plane.worker(len(mean), images)
    mean, cov = (t.view(-1, images, *t.shape[1:]) for t in (mean, cov))
    pooled = mean.mean(1)
    between = mean - pooled[:, None]
    outer = torch.einsum("wngi,wngj->wgij", between, between) / images
    return Moments(pooled, cov.mean(1) + outer, count * images)


def centred(matrix: Tensor, mean: Tensor) -> Linear:
    """matrix·(x − mean)."""
    return Linear(matrix, -(matrix @ mean[..., None]).squeeze(-1))


def newton(cov: Tensor, eps: float, iterations: int) -> Tensor:
    """Towards (cov + eps·I)^-½, by Newton's iterations on the matrix divided by its trace.

    P ← 1.5·P − 0.5·P³·Σ/tr Σ from P = I, then P/√tr Σ. Few iterations whiten in part: directions of
    little variance stay small.
    """
    unit = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    cov = cov + eps * unit
    trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    relative, p = cov / trace, unit.expand_as(cov)
    for _ in range(iterations):
        p = 1.5 * p - 0.5 * (p @ p @ p @ relative)
    return p * trace.rsqrt()


def zca(cov: Tensor, eps: float) -> Tensor:
    """(cov + eps·I)^-½ = U·diag(λ^-½)·Uᵀ."""
    unit = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    cov = cov + eps * unit
    if transformed():
        values, vectors = torch.linalg.eigh(cov)
        whole: Tensor = (vectors * values.rsqrt()[..., None, :]) @ vectors.mT
        return whole
    root: Tensor = _InverseRoot.apply(cov)
    return root


def like_its_gradient(x: Tensor) -> Tensor:
    """x, whose gradient will have its memory format."""
    same: Tensor = x if transformed() else _LikeItsGradient.apply(x)
    return same


class _LikeItsGradient(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        layout = torch.channels_last if ctx.last else torch.contiguous_format
        return g.contiguous(memory_format=layout)


class _InverseRoot(Function):
    """Σ^-½ of symmetric matrices. Its derivative has no poles where two eigenvalues are equal, unlike
    that of the eigenvectors: it is U·(K ∘ Uᵀ·G·U)·Uᵀ, K = the divided differences of λ^-½."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        root: Tensor = (vectors * values.rsqrt()[..., None, :]) @ vectors.mT
        ctx.save_for_backward(matrix, values, vectors)
        return root

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor | None:
        matrix, values, vectors = ctx.saved_tensors
        if torch.is_grad_enabled():  # a graph of the gradient is asked for
            return differentiated(lambda whole: torch.linalg.inv(_Root.apply(whole)), (matrix,), g)[
                0
            ]
        root = values.sqrt()
        one, other = root[..., :, None], root[..., None, :]
        inside = vectors.mT @ ((g + g.mT) / 2) @ vectors
        result: Tensor = vectors @ (-inside / (one * other * (one + other))) @ vectors.mT
        return result


class _Root(Function):
    """R = Σ^½ of symmetric matrices. Its derivative solves R·X + X·R = G, which has no poles where two
    eigenvalues are equal, unlike the derivative of eigenvectors."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrix)
        root: Tensor = (vectors * values.sqrt()[..., None, :]) @ vectors.mT
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors
        solution: Tensor = _Lyapunov.apply(root, (g + g.mT) / 2)
        return solution


class _Lyapunov(Function):
    """The X of R·X + X·R = G, for symmetric R whose eigenvalues are above 0."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, g: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(root)
        inside = vectors.mT @ g @ vectors / (values[..., :, None] + values[..., None, :])
        solution: Tensor = vectors @ inside @ vectors.mT
        ctx.save_for_backward(root, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        root, solution = ctx.saved_tensors
        of_g: Tensor = _Lyapunov.apply(root, g)
        return -(of_g @ solution.mT + solution.mT @ of_g), of_g
