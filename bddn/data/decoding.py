"""Decode the bytes of an image file to RGB pixels, as a person sees them.

- Transparent parts are composed with `BACKGROUND`, so that hidden colours under them have no effect.
- Images with more than 8 bits per channel, animations, images of several pages, and damaged files are refused.
- EXIF rotations and colour profiles are not applied, although an image viewer may apply them; CMYK is converted without
  a profile. A `Remark` reports each of these.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from bddn.data.formats import CUT, PNG_DEPTH, PNG_START, bits_per_channel, jpeg_end
from bddn.files.filekind import HEAD_BYTES, IMAGE, explain_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

DECODING = "RGB, 8 bits per channel, transparent parts on white, no EXIF rotation, no colour profile"
"""Part of the header of every cache: change it whenever the decoded pixels change."""
BACKGROUND = (255, 255, 255)
"""The colour behind transparent parts: white, as on paper and on a plain web page."""
MAX_PIXELS = 89_478_485  # above this, Pillow warns of a decompression bomb
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Formats for which Pillow's result is known. Others (EPS, PSD, ICO, …) are refused, even if another library has added
them to Pillow, because another process, such as a worker, could not read them."""
MODES = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"}
RESTORE = "Restore the file from the original download."
CONVERT = "Convert it to 8 bits per channel with the scaling that you want, or remove the image."
ORIENTATION, UPRIGHT, TURNED = 0x0112, 1, range(2, 9)  # EXIF tag and values; others mean nothing
BITS_PER_SAMPLE, SAMPLE_FORMAT, UNSIGNED = 258, 339, 1  # TIFF tags and value
_FILL, _MORE = 128, bytes(range(1, 128)) * 4  # libjpeg's value for missing pixels; data that it can decode
_CICP_SRGB = (1, 13)  # primaries and transfer function of sRGB (ITU-T H.273)
_TOLERANCE = 3  # of 255: largest difference of colours that a profile equivalent to sRGB may make


class Remark(StrEnum):
    """A note on how an image is decoded: the beginning of a sentence that ends with a number of images."""

    ROTATION = "an EXIF rotation is not applied to"
    TRANSPARENT = "transparent parts become white in"
    PROFILE = "a colour profile other than sRGB is not applied to"
    CMYK = "CMYK colours are converted without a colour profile in"


class ImageError(ValueError):
    """Bytes that cannot be decoded as an image: `got` is the cause, `fix` the next step."""

    def __init__(self, got: str, fix: str = RESTORE) -> None:
        self.got, self.fix = got, fix
        super().__init__(got)


@dataclass(frozen=True)
class Decoded:
    """An RGB image with 8 bits per channel, and remarks on its decoding."""

    image: "Image"
    remarks: frozenset[Remark]


def decode(data: bytes) -> Decoded:
    """Decode a whole image file.

    Raises
    ------
    ImageError
        If the data are not an image, are damaged, or are of an unsupported kind.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=_formats()) as image:
            _check(image, data)
            return _as_seen(image, data)
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(error) from error
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise ImageError(f"damaged ({error or type(error).__name__})") from error


@cache
def _formats() -> tuple[str, ...]:
    """Return the `FORMATS` that this build of Pillow can read."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unidentified(data: bytes) -> ImageError:
    """Return the error for data that Pillow does not open: damaged, too many bits, or another format."""
    formats = {PNG_START: "PNG", b"\xff\xd8\xff": "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
    name = next((name for start, name in formats.items() if data.startswith(start)), "")
    name = "AVIF" if data[4:12] == b"ftypavif" else name
    try:
        if name and (n_bits := bits_per_channel(name, data)) > 8:
            return _too_deep(n_bits)
    except ValueError as error:
        return ImageError(f"{error}")
    got = (
        f"a damaged {name}, or a variant that Pillow cannot read"
        if name
        else f"none of the formats {', '.join(FORMATS)}"
    )
    fix = RESTORE if name else f"{RESTORE} If it is of another format, such as HEIC or SVG, save it as PNG or JPEG."
    return ImageError(*explain_bytes(data[:HEAD_BYTES], got, fix, IMAGE))


def _too_deep(n_bits: int) -> ImageError:
    return ImageError(f"{n_bits} bits per channel, of which only 8 would be read", CONVERT)


def _too_large(error: Exception) -> ImageError:
    from PIL import Image

    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and limit < MAX_PIXELS:
        return ImageError(
            f"more pixels than PIL.Image.MAX_IMAGE_PIXELS allows, which other code has set to {limit}",
            f"Set it back to Pillow's default, {MAX_PIXELS}.",
        )
    return ImageError(f"too large ({error})", "Scale the image down, or remove it.")


def _check(image: "Image", data: bytes) -> None:
    """Refuse images that Pillow would decode only partly, or that other code's settings of Pillow would let pass."""
    from PIL import ImageFile

    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{image.width} × {image.height} pixels, more than {MAX_PIXELS}", "Scale it down.")
    # In a phone's JPEG (MPO), smaller previews or a depth map follow the image.
    if image.format != "MPO" and (n_frames := getattr(image, "n_frames", 1)) > 1:
        what = f"{n_frames} pages" if image.format == "TIFF" else f"an animation of {n_frames} frames"
        raise ImageError(what, "Save the one that was shown as a separate image.")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise ImageError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, which hides damage",
            "Do not set it in a process that uses bddn.",
        )
    try:
        n_bits = _tiff_bits(image, data) if image.format == "TIFF" else bits_per_channel(image.format or "", data)
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(f"{error}") from error
    if n_bits > 8 or image.mode.startswith(("I", "F")):
        raise _too_deep(n_bits if n_bits > 8 else 16)
    if image.mode not in MODES:
        raise ImageError(f"colours as {image.mode}, which are not converted to RGB", "Save it as RGB.")


