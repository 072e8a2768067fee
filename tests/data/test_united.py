"""Images of several sources together: each once, by its pixels; other ids are kept, and one id is one image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bddn.data.array_images import ArrayImages
from bddn.data.checking import check_images
from bddn.data.dataset import Stimuli, pixels_sha256
from bddn.data.united import open_subjects, unite
from bddn.errors import DataError


@dataclass(frozen=True)
class Shown:
    """A folder of PNG files, a BMP of the first of them, and an array of the last two and another one."""

    files: Stimuli
    copy: Stimuli
    array: Stimuli


@pytest.fixture
def shown(tmp_path: Path) -> Shown:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    paths = tuple(tmp_path / f"{k}.png" for k in range(3))
    for path, one in zip(paths, pixels, strict=False):
        Image.fromarray(one).save(path)
    Image.fromarray(pixels[0]).save(tmp_path / "copy.bmp")
    np.save(tmp_path / "array.npy", pixels[1:])
    array = tmp_path / "array.npy"
    return Shown(
        Stimuli(("a", "b", "c"), paths),
        Stimuli(("a",), (tmp_path / "copy.bmp",)),
        Stimuli(("b", "last", "d"), (array,) * 3, (0, 1, 2), ArrayImages()),
    )


def test_each_image_is_there_once_whatever_its_file(shown: Shown) -> None:
    found = unite([shown.files, shown.copy, shown.array])
    assert found.ids == ("a", "b", "c", "d")
    assert found.aliases == {"last": "c"}
    for row, (stimuli, own) in enumerate([(shown.copy, 0), (shown.array, 0), (shown.array, 1), (shown.array, 2)]):
        image = stimuli.image(own)
        np.testing.assert_array_equal(np.asarray(found.image(row)), np.asarray(image))
        assert found.sha256(row) == pixels_sha256(image) == stimuli.pixels_sha256(own)
    assert found.sha256(1) == shown.array.sha256(0)  # what an array gives is its pixels
    assert found.sha256(0) != shown.files.sha256(0)


def test_images_are_decoded_once_to_find_and_check_them(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    found = unite([shown.files, shown.array])
    with monkeypatch.context() as patch:
        patch.setattr(Stimuli, "decoded", lambda *_: pytest.fail("decoded again"))
        checked = check_images(found)
    assert checked.sha256 == [found.sha256(row) for row in range(4)]
    assert check_images(found.absolute()).sha256 == checked.sha256
    part = found.part([3, 1])
    assert part.ids == ("d", "b")
    assert check_images(part).sha256 == [checked.sha256[3], checked.sha256[1]]
    assert part.place(0).endswith("array.npy, row 2")


def test_an_image_in_a_file_that_several_share_is_read_once(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    pixels = ArrayImages.pixels

    def noted(images: ArrayImages, file: Path, row: int) -> np.ndarray:
        read.append(row)
        return pixels(images, file, row)

    monkeypatch.setattr(ArrayImages, "pixels", noted)
    assert unite([shown.array, shown.array.part([2, 1]), shown.array]).ids == ("b", "last", "d")
    assert sorted(read) == [0, 1, 2]


def test_one_id_of_two_images_is_an_error_that_names_both(shown: Shown, tmp_path: Path) -> None:
    other = Stimuli(("b", "c", "new"), (shown.files.paths[0],) * 3)
    with pytest.raises(DataError) as error:
        unite([shown.files, other])
    text = str(error.value)
    assert f"stimulus 'b': expected one image for each id, in all datasets that share a cache; got {tmp_path}" in text
    assert "1.png and" in text
    assert "0.png, whose pixels differ; 2 ids with two images" in text
    assert "a cache each" in text


def test_all_damaged_images_are_named(shown: Shown, tmp_path: Path) -> None:
    for k in (0, 2):
        (tmp_path / f"{k}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png.*2\.png"):
        unite([shown.files, shown.array])


def test_one_dataset_given_twice_is_that_dataset(brain: Path) -> None:
    assert open_subjects([f"planted:{brain}"] * 2).name == f"planted:{brain}"
