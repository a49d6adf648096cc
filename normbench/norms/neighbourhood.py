"""Norms whose statistics belong to a position, not to a plane: ordinary modules.

LRN: Krizhevsky et al. 2012, section 3.3. DN: Ren et al. 2017, arXiv 1611.04520, eq. 3. Neither has a
weight and a bias in its paper; here both have, as every norm, so that only the statistic differs.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from normbench.errors import UserError
from normbench.norms.base import Norm
from normbench.norms.tracking import wide


class LocalResponseNorm(Norm):
    """x / (k + alpha/size·Σ x² over `size` neighbouring channels)^beta.

    torch's meaning of alpha, which divides by size: AlexNet's α = 1e-4 over n = 5 is alpha = 5e-4.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        size: int = 5,
        alpha: float = 5e-4,
        beta: float = 0.75,
        k: float = 2.0,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if size < 1:
            raise UserError(f"size={size}: LRN needs a neighbourhood of 1 channel or more")
        self.size, self.scale, self.beta, self.k = size, alpha, beta, k

    def normalize(self, x: Tensor) -> Tensor:
        y = F.local_response_norm(wide(x), self.size, self.scale, self.beta, self.k)
        return self.finish(y, x)


class DivisiveNorm(Norm):
    """u / sqrt(sigma² + box(u²)) with u = x − box(x).

    box: mean over all channels and a window×window square, with zero padding and a constant divisor,
    so that borders are pulled to zero as in the authors' code (whose suppression divides by the size
    of the summation window; the two windows are one here).
    """

    dims: ClassVar[tuple[int, ...]] = (2,)

    def __init__(
        self,
        channels: int,
        *,
        activation: str = "none",
        images: int | None = None,
        window: int = 5,
        sigma: float = 0.5,
    ) -> None:
        super().__init__(channels, activation=activation, images=images)
        if window < 1 or window % 2 == 0:
            raise UserError(f"window={window}: DN needs an odd window: 1, 3, 5, ...")
        self.window, self.sigma = window, sigma

    def normalize(self, x: Tensor) -> Tensor:
        u = wide(x)
        u = u - self.box(u)
        y = u * (self.box(u.square()) + self.sigma**2).rsqrt()
        return self.finish(y, x)

    def box(self, u: Tensor) -> Tensor:
        mean = u.mean(1, keepdim=True)
        return F.avg_pool2d(mean, self.window, stride=1, padding=self.window // 2)
