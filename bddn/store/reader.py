"""Open a sealed feature cache, check every byte of it, and read tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from bddn.errors import CorruptStoreError, MismatchError, SpecError
from bddn.spec import digest
from bddn.store import manifest
from bddn.store.layout import IDS, Layer, Layout


class Cache:
    """A sealed store, verified when it is opened.

    Attributes
    ----------
    ids : tuple of str
        Stimulus ids, in the order of the rows.
    layers : tuple of Layer
        Early to late.
    grid : (int, int)
        Rows and columns of the local tokens.
    digest : str
        Identifies the content: header and every file.
    header : dict
        What decided the content.

    Raises
    ------
    IncompleteStoreError
        Where the store is not sealed.
    CorruptStoreError
        Where any file differs from what was sealed.
    StoreError
        Where `root` is no store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.header: dict[str, Any] = manifest.read_header(root)
        seal = manifest.read_seal(root) if manifest.is_sealed(root) else None
        self.layout = _layout(root, self.header)
        if seal is None:
            raise manifest.unsealed(root, len(self.layout.shards))
        manifest.verify(root, seal["files"])
        self.digest: str = seal["digest"]
        self.layers, self.grid = self.layout.layers, self.layout.grid
        self._group = zarr.open_group(root, mode="r")
        self.ids = tuple(str(i) for i in self._array(IDS)[:])
        if digest(list(self.ids)) != self.header["stimuli_sha256"]:
            raise CorruptStoreError(root / IDS, expected="the sealed stimulus ids", got="others", fix=manifest.RESTORE)

    def select_layers(self, names: tuple[str, ...] | None) -> tuple[Layer, ...]:
        """The stored layers of these names, in this order; None means all.

        Raises
        ------
        MismatchError
            Where a layer is not stored.
        """
        by_name = {layer.name: layer for layer in self.layers}
        missing = [name for name in names or () if name not in by_name]
        if missing:
            raise MismatchError(
                f"cache '{self.root.name}'",
                expected=f"layers among {self.layers[0].name} … {self.layers[-1].name}",
                got=f"'{missing[0]}', which is not stored",
                fix="Choose stored layers, or add it to the cache spec and run 'bddn extract' again.",
            )
        return self.layers if names is None else tuple(by_name[name] for name in names)

    def read(self, kind: str, layer: str, start: int, stop: int) -> npt.NDArray[np.floating]:
        """Rows `start` to `stop` of a layer: 'local' (n, H, W, C) or 'global' (n, C), in the stored precision.

        Raises
        ------
        CorruptStoreError
            Where the store was damaged after it was opened.
        """
        path = f"{kind}/{layer}"
        try:
            rows: npt.NDArray[np.floating] = self._array(path)[start:stop]
            # Zarr fills in whole rows for what is missing; the writer never stores a NaN.
            first_of_row: Any = (slice(None), *(0,) * (rows.ndim - 1))
            damage = "rows that are gone" if np.isnan(rows[first_of_row]).any() else None
        except (ValueError, RuntimeError, OSError) as error:
            damage = str(error)
        if damage:
            raise CorruptStoreError(self.root / path, expected="the sealed tokens", got=damage, fix=manifest.RESTORE)
        return rows

    def _array(self, path: str) -> Any:
        return self._group[path]


def _layout(root: Path, header: dict[str, Any]) -> Layout:
    try:
        spec = header["spec"]
        layout = Layout(
            n_images=header["n_images"],
            layers=tuple(Layer(layer["name"], layer["channels"]) for layer in header["layers"]),
            grid=tuple(spec["grid"]),
            precision=spec["precision"],
            chunk_images=spec["chunk_images"],
            shard_images=spec["shard_images"],
        )
        _ = layout.shards
    except (KeyError, TypeError, ValueError, SpecError) as error:
        got = f"one that does not fit together ({type(error).__name__}: {error})"
        raise CorruptStoreError(
            manifest.header_path(root), expected="the header of a cache", got=got, fix=manifest.RESTORE
        ) from error
    return layout
