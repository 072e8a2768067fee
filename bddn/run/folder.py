"""Run folders: their files, and functions that read them.

`run.json` contains the identity of the fit, `split.json` the images of each part, `voxels.parquet` one row per voxel,
`metrics.json` the summary, `encoder.safetensors` the model, `learning.safetensors` the history of the selectors (see
`encoder.learning`), and `truth.json` a comparison with the truth of planted data.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bddn.cortex.frames import Frame, read_frame
from bddn.cortex.meshes import Mesh
from bddn.data.dataset import OWN
from bddn.data.plugins import dataset_kinds, load_kind
from bddn.encoder import learning, saved
from bddn.errors import RunError
from bddn.files import atomic
from bddn.files.filekind import explain_folder, is_listed
from bddn.files.output import check_new_or_result, is_vacant, occupied
from bddn.files.paths import printable
from bddn.identity import PROBE, Identity, digest
from bddn.run.passed_on import refuse_outside
from bddn.run.together import check_metrics
from bddn.stats.evidence import FDR, q_values, without_evidence
from bddn.stats.hierarchy import confidence, depth, hierarchy_slope
from bddn.stats.scores import LEAST_R2, robust_mean, roi_scores

if TYPE_CHECKING:
    import xarray

    from bddn.encoder.fit import Fitted

FORMAT = 1
ABOUT = "run.json"
METRICS, VOXELS = "metrics.json", "voxels.parquet"
FILES = (ABOUT, METRICS, VOXELS)
SPLIT = "split.json"
LEARNING = "learning.safetensors"
ENCODER = "encoder.safetensors"
WEIGHT = "weight_"  # prefix of the columns of layer weights
NOISE_SEED = "noise_seed"  # in run.json, in the backbone of a cache of noised latents
ENSEMBLE = "ensemble"  # in run.json of the average of several fits: their folders, relative to it


@dataclass(frozen=True)
class Run:
    """A finished run that was read from its folder; `about` is the content of `run.json`."""

    folder: Path
    layers: tuple[str, ...]
    voxels: pd.DataFrame
    metrics: dict[str, Any]
    truth: dict[str, Any] | None
    about: dict[str, Any]

    def to_xarray(self) -> "xarray.Dataset":
        """Return the run as an xarray Dataset with the dimensions `voxel` and `layer`.

        `layer_weight` is (voxel, layer); all other numbers of `voxels` are (voxel,); where voxels lie, `roi` and the
        labels of atlases are coordinates of the voxels. The attributes name cache, responses and version.

        Raises
        ------
        RunError
            If xarray is not installed: pip install 'bddn[xarray]'.

        Examples
        --------
        >>> found = bddn.open_run("clip_subj01").to_xarray()
        >>> found["layer_weight"].where(found["roi"] == "EBA").mean("voxel")
        """
        from bddn.run.as_xarray import as_xarray

        return as_xarray(self)

    def to_nilearn(self, values: "str | npt.ArrayLike", mesh: Mesh = "fsaverage5") -> Any:
        """Return numbers of the voxels as an image of nilearn, for its plots and statistics.

        Parameters
        ----------
        values : str, or array of numbers (N,)
            A column of `voxels`, or a number for each voxel, such as predicted responses to an image.
        mesh : str
            The mesh of voxels on a surface: 'fsaverage5', or 'fsaverage6' or 'fsaverage7' if their files are found.

        Returns
        -------
        nilearn.surface.SurfaceImage
            On the inflated surfaces of both hemispheres, float64, with NaN at vertices without a voxel. Of voxels of a
            volume, a nibabel.Nifti1Image, float32.

        Raises
        ------
        RunError
            If there is no such column of numbers.
        DataError
            If the voxels are points without a volume, or the mesh is not found.

        Examples
        --------
        >>> from nilearn import plotting
        >>> plotting.plot_surf_stat_map(stat_map=bddn.open_run("clip_subj01").to_nilearn("depth"), hemi="left")
        """
        from bddn.run.as_nilearn import as_nilearn

        return as_nilearn(self, values, mesh)


def labels(folders: Sequence[Path]) -> list[str]:
    """Return short names that distinguish the folders: their paths relative to the common parent, or the name of a
    single folder."""
    real = [folder.resolve() for folder in folders]
    if len(real) == 1:
        return [printable(real[0].name)]
    shared = Path(os.path.commonpath(real))
    names = [folder.relative_to(shared).as_posix() if folder != shared else folder.name for folder in real]
    return [printable(name) for name in names]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises
    ------
    RunError
        If it is missing, incomplete, has another format, or mixes the files of two fits.
    """
    try:
        identity = atomic.read_object(folder / ABOUT)
        if identity.get("format") != FORMAT:
            raise ValueError(f"format {identity.get('format')!r}, not {FORMAT}")
        if missing := [part for part in ("layers", "fit", "cache", "data") if part not in identity]:
            raise ValueError(f"{ABOUT} without '{missing[0]}'")
        truth = folder / "truth.json"
        voxels = pd.read_parquet(BytesIO((folder / VOXELS).read_bytes()))
        metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
        check_metrics(folder, identity, metrics, voxels)
        told = json.loads(truth.read_text(encoding="utf-8")) if is_listed(truth) else None
        return Run(folder, tuple(identity["layers"]), voxels, metrics, told, identity)
    except RunError:
        raise
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        fix = "Give the --out of a finished 'bddn fit'."
        got, fix = explain_folder(folder, (*FILES, "truth.json"), _describe(folder, error), fix)
        raise RunError(
            folder,
            expected="a run folder of 'bddn fit', with run.json, metrics.json and voxels.parquet",
            got=got,
            fix=fix,
        ) from error


