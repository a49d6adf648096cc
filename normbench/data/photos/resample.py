"""Crops of images of many sizes from one array of bytes, resized as torchvision resizes tensors.

On the CPU one by one, by torch's own antialiased bilinear resize of bytes; on a GPU, where that
would be hundreds of small kernels, a whole batch by two products of matrices with the same weights.
The two round differently, by one level of 255 at most. The first is equal to torchvision's
resized_crop to the bit, in less than half its time; torchvision has nothing like the second.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.data.photos.pipelines import Crops

AT_A_TIME = 2**23  # pixels of windows on the GPU: their indices then take 200 MB


@dataclass(frozen=True)
class Pixels:
    """Images one after the other, RGB bytes row by row: `bytes` uint8, on the device where crops are
    made; where each image begins, its height and its width, int64 [N, 3] on the CPU."""

    bytes: Tensor
    index: Tensor

    def crop(self, crops: Crops, size: int) -> Tensor:
        """The crops uint8 [B, 3, size, size], on the device of the bytes."""
        if self.bytes.device.type == "cpu":
            return self.one_by_one(crops, size)
        return self.together(crops, size)

    def one_by_one(self, crops: Crops, size: int) -> Tensor:
        """Crop by crop, for the CPU."""
        shape = (len(crops.order), 3, size, size)
        crops_made = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        fields = zip(*(t.tolist() for t in crops.boxes()), strict=True)
        for i, (order, top, left, height, width, flip) in enumerate(fields):
            offset, tall, wide = self.index[order].tolist()
            image = self.bytes[offset : offset + 3 * tall * wide].view(1, tall, wide, 3)
            box = image[:, top : top + height, left : left + width].permute(0, 3, 1, 2)
            if (height, width) != (size, size):
                box = F.interpolate(box, (size, size), mode="bilinear", antialias=True)
            crops_made[i] = box[0].flip(2) if flip else box[0]
        return crops_made

    def together(self, crops: Crops, size: int) -> Tensor:
        """Batches of crops at once, for a GPU."""
        tall, wide = int(crops.height.max()), int(crops.width.max())
        count = max(1, AT_A_TIME // (tall * wide))
        parts = range(0, len(crops.order), count)
        return torch.cat([self._part(crops.at(slice(p, p + count)), size) for p in parts])

    def _part(self, crops: Crops, size: int) -> Tensor:
        """Windows as large as the largest box, and the weights of the pixels of each box in them."""
        tall, wide = int(crops.height.max()), int(crops.width.max())
        whole = bool(((crops.height == size) & (crops.width == size)).all())
        device = self.bytes.device
        offset, _, stride = self.index[crops.order].to(device, non_blocking=True).unbind(1)
        top, left, height, width, flip = (
            t.to(device, non_blocking=True)[:, None] for t in crops.boxes()[1:]
        )
        rows = top + torch.arange(tall, device=device).minimum(height - 1)
        columns = torch.arange(wide, device=device).minimum(width - 1)
        if whole:
            columns = torch.where(flip == 1, columns.flip(1), columns)
        lines = offset[:, None] + 3 * stride[:, None] * rows
        index = lines[:, :, None] + 3 * (left + columns)[:, None, :]
        windows = self.bytes[index[:, None] + torch.arange(3, device=device)[:, None, None]]
        if whole:
            return windows
        vertical, horizontal = weights(height[:, 0], tall, size), weights(width[:, 0], wide, size)
        horizontal = torch.where(flip[:, :, None] == 1, horizontal.flip(1), horizontal)
        with torch.autocast(windows.device.type, enabled=False):  # a run's does not reach pixels
            values = vertical[:, None] @ (windows.float() @ horizontal[:, None].mT)
        return values.round_().to(torch.uint8)


def weights(length: Tensor, taps: int, size: int) -> Tensor:
    """What each of `length` [B] pixels gives to each of `size`: [B, size, taps], 0 beyond `length`.

    The triangle filter, as wide as an output pixel where that is larger than a pixel; float32.
    """
    scale = length.double()[:, None, None] / size
    centre = (torch.arange(size, device=length.device)[:, None] + 0.5) * scale
    pixel = torch.arange(taps, device=length.device)
    away = (pixel + 0.5 - centre).abs() / scale.clamp_min(1.0)
    weight = (1 - away).clamp_min_(0.0) * (pixel < length[:, None, None])
    return (weight / weight.sum(2, keepdim=True)).float()
