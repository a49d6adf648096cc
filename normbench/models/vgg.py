"""VGG-A for small images: Simonyan & Zisserman 2015 (arXiv 1409.1556, table 1, column A)."""

from __future__ import annotations

from torch import Tensor, nn

from normbench.models.factory import NormFactory
from normbench.models.layers import Classifier, Conv
from normbench.models.options import MOST_HIDDEN, positive

BLOCKS = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG(nn.Module):
    """[N, 3, H, W] -> [N, classes] in 11 layers; H and W are 32 or more.

    Five blocks of 3x3 convolutions, each convolution followed by norm and activation, each block by
    a max-pooling that halves the resolution; the mean over pixels; two fully connected layers of
    `hidden` channels (4096 in the paper), again followed by norm and activation; a linear layer.

    The fully connected layers are 1x1 convolutions over one pixel, so that the same norms apply
    (FRN paper, arXiv 1911.09737, table 4). A plane there is a single number, whose variance is 0:
    instance norm cannot be used, and FRN needs its learned epsilon. Stages: blocks 1 to 5,
    fully connected 6. The paper's dropout is left out.
    """

    def __init__(self, norm: NormFactory, *, classes: int, hidden: int = 512) -> None:
        super().__init__()
        positive("hidden", hidden, MOST_HIDDEN)
        self.features = nn.Sequential()
        channels_in = 3
        for stage, widths in enumerate(BLOCKS, start=1):
            for channels in widths:
                self.features.append(Conv(channels_in, channels))
                self.features.append(norm(channels, stage=stage))
                channels_in = channels
            self.features.append(nn.MaxPool2d(2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.connected = nn.Sequential()
        for _ in range(2):
            self.connected.append(Conv(channels_in, hidden, size=1))
            self.connected.append(norm(hidden, stage=len(BLOCKS) + 1))
            channels_in = hidden
        self.classifier = Classifier(hidden, positive("classes", classes))

    def forward(self, x: Tensor) -> Tensor:
        pixel = self.pool(self.features(x))
        logits: Tensor = self.classifier(self.connected(pixel))
        return logits
