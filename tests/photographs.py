"""Images of many kinds, and copies of them: for tests of what finds the same image twice."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_images

from bddn.planted.scenes import draw_gratings, draw_leaves, draw_scene

SIDE = 256
RGB = npt.NDArray[np.uint8]


def crops(n_along: int) -> list[Image.Image]:
    """Crops of two photographs, a Chinese temple and a flower, that do not overlap."""
    found = []
    for photo in load_sample_images().images:
        size = min(photo.shape[:2]) // n_along
        for top in range(0, photo.shape[0] - size + 1, size):
            for left in range(0, photo.shape[1] - size + 1, size):
                found.append(Image.fromarray(photo[top : top + size, left : left + size]).resize((SIDE, SIDE)))
    return found


def noise(rng: np.random.Generator, side: int = SIDE) -> Image.Image:
    """Noise with the spectrum of photographs: amplitude falls with frequency."""
    y, x = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)
    amplitude = 1 / np.maximum(np.hypot(y, x), 1 / side)
    white = rng.normal(size=(3, side, side // 2 + 1)) + 1j * rng.normal(size=(3, side, side // 2 + 1))
    values = np.fft.irfft2(white * amplitude, (side, side))
    values = 128 + 45 * (values - values.mean()) / values.std()
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def shapes(rng: np.random.Generator) -> Image.Image:
    """A gradient, a planted scene and smooth noise."""
    scene = np.asarray(draw_scene(rng, SIDE), np.float32)
    ramp = np.add.outer(np.linspace(0, rng.uniform(0, 90), SIDE), np.linspace(0, rng.uniform(0, 90), SIDE))
    smooth = 300 * gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8)
    mixed = 0.4 * scene + (ramp + smooth)[..., None]
    return Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8))


def different_images() -> list[Image.Image]:
    """Images that are all different: photographs, noise, shapes, and those of planted brains."""
    rng = np.random.default_rng(0)
    drawn = [draw(rng) for draw in (noise, shapes) for _ in range(12)]
    planted = [draw(rng, SIDE) for draw in (draw_scene, draw_leaves, draw_gratings) for _ in range(12)]
    return [*crops(2), *crops(3), *drawn, *planted]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    image.save(file := BytesIO(), "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def cropped(image: Image.Image, share: float, x: float, y: float) -> Image.Image:
    """Cut off a share of width and height, at (x, y) from 0 to 1, and scale back to the size."""
    w, h = image.size
    left, top = share * w * x, share * h * y
    box = round(left), round(top), round(left + (1 - share) * w), round(top + (1 - share) * h)
    return image.crop(box).resize((w, h), Image.Resampling.BICUBIC)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda image: image,
    "a JPEG of quality 90": lambda image: _jpeg(image, 90),
    "a JPEG of quality 40": lambda image: _jpeg(image, 40),
    "a crop by 2 %": lambda image: cropped(image, 0.02, 0.5, 0.5),
    "a crop by 2 % at a corner": lambda image: cropped(image, 0.02, 1, 0),
    "a crop by 5 %": lambda image: cropped(image, 0.05, 0.5, 0.5),
    "smaller": lambda image: image.resize((SIDE // 2, SIDE // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "a crop by 2 % as a JPEG": lambda image: _jpeg(cropped(image, 0.02, 0, 1), 60),
}
