"""Images with a class each: what a network is fine-tuned on."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bddn.data.dataset import Stimuli
from bddn.data.listing import is_printable
from bddn.errors import DataError

WHOLE = re.compile(r"(-?[0-9]+)\.0*")
"""A whole number as tables of floats write it."""


@dataclass(frozen=True)
class LabelledImages:
    """An image set.

    Attributes
    ----------
    name : str
        What the user gave, e.g. 'folder:EuroSAT'.
    stimuli : Stimuli
        The n images.
    labels : array of int64, (n,)
        Class of each image, as an index into `classes`.
    classes : tuple of str
        Each has at least one image.
    groups : tuple of str, (n,), optional
        Images of one group, such as photographs of one lesion, must never be in two parts of a split.
    notes : tuple of str
        What the user should know about how the set was read.
    """

    name: str
    stimuli: Stimuli
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.stimuli)

    def counts(self) -> dict[str, int]:
        """Return the number of images of each class."""
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))


def labels_of(
    place: object, class_of: Sequence[str], classes: Sequence[str] | None = None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Number the classes of some images.

    Parameters
    ----------
    place : object
        The file or folder with the classes, for messages.
    class_of : sequence of str, (n,)
        The class of each image.
    classes : sequence of str, optional
        The order of the classes; by default alphabetical, or by number if all are whole numbers.

    Returns
    -------
    labels : array of int64, (n,)
    classes : tuple of str
        Those that have images.

    Raises
    ------
    DataError
        If there are fewer than two classes, or two names cannot be told apart.
    """
    present = set(class_of)
    numbers = all(name.isdecimal() for name in present)
    ordered = sorted(present) if classes is None else [c for c in classes if c in present]
    if classes is None and numbers:
        ordered.sort(key=int)  # of equal numbers, such as 1 and 01, each keeps its place
    if len(ordered) < 2:
        raise DataError(
            place,
            expected="images of at least two classes",
            got=f"only the class '{ordered[0]}', with {len(class_of)} images" if ordered else "no image with a class",
            fix="Add images of another class, or give the folder or column that contains all classes.",
        )
    alike: dict[str, list[str]] = {}
    for name in ordered:
        key = unicodedata.normalize("NFC", name).casefold().strip()
        whole = WHOLE.fullmatch(key)
        alike.setdefault(whole[1] if whole else key, []).append(name)
    for names in alike.values():
        if len(names) > 1 or not names[0].strip() or not is_printable(names[0]):
            raise DataError(
                place,
                expected="names of classes that can be printed and differ by more than case and spaces, or by '.0'",
                got=" and ".join(ascii(name) for name in names),
                fix="Rename them; if they are one class, give it one name.",
            )
    index = {name: i for i, name in enumerate(ordered)}
    return np.array([index[name] for name in class_of], np.int64), tuple(ordered)
