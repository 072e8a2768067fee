"""A claim on a network: a sentence with its number, and the fits that it is about.

A claim is a sentence with its number, its interval, where the number comes from, and what it cannot tell. Where there
is no interval, the claim says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from bddn.evaluation.slopes import Hierarchy, single_fits
from bddn.run.folder import WEIGHT, Run
from bddn.stats.hierarchy import IDEAL_DEPTH, Line
from bddn.stats.layer_order import LayerOrder, layer_order
from bddn.text import joined, word

FEW_LAYERS = 6  # names of layers in a sentence
BLOCKS = "95 %, over blocks of cortex"


@dataclass(frozen=True)
class Claim:
    """A statement about a network, with what it rests on.

    Attributes
    ----------
    name : str
        What it is about, e.g. 'slope'.
    sentence : str
    value, low, high : float or None
        The number of the claim, and its interval.
    interval : str
        Level of the interval, and over what it is; or why there is none.
    source : str
        The file, command or publication of the number.
    limits : str
        What the claim cannot tell.
    doubt : bool
        Whether it is something to worry about.
    """

    name: str
    sentence: str
    value: float | None
    low: float | None
    high: float | None
    interval: str
    source: str
    limits: str
    doubt: bool = False


@dataclass(frozen=True)
class Read:
    """The fits of one network on one brain, and what was computed of them.

    Attributes
    ----------
    runs : sequence of Run
    voxels : DataFrame
        Of the single fit, or the average.
    ideal : dict of str to float
        Ideal depth of each ROI.
    hierarchy : Hierarchy or None
        None if one of the ROIs has no voxel with evidence.
    order : LayerOrder or None
    """

    runs: Sequence[Run]
    voxels: pd.DataFrame
    ideal: Mapping[str, float]
    hierarchy: Hierarchy | None
    order: LayerOrder | None

    @classmethod
    def of(
        cls, runs: Sequence[Run], voxels: pd.DataFrame, hierarchy: Hierarchy | None, ideal: Mapping[str, float]
    ) -> "Read":
        """Return the fits with the order of their layers."""
        line = Line.of(voxels, ideal)
        order = (
            None if line is None else layer_order(line, voxels[[WEIGHT + name for name in runs[0].layers]].to_numpy())
        )
        return cls(runs, voxels, ideal, hierarchy, order)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, from early to late."""
        return self.runs[0].layers

    @cached_property
    def fits(self) -> list[Run]:
        """The single fits, those of ensembles too."""
        return [fit for run in self.runs for fit in single_fits(run)]

    def file(self, name: str) -> str:
        """Return the path of a file of the first run, and how many more runs there are."""
        more = f" and {len(self.runs) - 1} more" if len(self.runs) > 1 else ""
        return f"{self.runs[0].folder / name}{more}"

    @property
    def command(self) -> str:
        """The command that computes the hierarchy again."""
        folders = " ".join(word(run.folder) for run in self.runs[:3]) + (" …" if len(self.runs) > 3 else "")
        asked = ",".join(f"{roi}={depth:g}" for roi, depth in self.ideal.items())
        return f"'bddn hierarchy {folders}{'' if self.ideal == IDEAL_DEPTH else f' --rois {asked}'}'"


def listed(names: Sequence[str]) -> str:
    """Return names as text; of many, the first; '' for none."""
    shown = (
        list(names) if len(names) <= FEW_LAYERS else [*names[: FEW_LAYERS - 1], f"{len(names) - FEW_LAYERS + 1} more"]
    )
    return joined(shown)


def number(value: float, digits: int = 2) -> str:
    """Return a number as text, with a true minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def share_of(p: float) -> str:
    """Return a share as text in percent."""
    return f"{100 * p:.1f} %" if p >= 0.001 else f"{100 * p:.2g} %"
