"""What enters a network is what the file shows: the pixels of every sort of file, and what is told or refused."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from bddn.data.dataset import Stimuli
from bddn.data.decoding import Remark, decode
from bddn.errors import DataError
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.reader import Cache
from data.pictures import chunk, png, saved, scene, tiff

SEEN = scene(1)
HIDDEN = np.random.default_rng(2).integers(0, 256, SEEN.shape, np.uint8)
HOLE = np.zeros(SEEN.shape[:2], bool)
HOLE[20:90, 30:100] = True
WHITE = np.where(HOLE[:, :, None], 255, SEEN).astype(np.uint8)
"""`SEEN` on white paper with a hole."""
OPAQUE = np.where(HOLE, 0, 255).astype(np.uint8)
HALF = np.where(HOLE, 100, 255).astype(np.uint8)
GREY = np.asarray(Image.fromarray(SEEN).convert("L"))
LEVELS = GREY >> 6  # 0 to 3
ICC: dict[str, bytes] = {name: ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes() for name in ("sRGB",)}


def rgba(colors: np.ndarray, alpha: np.ndarray = OPAQUE) -> np.ndarray:
    """These colours, seen through a hole in them."""
    return np.dstack([colors, alpha])


def hidden(colors: np.ndarray) -> np.ndarray:
    """`SEEN` with other colours where nothing is seen."""
    return np.where(HOLE[:, :, None], colors, SEEN).astype(np.uint8)


def key_png(grey: np.ndarray, depth: int) -> bytes:
    """A grey PNG of which the level 1 is transparent."""
    return png(grey, 0, depth, chunk(b"tRNS", b"\0\1"))


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.dstack([grey] * 3)


def palette_png(hole: tuple[int, int, int]) -> bytes:
    """A PNG with a palette of grey, whose entry 1 is transparent and has a colour that is not seen."""
    colors = bytes([0, 0, 0, *hole, 170, 170, 170, 255, 255, 255])
    return png(LEVELS, 3, 8, chunk(b"PLTE", colors), chunk(b"tRNS", b"\xff\0"))


def wide_profile() -> bytes:
    """The profile of sRGB with red and green exchanged."""
    data = bytearray(ICC["sRGB"])
    entries = {bytes(data[k : k + 4]): k for k in range(132, 132 + 12 * int.from_bytes(data[128:132], "big"), 12)}
    red, green = entries[b"rXYZ"], entries[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data)


def turned(image: np.ndarray, kind: str, **options: Any) -> bytes:
    """A file that asks to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(image, kind, exif=exif, **options)


LEVELS_SEEN = np.where(LEVELS == 1, 255, LEVELS * 85).astype(np.uint8)
BINARY_SEEN = np.where(LEVELS > 1, 255, 0).astype(np.uint8)
KEY = np.where(HOLE[:, :, None], (9, 8, 7), np.where((SEEN == (9, 8, 7)).all(2, keepdims=True), 10, SEEN))
HALF_SEEN = np.round(SEEN * (HALF[:, :, None] / 255.0) + (255 - HALF[:, :, None].astype(float)))
CMYK = Image.fromarray(SEEN).convert("CMYK")
JPEG = saved(SEEN, "JPEG")
JPEG_SEEN = np.asarray(Image.open(BytesIO(JPEG)))
T, R, P, C = Remark.TRANSPARENT, Remark.ROTATION, Remark.PROFILE, Remark.CMYK

