"""Where stimuli, responses, positions, ROIs and splits come from; the only room that knows dataset layouts."""

from pathlib import Path

from bddn.data.base import Dataset, Stimuli
from bddn.errors import DataError
from bddn.paths import expand_home

__all__ = ["Dataset", "Stimuli", "open_dataset"]

KINDS = ("algonauts", "planted")


def open_dataset(name: str) -> Dataset:
    """Open a dataset by its name, `KIND:PATH`.

    Parameters
    ----------
    name : str
        `algonauts:PATH/subj01`, a subject folder of the Algonauts 2023 Challenge, or `planted:PATH`, a folder that
        `bddn plant` wrote.

    Raises
    ------
    DataError
        Where the kind is unknown or the folder is not such a dataset.
    """
    from bddn.data.algonauts import Algonauts
    from bddn.data.planted import Planted

    kind, colon, path = name.partition(":")
    if not colon or not path or kind not in KINDS:
        raise DataError(
            f"dataset '{name}'",
            expected=f"KIND:PATH with KIND one of {', '.join(KINDS)}",
            got=f"'{name}'",
            fix="For example --data algonauts:algonauts_2023/subj01.",
        )
    folder = Path(expand_home(path))
    return Planted(folder) if kind == "planted" else Algonauts(folder)
