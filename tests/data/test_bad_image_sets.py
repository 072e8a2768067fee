"""What is wrong with an image set is one message that names the place, and a command says it before any training."""

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.data.plugins import dataset_kinds
from data.image_trees import (
    CARD,
    ISIC_START,
    eurosat,
    folders,
    hub,
    hub_rows,
    hub_table,
    isic2018,
    jpeg,
    table,
    write,
)

Spoil = Callable[[Path], object]
ZIP = b"PK\3\4" + bytes(40)


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of a command, with its lines joined."""
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def refused(name: str, *words: str) -> None:
    """Assert that `bddn data check` refuses a set with one message, which contains these words."""
    code, output = run("data", "check", name)
    assert code == 2, output
    assert output.count("error: ") == 1
    message = output[output.index("error: ") :]
    for part in (*words, "expected ", "; got "):
        assert part in message, message
    assert "good" not in output


def link(target: str | Path, at: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(target)


def instead_of(part: str, change: Callable[[Path], object] = lambda at: None) -> Spoil:
    """Remove a folder of the set, or all of it, and then do this to the set."""

    def spoil(at: Path) -> None:
        shutil.rmtree(at / part)
        change(at)

    return spoil


def flatten(at: Path) -> None:
    for path in [*at.glob("*/*.jpg")]:
        path.rename(at / path.name)
    for folder in ("cat", "dog"):
        (at / folder).rmdir()


def keep_one_dog(at: Path) -> None:
    for i in range(2, 7):
        (at / f"dog/dog_{i}.jpg").unlink()


def sixteen_bits(path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(path.with_suffix(".png"))


FOLDERS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "no folder": (shutil.rmtree, ("no such folder",)),
    "an empty folder": (instead_of("", Path.mkdir), ("got no image",)),
    "a file": (instead_of("", lambda at: write(at, jpeg((0,)))), ("got an image",)),
    "an archive": (
        instead_of("", lambda at: write(at, ZIP)),
        ("got a ZIP archive. Unpack it, and give the unpacked folder.",),
    ),
    "an archive that was not unpacked": (
        instead_of("", lambda at: write(at / "EuroSAT.zip", ZIP)),
        ("got EuroSAT.zip that is a ZIP archive. Unpack it",),
    ),
    "images without folders": (
        flatten,
        ("got 12 images without a folder of its class: cat_1.jpg, cat_2.jpg,", "csv:FILE.csv,images=FOLDER"),
    ),
    "one class": (
        lambda at: shutil.rmtree(at / "dog"),
        ("at least two classes; got only the class 'cat', with 6 images",),
    ),
    "a class without an image": (lambda at: (at / "cow/empty").mkdir(parents=True), ("got no image in cow",)),
    "a class whose images are hidden": (
        lambda at: write(at / "cow/._a.jpg", b"x"),
        ("images in the folder of every class; got no image in cow",),
    ),
    "two classes that differ by case": (
        lambda at: shutil.copytree(at / "cat", at / "Cat"),
        ("'Cat' and 'cat'", "Rename"),
    ),
    "two classes that differ by how an accent is written": (
        lambda at: (
            shutil.copytree(at / "cat", at / "\u00e9t\u00e9"),
            shutil.copytree(at / "dog", at / "e\u0301te\u0301"),
        ),
        ("differ by more than case and spaces",),
    ),
    "a class that cannot be printed": (lambda at: (at / "cat").rename(at / "c\nat"), ("'c\\nat'", "Rename")),
    "classes beside parts": (
        lambda at: folders(at / "train", {"cat": 1, "dog": 1}),
        ("or only the parts train; got other folders beside them: cat, dog",),
    ),
    "a link to a folder": (lambda at: link("dog", at / "wolf"), ("got a link to the folder", "Copy the images")),
    "a link out of the folder": (
        lambda at: link(write(at.parent / "private.jpg", jpeg((9,))), at / "cat/x.jpg"),
        ("cat/x.jpg: expected a file in", "private.jpg. Copy the images"),
    ),
    "a link to nothing": (lambda at: link("gone.jpg", at / "cat/x.jpg"), ("cat/x.jpg: expected a readable image",)),
    "a corrupt image": (
        lambda at: write(at / "cat/cat_2.jpg", jpeg((0,))[:300]),
        ("cat/cat_2.jpg: expected a readable image for stimulus 'cat/cat_2.jpg'", "damaged", "Restore the file"),
    ),
    "three corrupt images": (
        lambda at: [write(at / f"dog/dog_{i}.jpg", b"") for i in (1, 2, 3)],
        ("3 images: expected readable images", "dog_1.jpg (an empty file (0 bytes))", "dog_3.jpg"),
    ),
    "an image of 16 bits": (
        lambda at: sixteen_bits(at / "cat/x.png"),
        ("cat/x.png", "16 bits per channel", "Convert it"),
    ),
    "a Git LFS pointer": (
        lambda at: write(at / "cat/x.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n"),
        ("a Git LFS pointer", "git lfs pull"),
    ),
    "one image of a class": (
        keep_one_dog,
        ("1 image of each class to train on, and at least one more to evaluate on; got 1 of class 'dog'. Add images",),
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_bad_folder_is_refused_in_words(tmp_path: Path, case: str) -> None:
    root = folders(tmp_path / "set", {"cat": 6, "dog": 6})
    spoil, words = FOLDERS[case]
    spoil(root)
    refused(f"folder:{root}", *words)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = folders(tmp_path, {"cat": 2, "dog": 2}), os.scandir

    def denied(path: Path) -> object:
        if path.name == "dog":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", denied)
    refused(f"folder:{root}", "dog: expected a folder that can be listed; got Permission denied")


TABLES = {
    "a label without a file": (
        "image,label\na,x\ne,y\n",
        ("for each of the 2 rows with a class; got none for 1 of them, e",),
    ),
    "a name that differs by case": (
        "image,label\na,x\nB,y\n",
        ("none for 1 of them, B; b.jpg differs from one of them only by case",),
    ),
    "a path out of the folder": ("image,label\na,x\n../b.jpg,y\n", ("'../b.jpg', which leads out of it",)),
    "a path of Windows": ("image,label\na,x\nC:\\data\\b.jpg,y\n", ("'C:\\data\\b.jpg', as on Windows", "by /")),
    "a path from the root": ("image,label\na,x\n/etc/passwd,y\n", ("'/etc/passwd', which leads out of it",)),
    "a name that means two images": ("image,label\na,x\nc,y\n", ("'c', which means c.jpg, c.png",)),
    "an image twice": (
        "image,label\na,x\nb,y\na.jpg,x\n",
        ("got 1 image with several rows, here with their classes: a.jpg (x, x)",),
    ),
    "an image with two labels": ("image,label\na,x\nb,y\na,y\n", ("a.jpg (x, y). Keep one row of each",)),
    "no class": ("image,x,y\na,1,0\nb,0,0\nd,0,1\n", ("1 in exactly one of x, y in every row", "got no class for 'b'")),
    "two classes": ("image,x,y\na,1,1\nb,0,1\nd,1,0\n", ("got x and y for 'a'",)),
    "a part of a class": ("image,x,y\na,0.5,0.5\nb,0,1\nd,1,0\n", ("got x 0.5 and y 0.5 for 'a'",)),
    "an empty cell of one-hot": ("image,x,y\na,1,\nb,0,1\nd,1,0\n", ("got x and y empty for 'a'",)),
    "one class": ("image,label\na,x\nb,x\n", ("got only the class 'x', with 2 images",)),
    "no class at all": ("image,label\na,\nb,\n", ("got no image with a class",)),
    "classes that are one number": ("image,label\na,1\nb,2\nd,2.0\n", ("got '2' and '2.0'", "give it one name")),
    "classes that differ by case": ("image,label\na,mel\nb,MEL\n", ("'MEL' and 'mel'",)),
    "no column of images": (
        "picture,label\na,x\nb,y\n",
        ("the file name of an image; got the columns picture, label", "',name=COLUMN'"),
    ),
    "no column of classes": (
        "image,age,place\na,50,arm\nb,20,leg\n",
        ("got the columns image, age, place", "',label=COLUMN'"),
    ),
    "two columns of classes": ("image,label,dx\na,1,x\nb,2,y\n", ("one column with classes instead of label and dx",)),
    "two columns of classes that differ by case": (
        "image,label,Label\na,1,x\nb,2,y\n",
        ("one column with classes instead of label and Label",),
    ),
    "a row without a name": ("image,label\na,x\n,y\n", ("got none for 1 of them, an empty name",)),
    "a column twice": ("image,label,label\na,x,y\n", ("a header of different names",)),
    "a row that is too long": ("image,label\na,x\nb,y,z\n", ("got 3 columns in row 2 below a header of 2",)),
    "only a header": ("image,label\n", ("got 0 rows below the header image, label",)),
    "nothing": ("", ("an empty file",)),
    "a page": ("<!DOCTYPE html><html></html>", ("an HTML page",)),
    "a pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", ("a Git LFS pointer",)),
}


@pytest.mark.parametrize("case", TABLES)
def test_a_bad_table_is_refused_in_words(tmp_path: Path, case: str) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg", "c.png", "d.jpg"):
        write(tmp_path / f"photos/{name}", jpeg((ord(name[0]),)))
    text, words = TABLES[case]
    write(tmp_path / "table.csv", text.encode())
    refused(f"csv:{tmp_path}/table.csv,images={tmp_path}/photos", *words)


def test_tables_that_cannot_be_read_and_columns_that_are_not_there_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "photos/a.jpg", jpeg((0,)))
    file = table(tmp_path / "t.csv", [["image", "label"], ["a", "x"]])
    refused(f"csv:{tmp_path}/no.csv", "no.csv: expected a CSV file in UTF-8", "no such file")
    refused(f"csv:{tmp_path}/photos", "got a folder")
    refused(f"csv:{file},label=dx", "expected column 'dx'; got the columns image, label")
    refused(f"csv:{file},labels=dx", "each of the options images, name, label, group at most once; got labels=dx")
    refused(f"csv:{file},images={tmp_path}/no", "no such folder", "',images=FOLDER'")
    refused(f"csv:{file}?images={tmp_path}", "no such file")
    zipped = write(tmp_path / "z.csv", gzip.compress(file.read_bytes()))
    refused(f"csv:{zipped}", "a gzip archive")
    latin = write(tmp_path / "l.csv", "image,label\na,é\n".encode("latin-1"))
    refused(f"csv:{latin}", "utf-8")


ISIC_FAULTS: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "no classes": (lambda at: shutil.rmtree(at / f"{ISIC_START}GroundTruth"), (f"got no {ISIC_START}GroundTruth.csv",)),
    "no images": (lambda at: shutil.rmtree(at / f"{ISIC_START}Input"), (f"got no image in {ISIC_START}Input/",)),
    "images in their archive": (
        instead_of(f"{ISIC_START}Input", lambda at: write(at / f"{ISIC_START}Input.zip", ZIP)),
        (f"got {ISIC_START}Input.zip that is a ZIP archive. Unpack it",),
    ),
    "other classes": (
        lambda at: table(
            at / f"{ISIC_START}GroundTruth/{ISIC_START}GroundTruth.csv", [["image", "MEL", "SCC"], ["a", 1, 0]]
        ),
        ("expected the columns image, MEL, NV, BCC, AKIEC, BKL, DF, VASC; got image, MEL, SCC",),
    ),
    "an image that is lost": (
        lambda at: (at / f"{ISIC_START}Input/ISIC_0024306.jpg").unlink(),
        ("for each of the 42 rows with a class; got none for 1 of them, ISIC_0024306",),
    ),
    "other lesions": (
        lambda at: table(at / f"{ISIC_START}LesionGroupings.csv", [["a", "b"], ["c", "d"]]),
        ("image and lesion_id; got a, b",),
    ),
}


@pytest.mark.parametrize("case", ISIC_FAULTS)
def test_a_bad_copy_of_isic2018_is_refused_in_words(tmp_path: Path, case: str) -> None:
    root = isic2018(tmp_path / "isic")
    spoil, words = ISIC_FAULTS[case]
    spoil(root)
    refused(f"isic2018:{root}", *words)


TRAIN = "data/train-00000-of-00001.parquet"


def with_rows(*changes: object) -> Spoil:
    """Rows with these images or labels in place of those of the first rows."""

    def spoil(at: Path) -> None:
        rows = hub_rows(0, 6)
        for row, change in zip(rows, changes, strict=False):
            row.update({"label": change} if isinstance(change, int) else {"image": change})
        hub_table(at / TRAIN, rows)

    return spoil


HUB: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "no tables": (lambda at: shutil.rmtree(at / "data"), ("Parquet or Arrow tables, images with metadata.csv",)),
    "a damaged Arrow file": (
        instead_of("data", lambda at: write(at / "data-00000-of-00001.arrow", b"ARROW1 and no more")),
        ("data-00000-of-00001.arrow: expected a table in Parquet or Arrow; got a damaged file",),
    ),
    "a damaged table": (lambda at: write(at / TRAIN, (at / TRAIN).read_bytes()[:-9]), (TRAIN, "a damaged file")),
    "a pointer": (
        lambda at: write(at / TRAIN, b"version https://git-lfs.github.com/spec/v1\n"),
        ("a Git LFS pointer",),
    ),
    "several configurations": (
        lambda at: write(
            at / "README.md", CARD.replace("license: mit", "configs:\n- config_name: a\n- config_name: b").encode()
        ),
        ("one configuration of a dataset; got 2 in README.md: a, b",),
    ),
    "tables of two sets": (
        lambda at: hub_table(at / TRAIN, [{"image": row["image"], "coarse": 1} for row in hub_rows(0, 6)]),
        ("train-00000-of-00001.parquet: expected the columns image, label", "got the columns image, coarse"),
    ),
    "a class out of range": (with_rows(7), ("numbers of 3 classes from 0; got 7 in row 0",)),
    "images by their paths": (
        with_rows({"bytes": None, "path": "/a/0.jpg"}),
        ("row 0: expected a readable image", "only the path /a/0.jpg, not the image", "folder:PATH"),
    ),
    "an empty cell": (
        with_rows({"bytes": b"", "path": None}),
        ("row 0: expected a readable image", "got an empty cell"),
    ),
    "a corrupt image": (
        with_rows({"bytes": jpeg((0,))[:200], "path": None}),
        (f"{TRAIN}, row 0: expected a readable", "damaged"),
    ),
    "no column of images": (
        lambda at: [pq.write_table(pa.table({"label": [0, 1]}), path) for path in at.glob("data/*")],
        ("one column of images; got none of the columns label",),
    ),
}


@pytest.mark.parametrize("case", HUB)
def test_a_bad_set_of_the_hub_is_refused_in_words(tmp_path: Path, case: str) -> None:
    root = hub(tmp_path / "set")
    spoil, words = HUB[case]
    spoil(root)
    refused(f"huggingface:{root}", *words)


def test_options_of_the_hub_name_columns(tmp_path: Path) -> None:
    root = hub(tmp_path)
    refused(f"huggingface:{root},label=dx", "expected the column 'dx'; got the columns image, label")
    refused(f"huggingface:{root},group=dx", "expected the column 'dx'; got the columns image, label")


def test_a_row_group_that_does_not_fit_in_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bddn.data.image_sets.table_images.MAX_GROUP_BYTES", 1000)
    refused(f"huggingface:{hub(tmp_path)}", "row groups of at most", "batch_size=100")


def test_more_images_than_there_are_is_refused_with_the_number_that_is_possible(tmp_path: Path) -> None:
    root = folders(tmp_path / "set", {"cat": 6, "dog": 9, "cow": 9})
    code, output = run("data", "check", f"folder:{root}", "--per-class", 8)
    assert code == 2
    assert "got 6 of class 'cat'. Use --per-class 5, or less." in output
    code, output = run("data", "check", f"folder:{root}", "--per-class", 5)
    assert code == 0, output
    assert "good: 5 (at most 5) training images per class, 15 in all; 9 are left to evaluate on" in output


def test_what_is_in_an_image_set_is_printed(tmp_path: Path) -> None:
    root = eurosat(tmp_path / "EuroSAT", 4)
    (root / "2750/River/River_4.jpg").unlink()
    write(root / "2750/Forest/cmyk.jpg", b"")
    Image.new("CMYK", (64, 64), (9, 90, 9, 0)).save(root / "2750/Forest/cmyk.jpg")
    Image.new("RGB", (32, 20)).save(root / "2750/Highway/small.png")
    write(root / "2750/Highway/notes.txt", b"x")
    code, output = run("data", "check", f"folder:{root}")
    assert code == 0, output
    for words in (
        f"image set folder:{root}",
        "images 41 of 10 classes, 64 × 64 (40), 32 × 20 (1), in pixels",
        "groups none",
        "class images share",
        "AnnualCrop 4 9.8 %",
        "River 3 7.3 %",
        "note: ignored: 1 file whose name is not that of an image, 2750/Highway/notes.txt",
        "note: classes differ in size, from 3 (River) to 5 (Forest) images; the same number of each is trained on",
        f"note: CMYK colours are converted without a colour profile in 1 image, the first {root}/2750/Forest/cmyk.jpg",
        "good: at most 2 training images per class, 20 in all; 21 are left to evaluate on",
    ):
        assert words in output
    code, output = run("data", "check", f"isic2018:{isic2018(tmp_path / 'isic')}")
    assert code == 0, output
    for words in (
        "42 of 7 classes, 12 × 9 pixels",
        "28, each in one part",
        "class images share groups",
        "MEL 6 14.3 % 4",
    ):
        assert words in output


def test_a_name_that_is_no_set_is_refused_with_all_kinds(tmp_path: Path) -> None:
    kinds = ", ".join((*dataset_kinds(), "folder", "csv", "isic2018", "huggingface"))
    refused("eurosat:x", f"{kinds}; got KIND 'eurosat'. See 'bddn datasets'.")
    code, output = run("datasets")
    assert code == 0
    for words in (
        "algonauts:PATH/subj01",
        "folder:PATH",
        "csv:FILE.csv,images=FOLDER",
        "isic2018:PATH",
        "huggingface:PATH",
    ):
        assert words in output


@pytest.mark.parametrize("unknown", ["NA", "None", "nan"])
def test_classes_that_may_mean_none_are_told(tmp_path: Path, unknown: str) -> None:
    for k, name in enumerate("abcd"):
        write(tmp_path / f"{name}.jpg", jpeg((k,)))
    write(tmp_path / "table.csv", f"image,label\na,x\nb,{unknown}\nc,{unknown}\nd,x\n".encode())
    code, output = run("data", "check", f"csv:{tmp_path}/table.csv")
    assert code == 0
    assert f"note: '{unknown}' is taken for a class, of 2 images. If it means that the class is unknown" in output