SAME: dict[str, tuple[bytes, np.ndarray, set[Remark]]] = {
    # name: (file, what is seen, what is told)
    "RGBA": (saved(rgba(hidden(HIDDEN))), WHITE, {T}),
    "RGBA with other hidden colours": (saved(rgba(hidden(255 - HIDDEN))), WHITE, {T}),
    "RGBA, half seen through": (saved(rgba(SEEN, HALF)), HALF_SEEN, {T}),
    "RGBA without a transparent pixel": (saved(rgba(SEEN, OPAQUE * 0 + 255)), SEEN, set()),
    "RGBA of which nothing is seen": (saved(rgba(SEEN, OPAQUE * 0)), SEEN * 0 + 255, {T}),
    "grey with alpha": (saved(np.dstack([GREY, OPAQUE])), as_rgb(np.where(HOLE, 255, GREY)), {T}),
    "grey with alpha in 8 bits": (png(np.dstack([GREY, OPAQUE]), 4, 8), as_rgb(np.where(HOLE, 255, GREY)), {T}),
    "palette with a transparent entry": (palette_png((200, 0, 0)), as_rgb(LEVELS_SEEN), {T}),
    "palette with another hidden colour": (palette_png((0, 0, 200)), as_rgb(LEVELS_SEEN), {T}),
    "RGB with a transparent colour": (
        png(KEY, 2, 8, chunk(b"tRNS", b"\0\x09\0\x08\0\x07")),
        np.where(HOLE[:, :, None], 255, KEY),
        {T},
    ),
    "grey of 8 bits with a transparent level": (key_png(LEVELS, 8), as_rgb(np.where(LEVELS == 1, 255, LEVELS)), {T}),
    "grey of 4 bits with a transparent level": (
        key_png(LEVELS, 4),
        as_rgb(np.where(LEVELS == 1, 255, LEVELS * 17)),
        {T},
    ),
    "grey of 2 bits with a transparent level": (key_png(LEVELS, 2), as_rgb(LEVELS_SEEN), {T}),
    "1 bit with transparent black": (
        png(LEVELS >> 1, 0, 1, chunk(b"tRNS", b"\0\0")),
        as_rgb(BINARY_SEEN * 0 + 255),
        {T},
    ),
    "1 bit": (png(LEVELS >> 1, 0, 1), as_rgb(BINARY_SEEN), set()),
    "palette of 4 bits": (
        png(LEVELS, 3, 4, chunk(b"PLTE", bytes([0, 0, 0, 85, 85, 85, 170, 170, 170, 255, 255, 255]))),
        as_rgb(LEVELS * 85),
        set(),
    ),
    "WebP with alpha": (saved(rgba(hidden(HIDDEN)), "WEBP", lossless=True, exact=True), WHITE, {T}),
    "TIFF with alpha": (tiff(rgba(hidden(HIDDEN)), 8, extra=2), WHITE, {T}),
    "TIFF with a fourth channel that is no alpha": (tiff(rgba(SEEN), 8, extra=0), SEEN, set()),
    "GIF of one frame with a transparent colour": (
        saved(Image.fromarray((LEVELS * 60).astype(np.uint8)), "GIF", transparency=60),
        as_rgb(np.where(LEVELS == 1, 255, LEVELS * 60)),
        {T},
    ),
    "a rotation that EXIF asks for": (turned(SEEN, "PNG"), SEEN, {R}),
    "a rotation of a TIFF": (saved(SEEN, "TIFF", tiffinfo={274: 6}), np.rot90(SEEN, -1), set()),
    "the profile sRGB": (saved(SEEN, icc_profile=ICC["sRGB"]), SEEN, set()),
    "another profile": (saved(SEEN, icc_profile=wide_profile()), SEEN, {P}),
    "a profile that cannot be used": (saved(SEEN, icc_profile=b"profile"), SEEN, set()),
    "a PNG in Display P3": (png(SEEN, 2, 8, chunk(b"cICP", b"\x0c\x0d\0\1")), SEEN, {P}),
    "a PNG that says sRGB": (png(SEEN, 2, 8, chunk(b"cICP", b"\x01\x0d\0\1")), SEEN, set()),
    "CMYK": (saved(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB")), {C}),
    "BMP": (saved(SEEN, "BMP"), SEEN, set()),
    "PPM": (saved(SEEN, "PPM"), SEEN, set()),
    "big notes after the end of a JPEG": (JPEG + b"notes of a camera", JPEG_SEEN, set()),
    "a phone's JPEG with a second picture": (
        saved(Image.fromarray(SEEN), "MPO", save_all=True, append_images=[Image.fromarray(HIDDEN)]),
        JPEG_SEEN,
        set(),
    ),
}


class Few(Planted):
    """The planted brain's network with other images."""

    def __init__(self, brain: Path, paths: list[Path]) -> None:
        super().__init__(brain)
        self._few = Stimuli(tuple(path.name for path in paths), tuple(paths))

    @property
    def stimuli(self) -> Stimuli:
        return self._few


@pytest.fixture(scope="module")
def tokens(
    brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By the name of a case: tokens of its file, and those of an RGB picture of what is seen in it."""
    folder = tmp_path_factory.mktemp("seen")
    found = []
    for which in (0, 1):
        (folder / str(which)).mkdir()
        paths = []
        for k, (data, seen, _) in enumerate(SAME.values()):
            paths.append(folder / str(which) / f"{k:02d}")
            paths[-1].write_bytes(saved(np.asarray(seen).round().astype(np.uint8)) if which else data)
        extract(spec, Few(brain, paths), folder / f"{which}.zarr", tell=lambda _: None)
        cache = Cache(folder / f"{which}.zarr")
        layers = [cache.read(kind, "block_2", 0, len(paths)).flatten(1) for kind in ("local", "global")]
        found.append(np.concatenate(layers, axis=1))
    return {name: (found[0][k], found[1][k]) for k, name in enumerate(SAME)}


@pytest.mark.parametrize("name", SAME)
def test_the_tokens_of_a_file_are_those_of_the_picture_that_is_seen(
    name: str, tokens: dict[str, tuple[np.ndarray, np.ndarray]]
) -> None:
    data, seen, remarks = SAME[name]
    found = decode(data)
    assert found.image.mode == "RGB"
    rounding = 1 if name == "RGBA, half seen through" else 0
    assert np.abs(np.asarray(found.image, dtype=float) - seen).max() <= rounding
    assert found.remarks == remarks
    of_file, of_seen = tokens[name]
    np.testing.assert_allclose(of_file, of_seen, rtol=0, atol=0.02 * rounding)


def one(brain: Path, folder: Path, data: bytes, name: str = "a.png") -> Few:
    """A dataset of one image."""
    (folder / name).write_bytes(data)
    return Few(brain, [folder / name])


def refused(brain: Path, spec: CacheSpec, folder: Path, data: bytes) -> DataError:
    """The error of an extraction with such a file, which must name the file and write nothing."""
    with pytest.raises(DataError) as caught:
        extract(spec, one(brain, folder, data), folder / "out.zarr")
    assert str(folder / "a.png") in str(caught.value)
    assert not (folder / "out.zarr").exists()
    return caught.value


DEEP = (SEEN.astype(np.uint16) << 8) + 77
DEEP_GREY = (GREY.astype(np.uint16) << 8) + 77
SEVERAL = [Image.fromarray(np.roll(SEEN, 9 * k, 0)) for k in range(3)]
CUT = JPEG[: len(JPEG) // 2].rstrip(b"\xff") + b"\xff\xd9"
PROGRESSIVE = saved(SEEN, "JPEG", progressive=True)
RESTARTS = saved(SEEN, "JPEG", restart_marker_blocks=1)


def patched(data: bytes, at: int, value: int) -> bytes:
    """A file with another byte."""
    return data[:at] + bytes([value]) + data[at + 1 :]


def avif_of_10_bits() -> bytes:
    """An AVIF that says that it has 10 bits per channel."""
    data = saved(SEEN, "AVIF")
    at = data.index(b"av1C") + 6
    return patched(data, at, data[at] | 0x40)


NOT_READ: dict[str, tuple[bytes, str, str]] = {
    # name: (file, what it is, what to do)
    "RGB PNG of 16 bits": (png(DEEP, 2, 16), "16 bits per channel", "Convert it to 8 bits"),
    "RGBA PNG of 16 bits": (png(np.dstack([DEEP, DEEP_GREY]), 6, 16), "16 bits per channel", "8 bits"),
    "grey PNG of 16 bits": (png(DEEP_GREY, 0, 16), "16 bits per channel", "8 bits"),
    "grey PNG with alpha of 16 bits": (png(np.dstack([DEEP_GREY] * 2), 4, 16), "16 bits per channel", "8 bits"),
    "RGB TIFF of 16 bits": (tiff(DEEP, 16), "16 bits per channel", "8 bits"),
    "grey TIFF of 16 bits": (tiff(DEEP_GREY[:, :, None], 16), "16 bits per channel", "8 bits"),
    "TIFF of numbers with a sign": (tiff(GREY[:, :, None], 8, sample_format=2), "signed or fractional", "8 bits"),
    "TIFF of fractions": (saved(GREY.astype(np.float32), "TIFF"), "signed or fractional", "8 bits"),
    "RGB PPM of 16 bits": (b"P6 112 112 65535\n" + DEEP.astype(">u2").tobytes(), "16 bits", "8 bits"),
    "grey JPEG 2000 of 16 bits": (saved(DEEP_GREY, "JPEG2000"), "16 bits", "8 bits"),
    "JPEG of 12 bits": (patched(JPEG, JPEG.index(b"\xff\xc0") + 4, 12), "12 bits", "8 bits"),
    "AVIF of 10 bits": (avif_of_10_bits(), "10 bits", "8 bits"),
    "GIF animation": (saved(SEVERAL[0], "GIF", save_all=True, append_images=SEVERAL[1:]), "3 frames", "Save the one"),
    "PNG animation": (saved(SEVERAL[0], save_all=True, append_images=SEVERAL[1:]), "3 frames", "Save the one"),
    "WebP animation": (saved(SEVERAL[0], "WEBP", save_all=True, append_images=SEVERAL[1:]), "3 frames", "Save"),
    "TIFF of several pages": (saved(SEVERAL[0], "TIFF", save_all=True, append_images=SEVERAL[1:]), "3 pages", "Save"),
    "LAB colours": (saved(Image.fromarray(SEEN).convert("LAB"), "TIFF"), "colours as LAB", "Save it as RGB"),
    "an icon of several sizes": (saved(SEEN, "ICO"), "none of the formats PNG, JPEG", "Restore"),
    "a PostScript file": (saved(SEEN, "EPS"), "none of the formats", "Restore"),
    "PNG with bytes behind its end": (saved(SEEN) + b"more", "4 bytes follow the end", "Restore"),
    "PNG with a damaged note": (
        png(SEEN, 2, 8, chunk(b"tEXt", b"Title\0a")[:-1] + b"?"),
        "checksum of its chunk 'tEXt'",
        "Restore",
    ),
    "JPEG with a premature end": (CUT, "the file ends before its last pixels", "Restore"),
    "progressive JPEG without its last scans": (
        PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda")] + b"\xff\xd9",
        "the file ends before its last scan",
        "Restore",
    ),
    "JPEG without a restart marker": (RESTARTS.replace(b"\xff\xd3", b"", 1), "restart markers", "Restore"),
    "an empty file": (b"", "an empty file", "Download or copy"),
    "zeros": (bytes(5000), "begins with zeros", "Download or copy"),
    "a page": (b"<!DOCTYPE html><p>404", "an HTML page", "Download the file again"),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer", "lfs pull"),
    "a git-annex pointer": (b"/annex/objects/MD5E-s1--0.png\n", "a git-annex pointer", "git annex get"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_would_not_enter_as_it_is_seen_is_refused_with_its_cause(
    name: str, brain: Path, spec: CacheSpec, tmp_path: Path
) -> None:
    data, got, fix = NOT_READ[name]
    error = refused(brain, spec, tmp_path, data)
    assert got in error.got
    assert fix in error.fix


def test_a_limit_that_other_code_has_set_is_named(
    brain: Path, spec: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    error = refused(brain, spec, tmp_path, saved(SEEN))
    assert "PIL.Image.MAX_IMAGE_PIXELS allows, which other code has set to 1000" in error.got
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    huge = png(np.zeros((1, 1), int), 0, 8)
    huge = huge[:8] + chunk(b"IHDR", b"\0\1\0\0\0\1\0\0\x08\0\0\0\0") + huge[33:]
    assert "65536 × 65536 pixels" in refused(brain, spec, tmp_path, huge).got


def test_a_format_that_other_code_has_taught_to_pillow_is_not_read(
    brain: Path, spec: CacheSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(ImageFile.ImageFile):
        format, format_description = "OWN", "of a plug-in"

        def _open(self) -> None:
            self._size, self._mode = (2, 2), "RGB"
            self.tile = [ImageFile._Tile("raw", (0, 0, 2, 2), 4, "RGB")]

    Image.init()
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    Image.register_open("OWN", Own, lambda start: start.startswith(b"OWN!"))
    data = b"OWN!" + bytes(range(12))
    assert Image.open(BytesIO(data)).convert("RGB").size == (2, 2)
    assert "none of the formats" in refused(brain, spec, tmp_path, data).got


def outcomes(folder: Path, whole: bytes, damaged: list[bytes]) -> list[str]:
    """What each of these files is read as: 'refused', 'same' pixels as the whole one, or 'other'."""
    path = folder / "a"
    stimuli = Stimuli(("a",), (path,))
    path.write_bytes(whole)
    expected, found = stimuli.image(0).tobytes(), []
    for data in damaged:
        path.write_bytes(data)
        try:
            found.append("same" if stimuli.image(0).tobytes() == expected else "other")
        except DataError:
            found.append("refused")
    return found


SMALL = scene(3, 40)
WHOLE = {
    "PNG": saved(SMALL),
    "PNG with a palette": saved(Image.fromarray(SMALL).quantize(16)),
    "PNG with notes": png(rgba(SMALL, SMALL[:, :, 0]), 6, 8, chunk(b"tEXt", b"Title\0a"), chunk(b"gAMA", b"\0\0\1\0")),
    "JPEG": saved(SMALL, "JPEG"),
    "JPEG in grey": saved(Image.fromarray(SMALL).convert("L"), "JPEG"),
    "progressive JPEG": saved(SMALL, "JPEG", progressive=True),
    "JPEG with restarts": saved(SMALL, "JPEG", restart_marker_blocks=2),
    "CMYK JPEG": saved(Image.fromarray(SMALL).convert("CMYK"), "JPEG"),
    "JPEG with EXIF": turned(SMALL, "JPEG"),
    "WebP": saved(SMALL, "WEBP"),
    "WebP without loss": saved(SMALL, "WEBP", lossless=True),
    "GIF": saved(Image.fromarray(SMALL).quantize(32), "GIF"),
    "BMP": saved(SMALL, "BMP"),
    "TIFF": saved(SMALL, "TIFF"),
    "compressed TIFF": saved(SMALL, "TIFF", compression="tiff_lzw"),
    "PPM": saved(SMALL, "PPM"),
    "JPEG 2000": saved(SMALL, "JPEG2000"),
    "AVIF": saved(SMALL, "AVIF"),
}


@pytest.mark.filterwarnings("ignore:.*(Corrupt EXIF data|Truncated File Read):UserWarning")
@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_anywhere_is_refused(name: str, tmp_path: Path, long: bool) -> None:
    whole = WHOLE[name]
    cuts = range(len(whole)) if long else {*range(0, len(whole), 17), *range(len(whole) - 40, len(whole))}
    assert set(outcomes(tmp_path, whole, [whole[:n] for n in cuts])) == {"refused"}


@pytest.mark.parametrize("name", [name for name in WHOLE if name.startswith("PNG")])
def test_a_png_with_a_flipped_bit_anywhere_is_refused(name: str, tmp_path: Path, long: bool) -> None:
    whole, rng = WHOLE[name], np.random.default_rng(0)
    flipped = [
        patched(whole, at, whole[at] ^ 1 << int(rng.integers(8))) for at in range(0, len(whole), 1 if long else 5)
    ]
    assert set(outcomes(tmp_path, whole, flipped)) == {"refused"}


def test_a_jpeg_that_ends_in_grey_is_whole(tmp_path: Path) -> None:
    grey = SEEN.copy()
    grey[60:] = 128
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(grey, "JPEG"))
    assert Stimuli(("a",), (path,)).image(0).getpixel((111, 111)) == (128, 128, 128)
