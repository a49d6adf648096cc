"""How the kernels of `triton` cut up a tensor: from the shape alone, so that results repeat.

The number of images plays no part: what a plane gives does not depend on the batch that it is in.
The sizes are those of a GPU whose loads are 16 bytes a thread and 128 bytes a line of its cache.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

LOAD, LINE = 16, 128  # bytes
WARP = 32  # threads
LOADS = 256  # loads for which a program is worth its start, where planes are small
ALONE = 1 << 17  # bytes of x up to which one program reduces its planes without help
PARTS = 256  # programs at most that share a plane


class Tile(NamedTuple):
    """[steps, pixels, planes], powers of two; `tiles` of them in each of `parts` of a plane.

    align: numbers of a row of memory come in multiples of it, and a load takes so many.
    """

    last: bool
    align: int
    steps: int
    pixels: int
    planes: int
    warps: int
    parts: int
    tiles: int

    @property
    def part(self) -> int:
        """Pixels of a part, at most."""
        return self.tiles * self.steps * self.pixels


@functools.lru_cache(maxsize=1024)
def tile_of(last: bool, channels: int, size: int, itemsize: int, steps: int, loops: bool) -> Tile:
    """For planes of `size` numbers of `itemsize` bytes; last: channels-last.

    steps: loads under way in a thread, at most. loops: a program may take one tile after another.
    """
    align = math.gcd(channels if last else size, LOAD // itemsize)
    few = max(1, LOADS * LOAD // itemsize // power(size))  # planes that make a program worth it
    planes = min(power(channels), max(few, LINE // itemsize)) if last else few
    loads = planes * power(size) // align
    warps = 8 if loops and loads > 4 * WARP * steps else 4
    pixels = min(power(size), max(1, warps * WARP * align // planes))
    steps = min(steps, power(-(-size // pixels)))
    count = -(-size // (steps * pixels))
    if not loops:
        tiles = 1
    elif planes * size * itemsize <= ALONE:
        tiles = count
    else:
        tiles = -(-count // PARTS)
    return Tile(last, align, steps, pixels, planes, warps, -(-count // tiles), tiles)


def power(number: int) -> int:
    """The least power of two that is no less."""
    return 1 << (number - 1).bit_length()
