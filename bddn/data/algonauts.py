"""The Algonauts 2023 Challenge, one subject: images and NSD responses on fsaverage.

The layout is that of the challenge's download (A. Gifford et al., "The Algonauts Project 2023 Challenge", 2023):

    subj01/
      training_split/training_images/train-0001_nsd-00013.png    ordinal from 1, NSD image from 0
      training_split/training_fmri/{lh,rh}_training_fmri.npy     float32 (n_images, n_vertices); row = ordinal - 1
      test_split/noise_ceiling/{lh,rh}_noise_ceiling.npy         optional, float (n_vertices,), 0 to 1
      roi_masks/{lh,rh}.all-vertices_fsaverage_space.npy         0 or 1 (163842,)
      roi_masks/{lh,rh}.ATLAS_fsaverage_space.npy                label (163842,)
      roi_masks/{lh,rh}.ATLAS_challenge_space.npy                label (n_vertices,)
      roi_masks/mapping_ATLAS.npy                                pickled dict, label to name

Subjects 06 and 08 lack some vertices, so the mask defines which vertices the columns are.
"""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.fsaverage import HEMISPHERES, N_VERTICES, positions_mm
from bddn.data.dataset import About, Stimuli
from bddn.data.label_map import read_label_map
from bddn.data.listing import is_hidden, visible_images
from bddn.errors import DataError
from bddn.files.filekind import MISSING, NPY, explain, is_listed

IMAGES = Path("training_split/training_images")
RESPONSES = Path("training_split/training_fmri")
CEILING = Path("test_split/noise_ceiling")
MASKS = Path("roi_masks")
ATLASES = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words", "streams")
NAMED_ATLASES = ATLASES[:-1]  # without `streams`, whose labels cover whole regions and are not single ROIs
IMAGE_NAME = re.compile(r"train-([0-9]{4,})_nsd-([0-9]{5,})(?i:\.png)")
SHOWN = 5  # names in a message
ROWS_AT_ONCE = 16  # response rows read together: few, because a small block stays in the processor's cache
REDOWNLOAD = "Compare the folder with the challenge's download, and restore what differs."


