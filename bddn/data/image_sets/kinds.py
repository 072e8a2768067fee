"""Open an image set by name."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bddn.data.image_sets.hub_folder import read_hub
from bddn.data.image_sets.image_folder import read_folder
from bddn.data.image_sets.image_table import read_csv_set
from bddn.data.image_sets.isic import read_isic2018
from bddn.data.image_sets.labelled import LabelledImages
from bddn.data.plugins import dataset_kinds, split_options
from bddn.errors import DataError
from bddn.files.paths import expand_home


@dataclass(frozen=True)
class ImageSetKind:
    """A kind of image sets: the form of its names, a description, and the function that reads one from its path.

    Options are the parameters after the path. Each of them needs a default value, and is passed as str.
    """

    usage: str
    about: str
    read: Callable[..., LabelledImages]


IMAGE_SETS = {
    "folder": ImageSetKind(
        "folder:PATH",
        "A folder with one folder of images per class, such as EuroSAT as downloaded; also below train/, val/ and "
        "test/, which are read as one set.",
        read_folder,
    ),
    "csv": ImageSetKind(
        "csv:FILE.csv,images=FOLDER,name=COLUMN,label=COLUMN,group=COLUMN",
        "A table with the file name of each image, and its class as one label or as one column of 0 and 1 per class. "
        "Images are searched in FOLDER (by default that of the table) and below; columns are found by their usual "
        "names if they are not given. Images of one group, such as lesion_id, stay together.",
        read_csv_set,
    ),
    "isic2018": ImageSetKind(
        "isic2018:PATH",
        "Skin lesions of ISIC 2018 Task 3 (training images) as downloaded and unpacked. Images of one lesion stay "
        "together if ISIC2018_Task3_Training_LesionGroupings.csv is in PATH.",
        read_isic2018,
    ),
    "huggingface": ImageSetKind(
        "huggingface:PATH,label=COLUMN,group=COLUMN",
        "A local folder of a dataset of the Hugging Face hub: Parquet tables with images, what Dataset.save_to_disk "
        "writes, images with metadata.csv or metadata.jsonl, or one folder per class. All parts are read as one set.",
        read_hub,
    ),
}


def open_images(name: str) -> LabelledImages:
    """Open an image set by its name, `KIND:PATH` or `KIND:PATH,option=value`. No image is read.

    Parameters
    ----------
    name : str
        For example `folder:EuroSAT`. `bddn datasets` lists the kinds with their options.

    Raises
    ------
    DataError
        If the kind or an option is unknown, or the path is not such an image set.
    """
    kind, colon, path = name.partition(":")
    if kind in dataset_kinds() and colon:
        raise DataError(
            f"'{name}'",
            expected=f"an image set, KIND:PATH with KIND one of {', '.join(IMAGE_SETS)}",
            got="a dataset of responses, which has no classes",
            fix="See 'bddn datasets'.",
        )
    if not colon or not path or kind not in IMAGE_SETS:
        near = difflib.get_close_matches(kind, IMAGE_SETS, n=1)
        raise DataError(
            f"image set '{name}'",
            expected=f"KIND:PATH with KIND one of {', '.join(IMAGE_SETS)}",
            got=f"KIND '{kind}'" if colon else f"'{name}'",
            fix=f"Did you mean {near[0]}?" if near and colon else "For example folder:EuroSAT; see 'bddn datasets'.",
        )
    found = IMAGE_SETS[kind]
    path, options = split_options(name, found.read, found.usage)
    return replace(found.read(Path(expand_home(path)), **options), name=name)