def _describe(folder: Path, error: Exception) -> str:
    """Return a description of what is at the place of a run."""
    if not folder.is_dir():
        return "no such folder"
    missing = [name for name in FILES if not (folder / name).is_file()]
    return f"a folder without {', '.join(missing)}" if missing else f"{type(error).__name__}: {error}"


def encoder_files(run: Run) -> list[Path]:
    """Return the file of the encoder of a run; for an ensemble, the files of its fits.

    Raises
    ------
    RunError
        If an exported folder names files outside it.
    """
    if ENSEMBLE not in run.about:
        return [run.folder / ENCODER]
    fits = run.about[ENSEMBLE]["fits"]
    refuse_outside(run.folder, fits)
    return [run.folder / fit / ENCODER for fit in fits]


def check_single(run: Run, what: str) -> None:
    """Refuse an ensemble, which has as many encoders as fits, where something of one encoder is needed.

    Raises
    ------
    RunError
    """
    if ENSEMBLE in run.about:
        fits = run.about[ENSEMBLE]["fits"]
        raise RunError(
            run.folder,
            expected=f"the run of one fit, which has {what}",
            got=f"the ensemble of {len(fits)} fits, each with its own",
            fix=f"Give one of its fits, e.g. '{os.path.normpath(run.folder / fits[0])}'.",
        )


def read_learning(run: Run) -> learning.Learning:
    """Read the history of the selectors of a run.

    Raises
    ------
    RunError
        If the file is damaged, belongs to another run, or is missing, as in runs of earlier versions and in ensembles.
    """
    check_single(run, "a history of its selectors")
    path = run.folder / LEARNING
    if not is_listed(path):
        raise RunError(
            run.folder,
            expected=f"{LEARNING}, which 'bddn fit' writes",
            got="a run of an earlier version, without this file",
            fix="Fit again with another --out. The encoder will be the same.",
        )
    history, layers = learning.load(path)
    if layers != run.layers or history.voxel.max(initial=0) >= len(run.voxels):
        raise RunError(
            path,
            expected=f"the file of this run, with {len(run.voxels)} voxels and layers {', '.join(run.layers)}",
            got=f"the file of another run, with layers {', '.join(layers)}",
            fix="Copy the whole run folder again.",
        )
    return history


def read_split(run: Run) -> dict[str, list[str]]:
    """Read the stimuli of each part, `train`, `val` and `test`, of a run.

    Raises
    ------
    RunError
        If the file is missing or damaged.
    """
    path = run.folder / SPLIT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {part: [str(stimulus) for stimulus in found[part]] for part in ("train", "val", "test")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            path,
            expected="the images of each part, which 'bddn fit' writes",
            got="no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}",
            fix="Copy the whole run folder again.",
        ) from error


def about_data(run: Run) -> dict[str, Any]:
    """Return the description of the data that the fit recorded, as of `About.to_dict`.

    What runs of earlier versions did not record is that of the kind of their dataset.
    """
    recorded: dict[str, Any] = run.metrics.get("dataset", {})
    if recorded.keys() >= OWN.to_dict().keys():
        return recorded
    kind = recorded.get("name", run.metrics["title"].partition(":")[0])
    known = load_kind(kind).about if kind in dataset_kinds() else OWN
    return {**known.to_dict(), **recorded}


