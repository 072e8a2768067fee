"""Image sets are read as downloaded, and every image with its class and group."""

import hashlib
import json
import pickle
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from bddn.data.image_sets.class_split import class_split
from bddn.data.image_sets.kinds import open_images
from bddn.data.image_sets.labelled import LabelledImages
from bddn.data.image_sets.set_check import check_image_set
from bddn.errors import DataError
from data.image_trees import (
    CARD,
    EUROSAT,
    ISIC,
    ISIC_START,
    NAMES,
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


def classes_of(images: LabelledImages) -> dict[str, str]:
    """The class of each image by its id."""
    return {one: images.classes[k] for one, k in zip(images.stimuli.ids, images.labels, strict=True)}


@pytest.mark.parametrize("given", ["", "2750"])
def test_eurosat_is_read_as_downloaded(tmp_path: Path, given: str) -> None:
    root = eurosat(tmp_path / "EuroSAT")
    write(root / "2750/.DS_Store", b"x")
    write(root / "2750/Forest/._Forest_1.jpg", b"x")
    write(root / "__MACOSX/2750/Forest/._Forest_1.jpg", b"x")
    write(root / "2750/Forest/Thumbs.db", b"x")
    write(root / "2750/River/Icon\r", b"")
    for folder in ("2750", "2750/Forest"):  # a network disk of Synology
        (root / folder / "@eaDir/Forest_1.jpg").mkdir(parents=True)
        shutil.copy(root / "2750/Forest/Forest_1.jpg", root / folder / "@eaDir/Forest_1.jpg/SYNOPHOTO_THUMB_M.jpg")
    images = open_images(f"folder:{root / given}")
    assert images.classes == EUROSAT
    assert images.counts() == dict.fromkeys(EUROSAT, 3)
    assert classes_of(images) == {f"{name}/{name}_{i}.jpg": name for name in EUROSAT for i in (1, 2, 3)}
    assert (images.groups, images.notes) == (None, ())
    row = images.stimuli.ids.index("River/River_2.jpg")
    assert images.stimuli.sha256(row) == open_images(f"folder:{root}").stimuli.sha256(row)
    assert images.stimuli.paths[row] == root / "2750/River/River_2.jpg"


def test_isic2018_is_read_as_downloaded_and_lesions_stay_together(tmp_path: Path) -> None:
    root = isic2018(tmp_path / "isic", n_lesions=4)
    images = open_images(f"isic2018:{root}")
    assert images.classes == ISIC
    assert images.counts() == dict.fromkeys(ISIC, 6)
    assert images.groups is not None
    assert len(set(images.groups)) == 4 * len(ISIC)
    assert images.notes == (
        f"classes: the 7 columns {', '.join(ISIC)}; groups that stay together: the column lesion_id",
    )
    for seed in range(20):
        split = class_split(images, 3, seed)
        lesions = [{images.groups[row] for row in rows} for rows in (split.train, split.test)]
        assert not lesions[0] & lesions[1]
    deeper = tmp_path / "unpacked"
    shutil.move(root / f"{ISIC_START}Input", deeper / f"{ISIC_START}Input" / f"{ISIC_START}Input")
    for name in (f"{ISIC_START}GroundTruth", f"{ISIC_START}LesionGroupings.csv"):
        shutil.move(root / name, deeper / f"{ISIC_START}GroundTruth" / name)
    again = open_images(f"isic2018:{deeper}")  # each archive unpacked into a folder of its own name
    assert (again.groups, {*classes_of(again).values()}) == (images.groups, {*ISIC})


def test_isic2018_without_lesions_says_so(tmp_path: Path) -> None:
    images = open_images(f"isic2018:{isic2018(tmp_path, lesions=False)}")
    assert images.groups is None
    assert images.notes[0].startswith("lesions are unknown: one lesion may be in training and in test images")
    table(tmp_path / f"{ISIC_START}LesionGroupings.csv", [["image", "lesion_id"], ["ISIC_0024306", "HAM_1"]])
    some = open_images(f"isic2018:{tmp_path}")
    assert some.notes[0] == "the lesion of 41 images is unknown, the first ISIC_0024313"
    assert some.groups is not None
    assert len(set(some.groups)) == 42


def test_the_metadata_of_ham10000_are_a_table_of_labels_and_lesions(tmp_path: Path) -> None:
    rows = [["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]]
    for i in range(6):
        write(tmp_path / f"HAM10000_images_part_{1 + i % 2}/ISIC_{i}.jpg", jpeg((i,)))
        rows.append([f"HAM_{i // 2}", f"ISIC_{i}", ("mel", "nv")[i // 2 % 2], "histo", "80.0", "male", "scalp"])
    write(tmp_path / "HAM10000_images_part_1/ISIC_99.jpg", jpeg((99,)))
    images = open_images(f"csv:{table(tmp_path / 'HAM10000_metadata.csv', rows)}")
    assert images.groups == ("HAM_0", "HAM_0", "HAM_1", "HAM_1", "HAM_2", "HAM_2")
    assert images.counts() == {"mel": 4, "nv": 2}
    assert images.stimuli.ids[:2] == ("HAM10000_images_part_1/ISIC_0.jpg", "HAM10000_images_part_2/ISIC_1.jpg")
    assert images.notes == (
        "classes: the column dx; groups that stay together: the column lesion_id",
        "left out: 1 image without a row in the table, HAM10000_images_part_1/ISIC_99.jpg",
    )


def test_parts_are_one_set_and_images_without_a_class_are_left_out(tmp_path: Path) -> None:
    for part, n in (("train", 4), ("val", 1)):
        folders(tmp_path / "set" / part, {"cat": n, "dog": n})
    folders(tmp_path / "set", {"test": 3})
    write(tmp_path / "set/train/dog/close/by.PNG", jpeg((5,)))
    images = open_images(f"folder:{tmp_path}")
    assert images.counts() == {"cat": 5, "dog": 6}
    assert {"train/cat/cat_1.jpg", "val/cat/cat_1.jpg", "train/dog/close/by.PNG"} <= set(images.stimuli.ids)
    assert images.notes == (
        "test, train, val are read as one set, and bddn draws its own split",
        "images in subfolders belong to the class of the folder above: dog",
        "left out: 3 images without a class, set/test/test_1.jpg, set/test/test_2.jpg, set/test/test_3.jpg",
    )
    flat = open_images(f"folder:{folders(tmp_path / 'flat', {'train': 2, 'bus': 2})}")  # a train is also a vehicle
    assert flat.classes == ("bus", "train")


def test_classes_that_are_numbers_are_in_their_order(tmp_path: Path) -> None:
    root = folders(tmp_path, {str(k): 1 for k in (10, 2, 0, 1)})
    assert open_images(f"folder:{root}").classes == ("0", "1", "2", "10")
    names = [f"{'0' * k}1" for k in range(9)]  # equal numbers have an order too, the same in every process
    assert open_images(f"folder:{folders(tmp_path / 'ones', dict.fromkeys(names, 1))}").classes == tuple(sorted(names))


TABLES = {
    "labels by file name": "image,label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat\n",
    "labels by stem, in another order": "label,image\ndog,b\ncat,c\ncat,a\n",
    "semicolons and a byte-order mark": "\ufefffilename;class\na;cat\nb;dog\nc;cat\n",
    "tabs, spaces and an empty line": "id\ttarget\na \tcat\n\nb\tdog\nc\t cat\n",
    "one-hot": "image,cat,dog\na,1,0\nb,0.0,1.0\nc,1,0\n",
    "one-hot beside another column": "image,age,cat,dog\na,80,1,0\nb,,0,1\nc,35,1,0\n",
    "a path": "path,species\n./a.jpg,cat\nb.jpg,dog\nc.jpg,cat\n",
    "a row without a class": "image,label\na,cat\nd,\nb,dog\nc,cat\n",
    "a class without an image": "image,cat,dog,UNK\na,1,0,0\nb,0,1,0\nc,1,0,0\n",
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_of_many_forms_give_the_same_set(tmp_path: Path, case: str) -> None:
    for name in "abcd":
        write(tmp_path / f"photos/{name}.jpg", jpeg((ord(name),)))
    file = write(tmp_path / "table.csv", TABLES[case].encode())
    images = open_images(f"csv:{file},images={tmp_path / 'photos'}")
    assert classes_of(images) == {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat"}
    assert images.groups is None
    assert images.classes == ("cat", "dog")


def test_columns_can_be_named(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / f"{name}.jpg", jpeg((ord(name),)))
    file = table(tmp_path / "t.csv", [["x", "y", "z", "label"], ["a", "1", "k", "u"], ["b", "2", "k", "v"]])
    images = open_images(f"csv:{file},label=y,name=x,group=z")
    assert classes_of(images) == {"a.jpg": "1", "b.jpg": "2"}
    assert images.groups == ("k", "k")


@pytest.mark.parametrize("where", ["metadata", "card"])
def test_parquet_tables_of_the_hub_are_read(tmp_path: Path, where: str) -> None:
    root = hub(tmp_path / "set", named=where == "metadata")
    if where == "card":
        write(root / "README.md", CARD.encode())
    images = open_images(f"huggingface:{root}")
    assert images.classes == NAMES
    tables = ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    rows = {tables[0]: hub_rows(12, 6), tables[1]: hub_rows(0, 12)}
    wanted = {f"{name}:{i}": NAMES[row["label"]] for name in tables for i, row in enumerate(rows[name])}
    assert classes_of(images) == wanted
    sent = pickle.loads(pickle.dumps(images.stimuli.absolute()))  # noqa: S301 - as to a worker of a cluster
    for i in np.random.default_rng(0).permutation(len(images)):
        name, _, row = images.stimuli.ids[i].rpartition(":")
        data = rows[name][int(row)]["image"]["bytes"]
        with Image.open(BytesIO(data)) as wanted_image:
            assert sent.image(int(i)).tobytes() == wanted_image.convert("RGB").tobytes()
    part = images.stimuli.part(range(16, 18))
    assert [part.sha256(i) for i in range(2)] == [images.stimuli.sha256(i) for i in (16, 17)]
    assert part.place(1).endswith("train-00000-of-00001.parquet, row 11")
    assert len(check_image_set(images).digest) == 64


def test_tables_of_the_hub_with_texts_groups_and_secret_classes_are_read(tmp_path: Path) -> None:
    rows = [
        {"image": jpeg((i,)), "dx": ("nv", "mel", None)[i % 3], "lesion_id": f"HAM_{i // 2}", "age": 4.0}
        for i in range(9)
    ]
    hub_table(tmp_path / "train.parquet", rows, named=False)
    images = open_images(f"huggingface:{tmp_path}")
    assert images.counts() == {"mel": 3, "nv": 3}
    assert images.groups == ("HAM_0", "HAM_0", "HAM_1", "HAM_2", "HAM_3", "HAM_3")
    assert images.stimuli.rows == (0, 1, 3, 4, 6, 7)
    assert images.notes[1] == "left out: 3 images without a class"
    assert [images.stimuli.image(i).size for i in range(6)] == [(8, 8)] * 6
    numbers = [{**row, "label": -1 if i == 2 else i % 2} for i, row in enumerate(hub_rows(0, 5))]
    hub_table(tmp_path / "numbers/train.parquet", numbers, named=False)
    found = open_images(f"huggingface:{tmp_path / 'numbers'}")
    assert found.counts() == {"0": 2, "1": 2}
    assert found.notes[1:] == (
        "classes have numbers, because neither the tables nor README.md name them",
        "left out: 1 image without a class",
    )


@pytest.mark.parametrize("is_file", [False, True])
def test_arrow_files_that_datasets_saved_are_read(tmp_path: Path, is_file: bool) -> None:
    rows = hub_rows(0, 12)
    saved = pq.read_table(hub_table(tmp_path / "a.parquet", rows))
    (tmp_path / "set/train").mkdir(parents=True)
    new = pa.ipc.new_file if is_file else pa.ipc.new_stream
    with new(str(tmp_path / "set/train/data-00000-of-00001.arrow"), saved.schema) as writer:
        writer.write_table(saved, max_chunksize=5)
    write(tmp_path / "set/train/cache-0123.arrow", b"of the library")
    write(tmp_path / "set/dataset_dict.json", b"{}")
    images = open_images(f"huggingface:{tmp_path / 'set'}")
    assert images.counts() == dict.fromkeys(NAMES, 4)
    for i in (11, 0, 6):
        assert images.stimuli.sha256(i) == hashlib.sha256(rows[i]["image"]["bytes"]).hexdigest()


@pytest.mark.parametrize("form", ["csv", "jsonl", "folders"])
def test_images_of_the_hub_with_metadata_or_in_folders_are_read(tmp_path: Path, form: str) -> None:
    folders(tmp_path / "train", {"cat": 2, "dog": 1})
    names = {"cat/cat_1.jpg": "cat", "cat/cat_2.jpg": "cat", "dog/dog_1.jpg": "dog"}
    if form == "csv":
        table(tmp_path / "train/metadata.csv", [["file_name", "label"], *names.items()])
    if form == "jsonl":
        lines = [json.dumps({"label": label, "file_name": name, "box": [1]}) for name, label in names.items()]
        write(tmp_path / "train/metadata.jsonl", "\n".join(lines).encode())
    found = classes_of(open_images(f"huggingface:{tmp_path}"))
    start = "" if form == "folders" else "train/"
    assert found == {f"{start}{name}": label for name, label in names.items()}


def test_the_cache_of_the_hub_is_read_through_its_links(tmp_path: Path) -> None:
    blob = hub_table(tmp_path / "datasets--a--b/blobs/0123abc", hub_rows(0, 6))
    snapshot = tmp_path / "datasets--a--b/snapshots/fedc"
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data/train.parquet").symlink_to(f"../../../blobs/{blob.name}")
    assert len(open_images(f"huggingface:{snapshot}")) == 6


def test_links_of_git_annex_are_read(tmp_path: Path) -> None:
    root = folders(tmp_path / "set/images", {"cat": 2, "dog": 2})
    for path in [*root.glob("*/*.jpg")]:
        stored = tmp_path / f"set/.git/annex/objects/{path.name}"
        stored.parent.mkdir(parents=True, exist_ok=True)
        path.rename(stored)
        path.symlink_to(stored)
    assert check_image_set(open_images(f"folder:{root}")).images.counts() == {"cat": 2, "dog": 2}


def test_the_digest_is_of_ids_classes_groups_and_bytes_and_not_of_the_place(tmp_path: Path) -> None:
    def digest(root: Path, options: str = "") -> str:
        kind = f"csv:{root}/t.csv" if options else f"folder:{root}"
        return check_image_set(open_images(f"{kind}{options}")).digest

    a = folders(tmp_path / "a", {"cat": 3, "dog": 3})
    whole = digest(a)
    assert whole == digest(Path(shutil.copytree(a, tmp_path / "deeper/2750")).parent)
    rows = [
        ["image", "label", "patient"],
        *([f"{c}/{c}_{i}.jpg", c, f"{i}"] for i in (2, 3, 1) for c in ("dog", "cat")),
    ]
    table(a / "t.csv", rows)
    assert whole == digest(a, ",label=label")
    other = {whole, digest(a, ",label=label,group=patient")}
    table(a / "t.csv", [*rows[:-1], [rows[-1][0], "dog", "1"]])
    other.add(digest(a, ",label=label"))
    write(a / "cat/cat_1.jpg", jpeg((77,)))
    other.add(digest(a))
    (a / "cat/cat_1.jpg").rename(a / "cat/cat_9.jpg")
    other.add(digest(a))
    assert len(other) == 5


def test_copies_stay_together_and_are_told(tmp_path: Path) -> None:
    root = folders(tmp_path, {"cat": 6, "dog": 6})
    shutil.copy(root / "cat/cat_1.jpg", root / "cat/cat_2.jpg")
    shutil.copy(root / "cat/cat_1.jpg", root / "cat/cat_3.jpg")
    shutil.copy(root / "cat/cat_4.jpg", root / "dog/dog_4.jpg")
    found = check_image_set(open_images(f"folder:{root}"))
    hashes = check_image_set(open_images(f"folder:{root}"), decode=False)
    assert (hashes.sha256, hashes.digest, hashes.images.groups) == (found.sha256, found.digest, found.images.groups)
    assert found.notes == (
        "copies with the same bytes: 3, the first cat/cat_1.jpg = cat/cat_2.jpg; a split keeps copies together",
        "copies with another class: 1, the first cat/cat_4.jpg (cat) = dog/dog_4.jpg (dog); no network can be right "
        "about both",
    )
    groups = found.images.groups
    assert groups is not None
    assert len(set(groups)) == 9
    for seed in range(20):
        split = class_split(found.images, 2, seed)
        assert not {groups[row] for row in split.train} & {groups[row] for row in split.test}


def test_copies_join_the_groups_of_their_images(tmp_path: Path) -> None:
    root = folders(tmp_path, {"cat": 4, "dog": 2})
    shutil.copy(root / "cat/cat_2.jpg", root / "cat/cat_3.jpg")
    rows = [
        [f"{c}_{i}", c, g] for c, i, g in zip(("cat",) * 4 + ("dog",) * 2, (1, 2, 3, 4, 1, 2), "ppqqrs", strict=True)
    ]
    table(root / "t.csv", [["image", "label", "group"], *rows])
    assert check_image_set(open_images(f"csv:{root / 't.csv'},group=group")).images.groups == (*"pppprs",)


@pytest.mark.parametrize(
    "name", ["algonauts:x", "planted:x", "floder:x", "folder", "folder:", ":x", "csv:t.csv,image=x"]
)
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(DataError):
        open_images(name)
