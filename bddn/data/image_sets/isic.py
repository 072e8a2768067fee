"""Read ISIC 2018, Task 3 (skin lesions), as downloaded.

    ISIC2018_Task3_Training_Input/ISIC_0024306.jpg
    ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv    image,MEL,NV,BCC,AKIEC,BKL,DF,VASC
    ISIC2018_Task3_Training_LesionGroupings.csv    optional    image,lesion_id,diagnosis_confirm_type

Sources: challenge.isic-archive.com/data, 2018; N. Codella et al., arXiv:1902.03368; P. Tschandl et al., Scientific
Data 5 (2018), 180161.
"""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from bddn.data.image_files import ImageFiles, image_files, lacking
from bddn.data.image_sets.image_table import Row, labelled_by, read_rows
from bddn.data.image_sets.labelled import LabelledImages
from bddn.errors import DataError
from bddn.text import count

START = "ISIC2018_Task3_Training_"
INPUT, TRUTH, LESIONS = f"{START}Input", f"{START}GroundTruth.csv", f"{START}LesionGroupings.csv"
CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
LAYOUT = f"the unpacked downloads of ISIC 2018 Task 3, {INPUT}/ and {TRUTH.removesuffix('.csv')}/"


def read_isic2018(path: Path) -> LabelledImages:
    """Read the training images of ISIC 2018 Task 3. Images of one lesion are a group.

    Raises
    ------
    DataError
        If images or classes are missing, or do not fit together.
    """
    found = image_files(path, LAYOUT, "Give the folder into which the downloads were unpacked.")
    table = _file(found, TRUTH)
    inputs = sorted({folder for image in found.images if (folder := _input_of(image))}, key=len)
    if table is None or not inputs:
        raise lacking(found, LAYOUT, f"no {TRUTH}" if table is None else f"no image in {INPUT}/", "Download it.")
    rows = read_rows(table)
    if tuple(rows[0]) != ("image", *CLASSES):
        raise DataError(
            table,
            expected=f"the columns image, {', '.join(CLASSES)}",
            got=f"{', '.join(rows[0])}",
            fix="Restore it from the download; a table with other classes is read by csv:FILE.csv,images=FOLDER.",
        )
    rows, notes = _with_lesions(rows, _file(found, LESIONS), path)
    images = labelled_by(table, rows, found.below(inputs[0]), "image")
    return replace(images, notes=(*notes, *images.notes))


def _with_lesions(rows: list[Row], table: Path | None, root: Path) -> tuple[list[Row], list[str]]:
    """Return the rows with a column lesion_id if it is known, and notes."""
    if table is None:
        return rows, [
            "lesions are unknown: one lesion may be in training and in test images, which makes the accuracy too high; "
            f"download {LESIONS} into {root}"
        ]
    groupings = read_rows(table)
    if not {"image", "lesion_id"} <= {*groupings[0]}:
        raise DataError(
            table,
            expected="the columns image and lesion_id",
            got=f"{', '.join(groupings[0])}",
            fix="Restore it from the download.",
        )
    lesion_of = {row["image"]: row["lesion_id"] for row in groupings}
    unknown = [row["image"] for row in rows if not lesion_of.get(row["image"])]
    notes = [f"the lesion of {count(len(unknown), 'image')} is unknown, the first {unknown[0]}"] if unknown else []
    return [{**row, "lesion_id": lesion_of.get(row["image"], "")} for row in rows], notes


def _file(found: ImageFiles, name: str) -> Path | None:
    """Return the file of this name, nearest to the root; the unpacked folder may lie in another of its name."""
    fits = sorted((one for one in found.others if PurePosixPath(one).name == name), key=len)
    return found.root / fits[0] if fits else None


def _input_of(image: str) -> str:
    """Return the path up to the folder of the images, or ''."""
    parts = PurePosixPath(image).parts
    return "/".join(parts[: parts.index(INPUT) + 1]) if INPUT in parts else ""
