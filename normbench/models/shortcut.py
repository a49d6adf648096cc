"""What a residual block adds to its branch: the input, fitted to the shape of the branch's output.

Options A and B of He et al. 2016 (arXiv 1512.03385, section 3.3). Where the shape does not change
both are the input itself.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

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
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.missing))


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
