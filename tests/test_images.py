"""Which files are images, by their names, and what commands tell of how images are read."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.run import Run
from bddn.spec import CacheSpec
from bddn.store.reader import Cache
from data.pictures import saved, scene

APPLE_DOUBLE = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4096)


@pytest.fixture
def own(brain: Path, tmp_path: Path) -> Planted:
    """A copy of the planted brain, to be changed."""
    return Planted(Path(shutil.copytree(brain, tmp_path / "brain")))


@pytest.fixture
def spec_file(spec: CacheSpec, tmp_path: Path) -> Path:
    path = tmp_path / "planted.yaml"
    path.write_text(yaml.safe_dump(spec.to_dict()))
    return path


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of a command."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def images_of(data: Planted) -> Path:
    return data.stimuli.paths[0].parent


def test_hidden_files_beside_the_images_change_nothing(
    own: Planted, spec_file: Path, sealed: Path, tmp_path: Path
) -> None:
    images = images_of(own)
    for path in [*images.iterdir()]:
        (images / f"._{path.name}").write_bytes(APPLE_DOUBLE)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.png", ".~lock.train-0001.png#"):
        (images / name).write_bytes(b"notes of a file manager")
    code, output = run("extract", spec_file, "--data", f"planted:{tmp_path / 'brain'}", "--out", tmp_path / "new.zarr")
    assert code == 0, output
    assert "note:" not in output
    assert Cache(tmp_path / "new.zarr").digest == Cache(sealed).digest


def test_a_suffix_in_capitals_is_read(own: Planted, spec: CacheSpec, sealed: Path, tmp_path: Path) -> None:
    for path in own.stimuli.paths[::3]:
        path.rename(path.with_suffix(".PNG"))
    extract(spec, Planted(tmp_path / "brain"), tmp_path / "new.zarr")
    assert Cache(tmp_path / "new.zarr").digest == Cache(sealed).digest


def test_all_that_is_wrong_with_the_names_is_told_at_once(own: Planted, spec_file: Path, tmp_path: Path) -> None:
    images = images_of(own)
    first, second, third, fourth = sorted(images.iterdir())[:4]
    arabic = "train-٠٠٠٩_nsd-00069.png"
    for name in ("notes.png", "a.jpg", "b.JPEG", "train-0001_nsd-00013 (1).png", "train-0001.png", arabic):
        shutil.copy(first, images / name)
    second.rename(images / "train-0001_nsd-77777.png")
    third.unlink()
    fourth.rename(images / "train-0004_nsd-00013.png")
    code, output = run("extract", spec_file, "--data", f"planted:{tmp_path / 'brain'}", "--out", tmp_path / "new.zarr")
    message = " ".join(output.split())
    assert code == 2
    assert message.count("error: ") == 1
    for words in (
        "misnamed images (6): a.jpg, b.JPEG, notes.png, train-0001.png, train-0001_nsd-00013 (1).png, …",
        "numbers used by more than one image (1): train-0001_nsd-77777.png",
        "numbers without an image (2): train-0002, train-0003",
        "repeated NSD images (1): nsd-00013",
    ):
        assert words in message
    assert not (tmp_path / "new.zarr").exists()


NAMES = {
    "Japanese": "写真 一.png",
    "composed": unicodedata.normalize("NFC", "Ångström é.png"),
    "decomposed, as macOS lists it": unicodedata.normalize("NFD", "Ångström é.png"),
    "Arabic": "صورة.png",
    "Persian with a zero-width non-joiner": "می‌خواهم.png",
    "Hindi with a joiner": "क्‍ष.png",
    "a narrow no-break space, as in macOS's screenshots": "Screenshot 2026-01-02 at 3.04.05\u202fPM.png",
    "an ideographic space": "写真\u3000二.png",
    "emoji with joiners": "👩‍🔬.png",
    "dollars, which matplotlib may take for mathematics": "cost $5 \\frac $.png",
    "quotes, commas and signs": "a, \"b\" & <c> 'd' #1 100%.png",
}


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font:UserWarning")  # a figure then has boxes for letters
def test_pictures_are_named_in_any_script(quick_run: Run, spec_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for k, name in enumerate(NAMES.values()):
        (folder / name).write_bytes(saved(scene(k)))
        (folder / f"._{name}").write_bytes(APPLE_DOUBLE)
    code, output = run(
        "predict", quick_run.folder, folder, "--spec", spec_file, "--device", "cpu", "--out", tmp_path / "out"
    )
    assert code == 0, output
    table = pd.read_csv(tmp_path / "out/images.csv")
    assert table["file"].tolist() == sorted(str(folder / name) for name in NAMES.values())
    assert len(list((tmp_path / "out/maps").iterdir())) == 2 * len(NAMES)
    again = run("predict", quick_run.folder, folder, "--spec", spec_file, "--device", "cpu", "--out", tmp_path / "out")
    assert again[0] == 0
    assert "predicted before, kept" in again[1]


def test_all_that_is_wrong_with_pictures_is_told_at_once(quick_run: Run, spec_file: Path, tmp_path: Path) -> None:
    folder, empty = tmp_path / "in", tmp_path / "empty"
    empty.mkdir()
    folder.mkdir()
    (empty / "._a.png").write_bytes(APPLE_DOUBLE)
    (folder / "good.png").write_bytes(saved(scene()))
    (folder / "line\nbreak.png").write_bytes(saved(scene()))
    Path(os.fsdecode(os.fsencode(folder) + b"/latin-\xe9.png")).write_bytes(saved(scene()))
    (folder / "inner.png").mkdir()
    (folder / "gone.png").symlink_to(".git/annex/objects/MD5E-s1--0.png")
    (folder / "deep.png").write_bytes(saved(np.zeros((9, 9), np.uint16)))
    (folder / "cut.jpg").write_bytes(saved(scene(), "JPEG")[:900])
    os.mkfifo(folder / "pipe.png")
    code, output = run("predict", quick_run.folder, folder, empty, "--spec", spec_file, "--out", tmp_path / "out")
    message = " ".join(output.split())
    assert code == 2
    assert message.count("error: ") == 1
    for words in (
        "8 images: expected readable images",
        f"{empty} (a folder without .png, .jpg, .jpeg)",
        "line\\nbreak.png' (a name that cannot be printed)",
        "latin-\\udce9.png' (a name that cannot be printed)",
        "inner.png (a folder)",
        "gone.png (a git-annex link whose content is not on this machine)",
        "deep.png (16 bits per channel, of which only 8 would be read)",
        "cut.jpg (the file is cut short)",
        "pipe.png (not a regular file",
        "git annex get",
    ):
        assert words in message, message
    assert "good.png" not in message
    assert not (tmp_path / "out").exists()


def odd_images(paths: list[Path]) -> None:
    """Put a picture with a transparent part in the place of the first three, and one that asks to be turned."""
    seen = scene(5)
    for path in paths[:3]:
        alpha = np.full(seen.shape[:2], 255, np.uint8)
        alpha[:50] = 0
        path.write_bytes(saved(np.dstack([seen, alpha])))
    exif = Image.Exif()
    exif[0x0112] = 6
    paths[3].write_bytes(saved(seen, exif=exif))


def test_what_is_told_of_images_is_told_alike_by_every_command(
    own: Planted, spec: CacheSpec, spec_file: Path, quick_run: Run, tmp_path: Path
) -> None:
    paths = list(own.stimuli.paths[:4])
    odd_images(paths)
    notes = [
        f"an EXIF rotation is not applied to 1 image, the first {paths[3]}",
        f"transparent parts become white in 3 images, the first {paths[0]}",
    ]
    data = f"planted:{tmp_path / 'brain'}"
    code, output = run("extract", spec_file, "--data", data, "--out", tmp_path / "new.zarr")
    assert code == 0, output
    for words in notes:
        assert f"note: {words}\n" in output
    code, output = run("plan", spec_file, "--data", data, "--device", "cpu")
    assert code == 0, output
    for words in notes:
        assert f"note     among the tried images, {words}\n" in output
    code, output = run(
        "predict", quick_run.folder, *paths, "--spec", spec_file, "--device", "cpu", "--out", tmp_path / "out"
    )
    assert code == 0, output
    for words in notes:
        assert f"note: {words}\n" in output
    with pytest.warns(UserWarning, match=r"images?, the first") as told:
        extract(spec, Planted(tmp_path / "brain"), tmp_path / "again.zarr")
    assert [str(one.message) for one in told] == notes


def test_hidden_files_among_specs_are_no_specs(
    spec_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "specs"
    folder.mkdir()
    shutil.copy(spec_file, folder / "mine.yaml")
    (folder / "._mine.yaml").write_bytes(APPLE_DOUBLE)
    monkeypatch.setattr("bddn.backbones.registry.spec_folder", lambda: folder)
    code, output = run("backbones")
    assert code == 0, output
    assert "mine" in output
    assert "._mine" not in output
