"""The two stages as functions, for scripts and notebooks; `import bddn` offers them.

They do what the commands do, with the same arguments, and raise errors of `bddn.errors`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from bddn.backbones.module import HookedModule
from bddn.backbones.registry import load_spec
from bddn.data import Dataset, open_dataset
from bddn.data.united import Subjects
from bddn.errors import DataError, SpecError
from bddn.extraction import extraction
from bddn.files.paths import expanded
from bddn.run import Run, fit_run, read_run
from bddn.run.recipes import fit_spec
from bddn.spec import CacheSpec, FitSpec
from bddn.store.reader import Cache
from bddn.stream.bands import Bands, bands

Device = Literal["auto", "cpu", "cuda"]
FOR_EXTRACTION = ("name", "stimuli")
FOR_FITS = (*FOR_EXTRACTION, "voxels", "coords_mm", "responses", "truth")


def extract(
    spec: CacheSpec | HookedModule | str | Path,
    dataset: Dataset | str | Sequence[Dataset | str],
    out: str | Path,
    *,
    device: Device = "auto",
) -> Cache:
    """Run a backbone over the images of one or several datasets, write its tokens into a sealed cache, and open it.

    An extraction that was interrupted resumes, and a finished cache of the same content is kept. Notes on how images
    are read are Python warnings.

    Parameters
    ----------
    spec : str, Path, CacheSpec or what `from_module` returned
        The backbone: a name that `bddn backbones` lists, a YAML file, a spec, or a network of your own.
    dataset : Dataset or str, or a sequence of them
        An open dataset, or its name, KIND:PATH; `bddn datasets` lists the kinds. Of several, such as the subjects of
        one experiment, each different image is extracted once.
    out : str or Path
        The cache: a folder, or a URL such as 's3://bucket/clip.zarr'.
    device : {'auto', 'cpu', 'cuda'}
        Where the backbone runs; 'auto' leaves a network of your own where it is.

    Returns
    -------
    Cache

    Raises
    ------
    BddnError
        If spec, images, weights or a cache that is there do not fit.

    Examples
    --------
    >>> cache = bddn.extract("clip_vit_b16", "algonauts:algonauts_2023/subj01", "clip.zarr")
    >>> network = bddn.from_module(torch_module, layers=["blocks.*"], image_size=224)
    >>> cache = bddn.extract(network, "algonauts:algonauts_2023/subj01", "own.zarr")
    """
    if isinstance(spec, HookedModule):
        where = spec.device if device == "auto" else device
        extraction.extract(spec.spec, _together(dataset), out, device=where, backbone=spec)
    else:
        found = spec if isinstance(spec, CacheSpec) else load_spec(str(spec))
        extraction.extract(found, _together(dataset), out, device=device)
    return Cache(out)


def fit(
    cache: Cache | str | Path,
    dataset: Dataset | str,
    out: str | Path,
    spec: FitSpec | str | Path = "fast",
    *,
    device: Device = "auto",
    memory_gib: float | None = None,
    **settings: Any,
) -> Run:
    """Fit an encoder on a sealed cache and the responses of a dataset, and keep it in a run folder.

    A fit that was interrupted resumes, and a finished run of the same cache, data and settings is kept.

    Parameters
    ----------
    cache : Cache, str or Path
        A sealed cache, or its folder or URL.
    dataset : Dataset or str
        An open dataset, or its name, KIND:PATH. The cache must have all its images.
    out : str or Path
        The run folder.
    spec : str, Path or FitSpec
        A recipe ('paper' or 'fast'), a YAML file of settings, or settings.
    device : {'auto', 'cpu', 'cuda'}
    memory_gib : float, optional
        Memory that the fit may take; by default what is free. Tokens that do not fit in it are streamed from the cache.
    **settings
        Fields of `bddn.spec.FitSpec` that replace those of `spec`, such as seed=1 or epochs=5.

    Returns
    -------
    Run
        With the table `voxels`, one row per voxel, and `metrics`.

    Raises
    ------
    BddnError
        If cache, data, settings or a folder that is there do not fit.

    Examples
    --------
    >>> run = bddn.fit("clip.zarr", "algonauts:algonauts_2023/subj01", "clip_subj01", "fast", seed=1)
    >>> run.voxels.groupby("roi")["depth"].mean()
    """
    found = fit_spec(spec, settings, "settings of bddn.fit")
    if memory_gib is not None and (not isinstance(memory_gib, int | float) or not memory_gib >= 0):
        got = repr(memory_gib)
        raise SpecError(
            "memory_gib", expected="a number of GiB, 0 or more", got=got, fix="Correct it, or leave it out."
        )
    data, folder = _opened(dataset), expanded(Path(out)).absolute()
    return fit_run(cache, data, folder, found, device=device, memory_gib=memory_gib)[0]


def open_cache(place: str | Path) -> Cache:
    """Open a sealed cache; every byte is checked when it is read.

    Parameters
    ----------
    place : str or Path
        A folder or a URL.

    Raises
    ------
    StoreError
        If there is no cache, or it is not sealed or damaged.

    Examples
    --------
    >>> cache = bddn.open_cache("clip.zarr")
    >>> local = cache.read("local", cache.layers[-1].name, 0, 10)  # of ten images, (10, rows, columns, channels)
    """
    return Cache(place)


def open_run(folder: str | Path) -> Run:
    """Open a finished run folder.

    Raises
    ------
    RunError
        If it is missing, incomplete or of another format.

    Examples
    --------
    >>> bddn.open_run("clip_subj01").voxels["r2_test"].median()
    """
    return read_run(expanded(Path(folder)).absolute())


def to_himalaya(
    cache: Cache | str | Path,
    dataset: Dataset | str,
    *,
    ids: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
) -> Bands:
    """Return features and responses as two matrices, for ridge regression by layers with himalaya or scikit-learn.

    For each layer, the features are its global token and the mean of its local tokens over places. They are kept in
    memory: 8 bytes × images × channels of all layers.

    Parameters
    ----------
    cache : Cache, str or Path
        A sealed cache, or its folder or URL.
    dataset : Dataset or str
        An open dataset, or its name, KIND:PATH.
    ids : sequence of str, optional
        Stimuli, in the order of the rows; by default all of the dataset.
    layers : sequence of str, optional
        By default all layers of the cache, early to late.

    Returns
    -------
    Bands
        With X (n, P) and Y (n, N) float32, `ids`, and the layer of each column of X as `slices` and as `groups`.

    Raises
    ------
    BddnError
        If the cache lacks a layer or an image, or the dataset an id.

    Examples
    --------
    >>> parts, data = bddn.run.read_split(bddn.open_run("clip_subj01")), "algonauts:algonauts_2023/subj01"
    >>> train, test = (bddn.to_himalaya("clip.zarr", data, ids=parts[part]) for part in ("train", "test"))
    >>> from himalaya.kernel_ridge import ColumnKernelizer, Kernelizer, MultipleKernelRidgeCV
    >>> kernels = ColumnKernelizer([(layer, Kernelizer(), columns) for layer, columns in train.slices.items()])
    >>> banded = sklearn.pipeline.make_pipeline(kernels, MultipleKernelRidgeCV(kernels="precomputed"))
    >>> banded.fit(train.X, train.Y).score(test.X, test.Y)  # R² of every voxel
    """
    found = cache if isinstance(cache, Cache) else Cache(cache)
    return bands(found, _opened(dataset), ids, None if layers is None else tuple(layers))


def _together(dataset: Dataset | str | Sequence[Dataset | str]) -> Dataset | Subjects:
    if isinstance(dataset, list | tuple) and not dataset:
        raise _no_dataset("an empty sequence")
    if isinstance(dataset, str) or not isinstance(dataset, Sequence):
        return _opened(dataset, FOR_EXTRACTION)
    opened = [_opened(one, FOR_EXTRACTION) for one in dataset]
    return Subjects(opened) if len(opened) > 1 else opened[0]


def _opened(dataset: Dataset | str, needed: Sequence[str] = FOR_FITS) -> Dataset:
    if isinstance(dataset, str):
        return open_dataset(dataset)
    if isinstance(dataset, type):
        raise _no_dataset(f"the class {dataset.__name__} itself")
    if missing := [name for name in needed if not hasattr(dataset, name)]:
        raise _no_dataset(f"a {type(dataset).__name__} without '{missing[0]}'")
    return dataset


def _no_dataset(got: str) -> DataError:
    return DataError(
        "dataset",
        expected="an open dataset, as bddn.Dataset describes it, or its name, KIND:PATH",
        got=got,
        fix="See 'bddn datasets' for the kinds of names.",
    )