class Algonauts:
    """One subject folder of the challenge; implements `bddn.data.Dataset`. Files are read on demand."""

    about: ClassVar[About] = About(
        name="algonauts",
        usage="algonauts:PATH/subj01",
        responses="Responses are those of the Algonauts 2023 challenge (Gifford et al., 2023), made from the Natural "
        "Scenes Dataset (Allen et al., 2022), averaged over repetitions.",
        references=(
            "Gifford AT et al. (2023). The Algonauts Project 2023 challenge: how the human brain makes sense of "
            "natural scenes. arXiv:2301.03198.",
            "Allen EJ et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial "
            "intelligence. Nature Neuroscience 25: 116-126.",
        ),
        terms="Data terms: the Natural Scenes Dataset and the Algonauts 2023 data are given out under their own terms "
        "of use, to which every user agrees; responses must not be passed on. Check these terms before sharing "
        "encoders or maps of single subjects.",
        trials="averaged",
    )

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"algonauts:{folder}"
        if not (folder / IMAGES).is_dir():
            fix = "Give the path of a subject, e.g. algonauts:algonauts_2023/subj01."
            if folder.is_dir():
                got = _summary("files and folders", [p.name for p in folder.iterdir() if not is_hidden(p.name)])
                got = got or "an empty folder"
            else:
                got, fix = explain(folder, "no such folder", fix, MISSING)
            raise DataError(
                folder,
                expected=f"an Algonauts 2023 subject folder with {IMAGES}",
                got=got,
                fix=fix,
            )

    @cached_property
    def stimuli(self) -> Stimuli:
        """The images in the order of their ordinals, which is the order of the response rows; without hidden files."""
        found, strays = dict[int, list[tuple[str, Path]]](), list[str]()
        for path in visible_images(self.folder / IMAGES):
            match = IMAGE_NAME.fullmatch(path.name)
            if match is None:
                strays.append(path.name)
            else:
                found.setdefault(int(match[1]), []).append((f"nsd-{match[2]}", path))
        ordinals = sorted(found)
        chosen = [found[k][0] for k in ordinals]
        times = Counter(name for name, _ in chosen)
        gaps = sorted(set(range(1, len(found) + 1)) - set(found))
        problems = [
            _summary("misnamed images", strays),
            _summary("numbers used by more than one image", [path.name for k in ordinals for _, path in found[k][1:]]),
            _summary("numbers without an image", [f"train-{k:04d}" for k in gaps]),
            _summary("repeated NSD images", [name for name, n in times.items() if n > 1]),
            "" if found else "0 images",
        ]
        if any(problems):
            raise DataError(
                self.folder / IMAGES,
                expected="images train-0001_nsd-00013.png, train-0002_nsd-….png, …, without a gap, each NSD image once",
                got="; ".join(filter(None, problems)),
                fix=f"Remove or rename what does not belong there. {REDOWNLOAD}",
            )
        return Stimuli(tuple(name for name, _ in chosen), tuple(path for _, path in chosen))

    def responses(self, rows: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.float32]:
        """Return responses (n, n_voxels) float32, left hemisphere first; read only the requested rows."""
        wanted = np.arange(len(self.stimuli)) if rows is None else rows
        n_vertices = [len(self._vertices[hemi]) for hemi in HEMISPHERES]
        out = np.empty((len(wanted), sum(n_vertices)), np.float32)
        for at in range(0, len(wanted), ROWS_AT_ONCE):
            some = slice(at, at + ROWS_AT_ONCE)
            for hemi, columns in zip(HEMISPHERES, (slice(n_vertices[0]), slice(n_vertices[0], None)), strict=True):
                out[some, columns] = self._read_responses(hemi, wanted[some])
        return out

    def _read_responses(self, hemi: str, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        path = self.folder / RESPONSES / f"{hemi}_training_fmri.npy"
        stored = _load(path, mapped=True)
        shape = (len(self.stimuli), len(self._vertices[hemi]))
        if stored.shape != shape or stored.dtype.kind != "f":
            raise DataError(
                path,
                expected=f"floats of shape {shape} (images, vertices of roi_masks/{hemi}.all-vertices), e.g. float32",
                got=f"{stored.dtype} of shape {stored.shape}",
                fix=REDOWNLOAD,
            )
        with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and are refused below
            found = stored[rows].astype(np.float32, copy=False)
        finite = np.isfinite(found)
        if not finite.all():
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                path,
                expected="finite responses",
                got=f"{(~finite).sum()} of {found.size} not finite, the first for stimulus "
                f"'{self.stimuli.ids[rows[row]]}', column {column}",
                fix="Remove these vertices from the responses and from the all-vertices mask.",
            )
        return found

    def voxels(self) -> pd.DataFrame:
        """Return the table of `bddn.data.Dataset`; `roi` is the first visual, body, face, place or word label."""
        return pd.concat([self._hemisphere(hemi) for hemi in HEMISPHERES], ignore_index=True)

    def coords_mm(self) -> npt.NDArray[np.float32]:
        hemi = np.concatenate([np.full(len(self._vertices[h]), h) for h in HEMISPHERES])
        return positions_mm(hemi, np.concatenate([self._vertices[h] for h in HEMISPHERES]))

    def truth(self) -> pd.DataFrame | None:
        return None

    @cached_property
    def _vertices(self) -> dict[str, npt.NDArray[np.intp]]:
        found = {}
        for hemi in HEMISPHERES:
            name = f"{hemi}.all-vertices_fsaverage_space"
            mask = self._mask(name, N_VERTICES)
            if not np.isin(mask, (0, 1)).all():
                raise DataError(
                    self.folder / MASKS / f"{name}.npy",
                    expected="0 or 1 for every vertex",
                    got=f"numbers from {mask.min()} to {mask.max()}",
                    fix=REDOWNLOAD,
                )
            found[hemi] = np.flatnonzero(mask)
        return found

    def _hemisphere(self, hemi: str) -> pd.DataFrame:
        vertex = self._vertices[hemi]
        table = pd.DataFrame({"hemi": hemi, "vertex": vertex, "roi": ""})
        for atlas in ATLASES:
            table[atlas] = self._labels(hemi, atlas)
        for atlas in reversed(NAMED_ATLASES):
            table["roi"] = table[atlas].where(table[atlas] != "", table["roi"])
        path = self.folder / CEILING / f"{hemi}_noise_ceiling.npy"
        table["ceiling"] = np.nan
        if is_listed(path):
            ceiling = _load(path)
            same_shape = ceiling.shape == vertex.shape and ceiling.dtype.kind in "fiu"
            if not same_shape or not ((ceiling >= 0) & (ceiling <= 1)).all():
                seen = f", from {np.min(ceiling):.3g} to {np.max(ceiling):.3g}" if same_shape else ""
                raise DataError(
                    path,
                    expected=f"numbers from 0 to 1 of shape {vertex.shape}",
                    got=f"{ceiling.dtype} of shape {ceiling.shape}{seen}",
                    fix=REDOWNLOAD,
                )
            table["ceiling"] = ceiling.astype(float)
        return table

    def _labels(self, hemi: str, atlas: str) -> list[str]:
        """Return the atlas label of every voxel, or ''. If masks exist in both spaces, they must agree."""
        names = read_label_map(self.folder / MASKS / f"mapping_{atlas}.npy")
        vertex = self._vertices[hemi]
        spaces = {
            space: self._mask(f"{hemi}.{atlas}_{space}_space", n)
            for space, n in (("fsaverage", N_VERTICES), ("challenge", len(vertex)))
            if is_listed(self.folder / MASKS / f"{hemi}.{atlas}_{space}_space.npy")
        }
        whole = spaces["fsaverage"][vertex] if "fsaverage" in spaces else None
        mask = spaces.get("challenge", whole)
        place = self.folder / MASKS / f"{hemi}.{atlas}_*_space.npy"
        if mask is None:
            raise DataError(place, expected="the mask in fsaverage or challenge space", got="neither", fix=REDOWNLOAD)
        if whole is not None and (differ := int((mask != whole).sum())):
            raise DataError(
                place, expected="the same labels in both spaces", got=f"{differ} different labels", fix=REDOWNLOAD
            )
        unknown = set(mask.tolist()) - set(names) - {0}
        if unknown:
            raise DataError(
                place, expected=f"labels {sorted(names)} of mapping_{atlas}.npy", got=f"{unknown}", fix=REDOWNLOAD
            )
        return [names[k] if k else "" for k in mask.tolist()]

    def _mask(self, name: str, length: int) -> npt.NDArray[np.integer]:
        path = self.folder / MASKS / f"{name}.npy"
        mask = _load(path)
        numbers = mask.dtype.kind in "biu" or (mask.dtype.kind == "f" and bool(np.isfinite(mask).all()))
        if mask.shape != (length,) or not numbers or not np.array_equal(mask, mask.astype(int)):
            raise DataError(
                path,
                expected=f"whole numbers of shape ({length},)",
                got=f"{mask.dtype} of shape {mask.shape}",
                fix=REDOWNLOAD,
            )
        return mask.astype(int)


def _summary(what: str, names: list[str]) -> str:
    """Return the number of names and the first of them as text, or '' if there are none."""
    more = ", …" if len(names) > SHOWN else ""
    return f"{what} ({len(names)}): {', '.join(sorted(names)[:SHOWN])}{more}" if names else ""


def _load(path: Path, mapped: bool = False) -> npt.NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):  # a .npz archive
            array.close()
            raise TypeError(type(array).__name__)
    except (OSError, ValueError, EOFError, TypeError) as error:
        got, fix = explain(path, "a damaged file, or another kind of file", REDOWNLOAD, NPY)
        raise DataError(path, expected="a NumPy .npy file of numbers", got=got, fix=fix) from error
    return array
