"""A run as an xarray Dataset."""

from typing import TYPE_CHECKING

from bddn.cortex.places import place_columns
from bddn.errors import RunError
from bddn.run.folder import WEIGHT, Run

if TYPE_CHECKING:
    import xarray


def as_xarray(run: Run) -> "xarray.Dataset":
    """Return the table of a run as a Dataset; see `Run.to_xarray`."""
    try:
        import xarray
    except ImportError as error:
        raise RunError(
            "Run.to_xarray",
            expected="the package xarray",
            got=f"a Python without it ({error})",
            fix="Install it with pip install 'bddn[xarray]'.",
        ) from error
    weights = [WEIGHT + layer for layer in run.layers]
    columns = run.voxels.drop(columns=weights)
    texts = [name for name in columns if columns[name].dtype.kind not in "biuf"]
    places = {*place_columns(columns), *texts} - {"layer_argmax"}
    found = {name: ("voxel", columns[name].to_numpy(object if name in texts else None)) for name in columns}
    return xarray.Dataset(
        {
            "layer_weight": (("voxel", "layer"), run.voxels[weights].to_numpy()),
            **{name: values for name, values in found.items() if name not in places},
        },
        coords={
            "voxel": range(len(columns)),
            "layer": list(run.layers),
            **{name: values for name, values in found.items() if name in places},
        },
        attrs={
            "title": run.metrics["title"],
            "cache_digest": run.about["cache"]["digest"],
            "responses_sha256": run.about["data"]["responses_sha256"],
            "bddn": run.about["environment"]["bddn"],
        },
    )
