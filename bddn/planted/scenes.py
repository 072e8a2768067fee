"""Images for a planted brain: random scenes of shapes and stripes, which are cheap to draw and to compress."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 425
"""Side in pixels of an NSD image."""


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


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3).tolist()
    return red, green, blue
