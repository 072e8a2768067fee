"""Voxels of a volume by their indices, in files of betas."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Volume
from bddn.cortex.places import COORDINATES, VOXEL
from bddn.data.session_betas import Ints, Session

FILE = "volume"
"""The key of the single file of a session."""


@dataclass(frozen=True)
class Grid:
    """Voxels by their indices (N, 3) in a volume of this shape; the base of what implements `Voxels`."""

    ijk: Ints
    shape: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of voxels."""
        return len(self.ijk)

    @property
    def at(self) -> tuple[Ints, ...]:
        """What selects these voxels in an array of the shape."""
        return tuple(self.ijk.T)

    @property
    def names(self) -> list[str]:
        """Their names, e.g. '10-4-33'."""
        return ["-".join(map(str, one)) for one in self.ijk.tolist()]

    def part(self, mask: npt.NDArray[np.bool_]) -> Self:
        """Return the voxels where `mask` (N,) is true."""
        return replace(self, ijk=self.ijk[mask])

    def place(self, session: Session, voxel: int) -> tuple[Path, str]:
        return session.files[FILE], f"voxel {'-'.join(map(str, self.ijk[voxel]))}"

    def table(self, volume: Volume, hemi: "npt.NDArray[np.str_] | list[str]") -> pd.DataFrame:
        """Return a table of points in the coordinates of a volume (see `bddn.cortex.places`), without labels."""
        columns: dict[str, Any] = {
            "hemi": hemi,
            "vertex": np.full(self.n, -1),
            VOXEL: self.names,
            **dict(zip(COORDINATES, volume.mm(self.ijk).T, strict=True)),
            "roi": [""] * self.n,
        }
        return pd.DataFrame(columns)
