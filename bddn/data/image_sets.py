"""Open an image set by name."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bddn.data.image_folder import read_folder
from bddn.data.labelled import LabelledImages
from bddn.data.plugins import split_options
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
