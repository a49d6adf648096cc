"""Wide ResNet: Zagoruyko & Komodakis 2016 (arXiv 1605.07146, table 1)."""

from __future__ import annotations

from normbench.models.factory import NormFactory
from normbench.models.options import MOST_WIDTH, blocks_per_stage, positive
from normbench.models.preresnet import PreActivationNet
from normbench.models.shortcut import projected

DEPTHS = (16, 22, 28, 40)


class WideResNet(PreActivationNet):
    """[N, 3, H, W] -> [N, classes]: a pre-activation ResNet with stages `width` times as wide.

    The stages have 16, 32 and 64 times `width` channels; the shortcut is a 1x1 convolution where
    the shape changes. Those three convolutions count in the paper's depth: `depth` is 6n + 4, else
    a `UserError`. Without the paper's optional dropout.
    """

    def __init__(
        self, norm: NormFactory, *, classes: int, depth: int = 28, width: int = 10
    ) -> None:
        blocks = blocks_per_stage(depth, beside=4, known=DEPTHS)
        positive("width", width, MOST_WIDTH)
        super().__init__(norm, classes, blocks, (16 * width, 32 * width, 64 * width), projected)
