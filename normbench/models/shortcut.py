"""What a residual block adds to its branch: the input, fitted to the shape of the branch's output.

Options A and B of He et al. 2016 (arXiv 1512.03385, section 3.3). Where the shape does not change
both are the input itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from normbench.models.factory import NormFactory
from normbench.models.layers import Conv


class PaddedShortcut(nn.Module):
    """[N, in, H, W] -> [N, out, ceil(H / stride), ceil(W / stride)] without a parameter.

    Every stride-th pixel is kept, and the channels that the input lacks are zero.
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.missing = channels - channels_in

    def forward(self, x: Tensor) -> Tensor:
        every = slice(None, None, self.stride)
        if not x.is_contiguous(memory_format=torch.channels_last):
            return functional.pad(x[:, :, every, every], (0, 0, 0, 0, 0, self.missing))
        pixels = x.permute(0, 2, 3, 1)  # so that the gradient is channels-last too
        return functional.pad(pixels[:, every, every], (0, self.missing)).permute(0, 3, 1, 2)


def padded(channels_in: int, channels: int, stride: int) -> nn.Module:
    """Option A: subsampling and zero channels where the shape changes."""
    if channels_in == channels and stride == 1:
        return nn.Identity()
    return PaddedShortcut(channels_in, channels, stride)


def projected(channels_in: int, channels: int, stride: int) -> nn.Module:
    """Option B: a learned 1x1 convolution where the shape changes."""
    if channels_in == channels and stride == 1:
        return nn.Identity()
    return Conv(channels_in, channels, size=1, stride=stride)


def normalized(
    norm: NormFactory, channels_in: int, channels: int, stride: int, stage: int
) -> nn.Module:
    """Option B as ImageNet's ResNets have it: the projection, and a norm without activation."""
    if channels_in == channels and stride == 1:
        return nn.Identity()
    projection = projected(channels_in, channels, stride)
    return nn.Sequential(projection, norm(channels, activated=False, stage=stage))