def _tiff_bits(image: "Image", data: bytes) -> int:
    tags = image.tag_v2  # type: ignore[attr-defined]
    for starts, sizes in ((273, 279), (324, 325)):  # of strips, of tiles
        for start, size in zip(_numbers(tags.get(starts)), _numbers(tags.get(sizes)), strict=False):
            if start + size > len(data):
                raise ImageError(CUT)
    if any(kind != UNSIGNED for kind in _numbers(tags.get(SAMPLE_FORMAT))):
        raise ImageError("signed or fractional numbers instead of whole numbers from 0 to 255", CONVERT)
    return max(_numbers(tags.get(BITS_PER_SAMPLE)), default=1)


def _numbers(value: object) -> tuple[int, ...]:
    return () if value is None else value if isinstance(value, tuple) else (int(value),)  # type: ignore[call-overload]


def _as_seen(image: "Image", data: bytes) -> Decoded:
    from PIL import Image

    image.load()
    if image.format in ("JPEG", "MPO") and _ends_early(image, data):
        raise ImageError("damaged: the file ends before its last pixels")
    remarks = set()
    if _orientation(image) in TURNED:
        remarks.add(Remark.ROTATION)
    if image.mode == "CMYK":
        remarks.add(Remark.CMYK)
    elif _has_other_colours(image, data):
        remarks.add(Remark.PROFILE)
    seen = _transparent(image, data) if image.has_transparency_data else None
    if seen is None or seen.getchannel("A").getextrema()[0] == 255:
        return Decoded((image if seen is None else seen).convert("RGB"), frozenset(remarks))
    remarks.add(Remark.TRANSPARENT)
    below = Image.new("RGBA", seen.size, BACKGROUND)
    return Decoded(Image.alpha_composite(below, seen).convert("RGB"), frozenset(remarks))


def _transparent(image: "Image", data: bytes) -> "Image":
    """Return the image as RGBA. A grey or RGB PNG may declare one transparent colour, in the bit depth of the file."""
    from PIL import Image

    key = image.info.get("transparency")
    if image.format != "PNG" or image.mode not in ("1", "L", "RGB") or key is None:
        return image.convert("RGBA")
    image.info.pop("transparency")
    seen = image.convert("RGB")
    pixels = np.asarray(seen)
    most = (1 << data[PNG_DEPTH]) - 1
    color = np.array(key) & most if image.mode == "RGB" else (key & most) * 255 // most
    alpha = np.where((pixels == color).all(2), 0, 255).astype(np.uint8)
    seen.putalpha(Image.fromarray(alpha))
    return seen


def _ends_early(image: "Image", data: bytes) -> bool:
    """Return whether a JPEG ends before its last pixels, as some programs leave it when they repair a partial download.

    The decoder then fills the rest with mid-grey. If the last pixel is mid-grey, this function inserts more data before
    the end marker: if that changes the image, pixels were missing.
    """
    from PIL import Image

    last = image.getpixel((image.width - 1, image.height - 1))
    if image.mode not in ("L", "RGB") or last not in (_FILL, (_FILL,) * 3):
        return False
    _, end = jpeg_end(data)
    with Image.open(BytesIO(data[:end] + _MORE + data[end:]), formats=["JPEG"]) as longer:
        return longer.tobytes() != image.tobytes()


def _orientation(image: "Image") -> int:
    try:
        return int(image.getexif().get(ORIENTATION, UPRIGHT))
    except Exception:  # noqa: BLE001 - damaged EXIF data are ignored, since the pixels are complete
        return UPRIGHT


def _has_other_colours(image: "Image", data: bytes) -> bool:
    """Return whether the file declares a colour space other than sRGB."""
    if data.startswith(PNG_START):
        at = data.find(b"cICP", 0, max(0, data.find(b"IDAT")))
        if at >= 0 and tuple(data[at + 4 : at + 6]) != _CICP_SRGB:
            return True
    profile = image.info.get("icc_profile")
    return bool(profile) and _changes_colours(profile, "L" if image.mode in ("1", "L", "LA", "La") else "RGB")


@lru_cache(maxsize=64)
def _changes_colours(profile: bytes, mode: str) -> bool:
    """Return whether a profile changes sample colours compared with sRGB, since many profiles are sRGB under another
    name. An invalid profile counts as no change, since no viewer applies it."""
    from PIL import Image, ImageCms

    steps = np.arange(0, 256, 51, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 1, 3)
    colours = Image.fromarray(grid if mode == "RGB" else steps[:, None])
    try:
        srgb = ImageCms.createProfile("sRGB")
        seen = ImageCms.profileToProfile(colours, BytesIO(profile), srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    differ = np.abs(np.asarray(seen, dtype=int) - np.asarray(colours.convert("RGB"), dtype=int))
    return bool(differ.max() > _TOLERANCE)
