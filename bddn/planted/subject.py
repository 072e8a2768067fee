"""A planted brain as a dataset: a subject in the Algonauts layout, and its true maps.

`planted:PATH` is a folder with `subj01/` (the subject, see `bddn.data.algonauts`), `backbone/` (the network) and
`truth/`.
"""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import pandas as pd

from bddn.data.algonauts import Algonauts
from bddn.data.dataset import About
from bddn.errors import DataError
from bddn.files.filekind import MISSING, PARQUET, explain

PLANTED = "planted.json"
SUBJECT = "subj01"
BACKBONE = "backbone"
TRUTH = Path("truth/voxels.parquet")


class Planted(Algonauts):
    """A planted brain: an Algonauts subject with known true maps."""

    about: ClassVar[About] = About(
        name="planted",
        usage="planted:PATH",
        responses="Responses are synthetic: a planted brain with a known answer, not a measurement.",
        references=(),
        terms="Data terms: none; the data are synthetic.",
        trials="averaged",
        shows_images=True,
        shares_responses=True,
    )

    def __init__(self, folder: Path) -> None:
        if not (folder / TRUTH).is_file():
            got, fix = f"no {TRUTH} in it", "Make one with 'bddn plant'."
            if not folder.is_dir():
                got, fix = explain(folder, "no such folder", fix, MISSING)
            else:
                got, fix = explain(folder / TRUTH, got, fix, MISSING)
            raise DataError(folder, expected=f"a planted brain with {SUBJECT}/ and {TRUTH}", got=got, fix=fix)
        super().__init__(folder / SUBJECT)
        self.name = f"planted:{folder}"
        if _has_photographs(folder / PLANTED):  # which belong to those who took them
            self.about = replace(self.about, shows_images=False)  # type: ignore[misc]
        self._truth = folder / TRUTH

    def truth(self) -> pd.DataFrame | None:
        """Return the true `depth`, `x`, `y`, `scale` and `ceiling` in the order of `voxels()`."""
        keys = ["hemi", "vertex"]
        voxels = self.voxels()[keys]
        table = voxels.merge(self._read_truth(), on=keys, how="left")
        lacking = int(table["depth"].isna().sum()) + len(table) - len(voxels)
        if lacking:
            raise DataError(
                self._truth,
                expected="one row for every voxel of the subject",
                got=f"{lacking} voxels without a row, or with several",
                fix="Plant the brain again, into a new folder.",
            )
        return table

    def _read_truth(self) -> pd.DataFrame:
        fix = "Restore it, or plant the brain again into a new folder."
        try:
            table = pd.read_parquet(BytesIO(self._truth.read_bytes()))
            missing = {"hemi", "vertex", "depth", "x", "y", "scale", "ceiling"} - {*table.columns}
            got = f"no columns {', '.join(sorted(missing))}"
        except (OSError, ValueError):
            got, fix = explain(self._truth, "a damaged file, or another kind of file", fix, PARQUET)
            missing = {"table"}
        if missing:
            raise DataError(self._truth, expected="the table of the planted voxels", got=got, fix=fix)
        return table


def _has_photographs(planted: Path) -> bool:
    """Return whether the images of a brain are crops of photographs; also if that is not known."""
    try:
        spec = json.loads(planted.read_text(encoding="utf-8"))["spec"]
        return bool(spec.get("scenes") == "photographs")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
