"""Several responses to one image: what a dataset of single trials has beside the attributes of every `Dataset`.

Such a dataset has `response_ids`, a tuple of str: the stimulus id of each response row, in any order. Its
`responses(rows)` counts these rows, its `stimuli` has each image once, and its `about` says `trials="single"`. Without
`response_ids`, or if it is None, row r is the response to image r.
"""

from bddn.data.dataset import Dataset
from bddn.errors import DataError


def response_ids(dataset: Dataset) -> tuple[str, ...]:
    """Return the stimulus id of each response row; by default those of the images, one row each."""
    found: tuple[str, ...] | None = getattr(dataset, "response_ids", None)
    return dataset.stimuli.ids if found is None else found


def has_trials(dataset: Dataset) -> bool:
    """Return whether a dataset says which image each of its response rows is of."""
    return getattr(dataset, "response_ids", None) is not None


def check_trials(dataset: Dataset) -> None:
    """Refuse response rows of unknown images, and images without a response.

    Raises
    ------
    DataError
    """
    if not has_trials(dataset):
        return
    shown, known = set(response_ids(dataset)), set(dataset.stimuli.ids)
    if shown != known:
        unknown, silent = sorted(shown - known), sorted(known - shown)
        got = f"rows of {len(unknown)} other stimuli, the first '{unknown[0]}'" if unknown else ""
        got += " and " if unknown and silent else ""
        got += f"no row of {len(silent)} stimuli, the first '{silent[0]}'" if silent else ""
        raise DataError(
            dataset.name,
            expected=f"at least one response row of each of the {len(known)} images, and none of others",
            got=got,
            fix="Correct response_ids or stimuli of the dataset.",
        )
