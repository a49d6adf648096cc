"""Pre-activation ResNet: He et al. 2016, "Identity Mappings" (arXiv 1603.05027, figure 4e)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from normbench.models.factory import NormFactory
from normbench.models.layers import Classifier, Conv
from normbench.models.options import blocks_per_stage, positive
from normbench.models.resnet import DEPTHS, WIDTHS
from normbench.models.shortcut import padded

STEM = 16


class PreActivationBlock(nn.Module):
    """[N, in, H, W] -> [N, out, H / stride, W / stride]: shortcut + branch, nothing after it.

    The branch is norm, activation, conv, norm, activation, conv. If `shared`, the shortcut too
    starts from the first activation; else from the block's input, untouched.
    """

    def __init__(
        self,
        norm: NormFactory,
        channels_in: int,
        channels: int,
        stride: int,
        stage: int,
        shortcut: nn.Module,
        shared: bool,
    ) -> None:
        super().__init__()
        self.shared = shared
        self.norm1 = norm(channels_in, stage=stage)
        self.conv1 = Conv(channels_in, channels, stride=stride)
        self.norm2 = norm(channels, stage=stage)
        self.conv2 = Conv(channels, channels)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        activated = self.norm1(x)
        branch = self.conv2(self.norm2(self.conv1(activated)))
        joined: Tensor = self.shortcut(activated if self.shared else x) + branch
        return joined


class PreActivationNet(nn.Module):
    """[N, 3, H, W] -> [N, classes]: what the pre-activation and the wide ResNets have in common.

    A 3x3 convolution to 16 channels; one stage of `blocks` blocks for each of `widths`, all but the
    first halving the resolution; a last norm and activation; the mean over pixels; a linear layer.
    The first block of each stage shares its first activation with the shortcut: there the shape
    changes, or the stem has just ended (appendix of the paper). The last norm counts as the last
    stage's; the stem has none. `shortcut` is called with (channels in, channels out, stride).
    """

    def __init__(
        self,
        norm: NormFactory,
        classes: int,
        blocks: int,
        widths: tuple[int, ...],
        shortcut: Callable[[int, int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.stem = Conv(3, STEM)
        self.stages = nn.Sequential()
        channels_in = STEM
        for stage, channels in enumerate(widths, start=1):
            for index in range(blocks):
                first = index == 0
                stride = 2 if stage > 1 and first else 1
                joint = shortcut(channels_in, channels, stride)
                self.stages.append(
                    PreActivationBlock(norm, channels_in, channels, stride, stage, joint, first)
                )
                channels_in = channels
        self.last_norm = norm(channels_in, stage=len(widths))
        self.classifier = Classifier(channels_in, positive("classes", classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        logits: Tensor = self.classifier(self.last_norm(x))
        return logits


class PreResNet(PreActivationNet):
    """[N, 3, H, W] -> [N, classes] in 6n + 2 layers: stages of 16, 32 and 64 channels.

    The shortcuts have no parameters. `depth` is 6n + 2, else a `UserError`.

    There is no `zero_init_last` here: the last norm of a branch is followed by a ReLU and a
    convolution. With weight and bias 0 the ReLU gives 0 and passes no gradient to the norm, and the
    convolution, with input 0, gets none either: the branch would never leave its start.
    """

    def __init__(self, norm: NormFactory, *, classes: int, depth: int = 20) -> None:
        blocks = blocks_per_stage(depth, beside=2, known=DEPTHS)
        super().__init__(norm, classes, blocks, WIDTHS, padded)