def network_digest(run: Run) -> str:
    """Return the digest of the spec and the network of the run's cache.

    Caches that differ only in the seed of the noise in their latents have the same digest, and numbers that depend on
    the machine are left out."""
    cache = run.about["cache"]
    network = {name: part for name, part in (cache.get("backbone") or {}).items() if name not in (PROBE, NOISE_SEED)}
    return digest({"spec": cache.get("spec"), "backbone": network, "digest": None if network else cache["digest"]})


def frame_of_run(run: Run) -> Frame | None:
    """Return what files of a run's maps are written on; None for fsaverage, and for points without a volume."""
    return read_frame(run.metrics.get("frame"))


def read_channels(run: Run) -> npt.NDArray[np.float32]:
    """Read the channel vectors (N, D) of all voxels, in the order of `run.voxels`, without building the encoder.

    Raises
    ------
    RunError
        If the file of the encoder is missing, damaged, or belongs to another run, or the run is an ensemble.
    """
    check_single(run, "channel weights")
    path = run.folder / ENCODER
    arrays, _ = saved.read(path, saved.AN_ENCODER, "Fit again.", ["channels"])
    channels = np.asarray(arrays["channels"])
    if len(channels) != len(run.voxels):
        raise RunError(
            path,
            expected=f"channel vectors of the {len(run.voxels)} voxels of voxels.parquet",
            got=f"{len(channels)} channel vectors",
            fix="Copy the whole run folder again.",
        )
    return channels


_occupied = partial(occupied, mine="the same run")
_OTHER = "a folder that is not empty and is not a run"


def check_out(out: Path) -> None:
    """Refuse an output folder that contains other files, or in which a run cannot be written.

    Raises
    ------
    OutputError, RunError
        Before any input is read.
    """
    check_new_or_result(out, ABOUT, lambda: _occupied(out, _OTHER))


def is_done(out: Path, identity: Identity) -> bool:
    """Return whether `out` contains the run with this identity. Other content is an error."""
    if is_vacant(out, ABOUT):
        return False
    try:
        existing = atomic.read_object(out / ABOUT)
    except (OSError, ValueError) as error:
        raise _occupied(out, _OTHER) from error
    if differences := Identity(existing).differences(identity):
        raise _occupied(out, f"a run that differs in: {'; '.join(differences)}")
    return True


def voxel_table(voxels: pd.DataFrame, fitted: "Fitted", layers: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with one row per voxel: its place and ROI, its selection, and its brain scores."""
    selection = fitted.selection
    weights = selection.layer.numpy()
    x, y = selection.place.numpy().T
    results = pd.DataFrame(
        {
            "r2_val": fitted.r2_val,
            "r2_test": fitted.r2_test,
            "p_test": fitted.p_test,
            "q_test": q_values(fitted.p_test),
            "layer_argmax": [layers[k] for k in weights.argmax(1)],
            "depth": depth(weights),
            "confidence": confidence(weights),
            "x": x,
            "y": y,
            "scale": selection.scale.numpy(),
        }
    )
    results["response_mean"], results["response_sd"] = fitted.response_mean, fitted.response_sd
    if (sizes := selection.sizes(fitted.model.grid.blurs)) is not None:
        results["size"] = sizes
    columns = pd.DataFrame(weights, columns=[WEIGHT + layer for layer in layers])
    return pd.concat([voxels, results, columns], axis=1)


def without_nan(value: Any) -> Any:
    """Return a value for JSON, with None in place of NaN and infinity."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def summary_of_scores(table: pd.DataFrame) -> dict[str, Any]:
    """Return the part of `metrics.json` that follows from the table of voxels."""
    r2_test = table["r2_test"].to_numpy()
    return {
        "r2_test": robust_mean(r2_test),
        "r2_val": robust_mean(table["r2_val"].to_numpy()),
        "roi_r2_test": roi_scores(table, "r2_test"),
        "hierarchy": hierarchy_slope(table),
        "n_voxels": len(table),
        "n_voxels_without_score": int(np.isnan(r2_test).sum()),
        "n_voxels_below": int((r2_test < LEAST_R2).sum()),
        **without_evidence(table),
        "evidence_fdr": FDR,
    }


def summary(table: pd.DataFrame, fitted: "Fitted") -> dict[str, Any]:
    """Return the summary of a fit, for `metrics.json`."""
    return {
        **summary_of_scores(table),
        "batch_size": fitted.batch_size,
        "best_epoch": fitted.best_epoch,
        "polished": fitted.polished,
        "saturated_selectors": fitted.saturated,
        "unread_layers": fitted.unread,
        "convergence": fitted.convergence,
        "components": fitted.components,
        "trained_voxels": fitted.trained_voxels,
        "epochs": fitted.history,
    }
