"""bddn: brain-to-network maps for any vision model.

Both stages in a notebook:

    import bddn

    cache = bddn.extract("clip_vit_b16", "algonauts:algonauts_2023/subj01", "clip.zarr")
    run = bddn.fit(cache, "algonauts:algonauts_2023/subj01", "clip_subj01", "fast")
    run.voxels[["roi", "layer_argmax", "r2_test"]]

Arrays that are in memory already need neither: see `FactorTopy`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bddn.api import extract, fit, open_cache, open_run, to_himalaya
    from bddn.backbones.module import from_module
    from bddn.data.dataset import Dataset
    from bddn.exports.exporting import export
    from bddn.predict.loaded import load_encoder
    from bddn.run.arrays import FactorTopy

__version__ = "0.3.0"

__all__ = [
    "Dataset",
    "FactorTopy",
    "export",
    "extract",
    "fit",
    "from_module",
    "load_encoder",
    "open_cache",
    "open_run",
    "to_himalaya",
]

_MODULES = {
    "Dataset": "bddn.data.dataset",
    "FactorTopy": "bddn.run.arrays",
    "export": "bddn.exports.exporting",
    "extract": "bddn.api",
    "fit": "bddn.api",
    "from_module": "bddn.backbones.module",
    "load_encoder": "bddn.predict.loaded",
    "open_cache": "bddn.api",
    "open_run": "bddn.api",
    "to_himalaya": "bddn.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import bddn` loads neither numpy nor torch."""
    if name not in _MODULES:
        raise AttributeError(f"module 'bddn' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
