"""Images for a planted brain: random scenes, cheap to draw and to compress, or crops of photographs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 425
"""Side in pixels of an NSD image."""
N_DISCS = 220
N_GRATINGS = 6


def draw_scene(rng: np.random.Generator, side: int = SIDE) -> "Image":
    """Draw one RGB scene of 10 to 17 ellipses, rectangles, triangles and gratings, each a third of the image or more.

    Large shapes make neighbouring positions similar, as in photographs. Without this, gradient descent could not find
    receptive fields.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side, side), _color(rng))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(10, 18)):
        color = _color(rng)
        width, height = side * np.exp(rng.uniform(np.log(0.3), np.log(1.2), 2))
        left, top = rng.uniform(0, side, 2) - (width / 2, height / 2)
        match rng.integers(4):
            case 0:
                pen.ellipse([left, top, left + width, top + height], fill=color)
            case 1:
                pen.rectangle([left, top, left + width, top + height], fill=color)
            case 2:
                corners = rng.uniform(0, 1, (3, 2)) * (width, height) + (left, top)
                pen.polygon([tuple(corner) for corner in corners], fill=color)
            case _:
                n_bars, angle = int(rng.integers(3, 9)), rng.uniform(0, np.pi)
                along = np.array([np.cos(angle), np.sin(angle)])
                across = np.array([-along[1], along[0]]) * height / 2
                for k in range(n_bars):
                    middle = (left, top) + along * (k - n_bars / 2) * width / n_bars
                    ends = [tuple(middle + across), tuple(middle - across)]
                    pen.line(ends, fill=color, width=max(2, int(width / n_bars / 2)))
    return image


def draw_leaves(rng: np.random.Generator, side: int = SIDE) -> "Image":
    """Draw dead leaves: discs that cover each other, whose number falls with the cube of their radius."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (side, side), _color(rng))
    pen = ImageDraw.Draw(image)
    smallest, largest = 0.03 * side, 0.4 * side
    u = rng.uniform(size=N_DISCS)
    radii = 1 / np.sqrt((1 - u) / smallest**2 + u / largest**2)
    for radius, (x, y) in zip(radii, rng.uniform(0, side, (N_DISCS, 2)), strict=True):
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=_color(rng))
    return image


def draw_gratings(rng: np.random.Generator, side: int = SIDE) -> "Image":
    """Draw coloured gratings in round windows, of all directions and of 1 to 20 cycles in the image."""
    from PIL import Image

    at = np.linspace(-1, 1, side)
    seen = np.zeros((side, side, 3))
    for _ in range(N_GRATINGS):
        cycles, angle, phase = np.exp(rng.uniform(0, np.log(20))), rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
        wave = np.sin(np.pi * cycles * (at * np.cos(angle) + at[:, None] * np.sin(angle)) + phase)
        x, y, radius = *rng.uniform(-1, 1, 2), rng.uniform(0.3, 0.9)
        window = np.exp(-(np.square(at - x) + np.square(at[:, None] - y)) / (2 * radius**2))
        seen += (wave * window)[:, :, None] * rng.uniform(-1, 1, 3)
    return Image.fromarray(np.clip(127.5 + 100 * seen, 0, 255).astype(np.uint8))


def crop(rng: np.random.Generator, photographs: Sequence[npt.NDArray[np.uint8]], side: int = SIDE) -> "Image":
    """Crop a square of a third to all of a photograph (H, W, 3), mirrored every other time."""
    from PIL import Image

    photo = photographs[int(rng.integers(len(photographs)))]
    h, w = photo.shape[:2]
    size = int(min(h, w) * np.exp(rng.uniform(np.log(1 / 3), 0)))
    top, left = rng.integers(h - size + 1), rng.integers(w - size + 1)
    found = photo[top : top + size, left : left + size]
    return Image.fromarray(np.ascontiguousarray(found[:, :: rng.choice([-1, 1])])).resize((side, side))


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
