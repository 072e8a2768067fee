"""Read an image set with one folder per class, also below folders of parts such as train/ and test/."""

from pathlib import Path, PurePosixPath

from bddn.data.dataset import Stimuli
from bddn.data.image_files import ImageFiles, image_files, lacking
from bddn.data.image_sets.labelled import LabelledImages, labels_of
from bddn.errors import DataError
from bddn.text import count, shorten

PARTS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))
LAYOUT = "a folder with one folder of images per class"


def read_folder(path: Path) -> LabelledImages:
    """Read a folder with one folder of images per class. The id of an image is its path from there.

    If the folder contains nothing but one folder of folders, such as the 2750/ of EuroSAT, that one is meant. If its
    folders are parts (train/, val/, test/), each with the folders of classes, all parts are read as one set. Images may
    lie in subfolders of their class.

    Raises
    ------
    DataError
        If it is not such a folder, a class has no image, or there are fewer than two classes.
    """
    found = image_files(path, LAYOUT, "Give the folder that contains the folders of the classes.")
    inner: dict[str, list[str]] = {}
    for name in found.folders:
        inner.setdefault(_parent(name), []).append(name)
    top = _top(found, inner)
    parts, class_folders = _class_folders(path / top, inner.get(top, []), inner)
    in_class: dict[str, list[str]] = {name: [] for name in class_folders}
    depth = len(PurePosixPath(top).parts) + (2 if parts else 1)
    unlabelled = list[str]()
    for image in found.images:
        in_class.get("/".join(image.split("/")[:depth]), unlabelled).append(image)
    _refuse_empty(found, path / top, in_class)
    images = [(image, PurePosixPath(name).name) for name, members in in_class.items() for image in members]
    labels, classes = labels_of(path / top, [name for _, name in images])
    notes = []
    if parts:
        notes.append(f"{', '.join(parts)} are read as one set, and bddn draws its own split")
    deeper = {
        PurePosixPath(name).name for name, members in in_class.items() if any(_parent(i) != name for i in members)
    }
    if deeper:
        notes.append(f"images in subfolders belong to the class of the folder above: {shorten(sorted(deeper))}")
    if unlabelled:
        notes.append(f"left out: {count(len(unlabelled), 'image')} without a class, {shorten(unlabelled)}")
    inside = tuple(f"{name}/" for name in class_folders)
    if others := [name for name in found.others if name.startswith(inside)]:
        notes.append(f"ignored: {count(len(others), 'file')} whose name is not that of an image, {shorten(others)}")
    ids = tuple(str(PurePosixPath(image).relative_to(top)) for image, _ in images)
    stimuli = Stimuli(ids, tuple(path / image for image, _ in images))
    return LabelledImages(f"folder:{path}", stimuli, labels, classes, notes=tuple(notes))


def _top(found: ImageFiles, inner: dict[str, list[str]]) -> str:
    """Return the folder that contains the folders of classes or parts: skip folders that contain only one other."""
    top, with_images = "", {_parent(image) for image in found.images}
    while top not in with_images and len(inner.get(top, [])) == 1 and inner.get(inner[top][0]):
        top = inner[top][0]
    return top


def _class_folders(root: Path, folders: list[str], inner: dict[str, list[str]]) -> tuple[list[str], list[str]]:
    """Return the names of the parts, if the folders in `root` are parts, and the folders of the classes."""
    parts = [name for name in folders if PurePosixPath(name).name.lower() in PARTS]
    if not any(inner.get(name) for name in parts):
        return [], folders
    others = [PurePosixPath(name).name for name in folders if name not in parts]
    names = [PurePosixPath(name).name for name in parts]
    if others:
        raise DataError(
            root,
            expected=f"{LAYOUT}, or only the parts {', '.join(names)}",
            got=f"other folders beside them: {shorten(others)}",
            fix="Give the folder of one part, or move the other folders away.",
        )
    return names, [one for name in parts for one in inner.get(name, [])]


def _refuse_empty(found: ImageFiles, root: Path, in_class: dict[str, list[str]]) -> None:
    empty = [PurePosixPath(name).name for name, members in in_class.items() if not members]
    if not found.images:
        others = f", only {count(len(found.others), 'other file')}: {shorten(found.others)}" if found.others else ""
        raise lacking(found, LAYOUT, f"no image{others}", "Unpack the set into this folder, or give another one.")
    if len(empty) == len(in_class):
        raise DataError(
            root,
            expected=LAYOUT,
            got=f"{count(len(found.images), 'image')} without a folder of its class: {shorten(found.images)}",
            fix="Move them into one folder per class, or give their classes in a table (csv:FILE.csv,images=FOLDER).",
        )
    if empty:
        raise DataError(
            root,
            expected="images in the folder of every class",
            got=f"no image in {shorten(empty)}",
            fix="Unpack or download the set again; if these are not classes, move them away.",
        )


def _parent(name: str) -> str:
    """Return the folder of a relative path, or '' for the root."""
    return name.rpartition("/")[0]
