"""Write a feature cache shard by shard, so that it can stop anywhere and go on."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from bddn.atomic import fsync_path, new_folder, write_json
from bddn.errors import MismatchError, StoreError
from bddn.spec import digest
from bddn.store import manifest
from bddn.store.layout import FORMAT, Layout, create_arrays


class Writer:
    """A store that is being written.

    Parameters
    ----------
    root : Path
        Folder of the store; made if it does not exist.
    layout : Layout
    ids : list of str
        Stimulus ids, in the order of the rows.
    identity : dict
        What decides the content (spec, weights, image hashes …), as JSON types.

    Raises
    ------
    MismatchError
        Where `root` holds a store with another identity; nothing of it is touched.
    StoreError
        Where `root` holds something else.
    """

    def __init__(self, root: Path, layout: Layout, ids: list[str], identity: dict[str, Any]) -> None:
        self.root, self.layout, self.ids = root, layout, ids
        self.header = {"format": FORMAT, "stimuli_sha256": digest(ids), **identity}
        if manifest.header_path(root).is_file():
            self._check_same()
            if not manifest.is_sealed(root):
                self._check_metadata()
        elif root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise StoreError(
                root,
                expected="a new folder, or a cache of bddn",
                got="a folder with other things in it" if root.is_dir() else "a file",
                fix="Give another --out.",
            )
        else:
            self._create()
        self.sealed = manifest.is_sealed(root)

    def _create(self) -> None:
        with new_folder(self.root) as aside:
            create_arrays(aside, self.layout, self.ids, {"bddn": self.header})
            write_json(manifest.header_path(aside), self.header)

    def _check_same(self) -> None:
        differ = manifest.differences(manifest.read_header(self.root), self.header)
        if differ:
            raise MismatchError(
                self.root,
                expected="the cache of this very extraction",
                got=f"one that differs in: {'; '.join(differ)}",
                fix="Give another --out, or move the old cache away.",
            )

    def _check_metadata(self) -> None:
        """Compare zarr's files with those of an empty store made anew: the seal must not vouch for edited ones."""
        with tempfile.TemporaryDirectory() as folder:
            fresh = Path(folder) / "store"
            create_arrays(fresh, self.layout, self.ids, {"bddn": self.header})
            files = {name: manifest.file_record(fresh / name) for name in manifest.metadata_files(fresh)}
        manifest.verify(self.root, files)

    def pending(self) -> list[int]:
        """Shards that have not been committed, or whose files are no longer what was recorded."""
        if self.sealed:
            return []
        return [k for k in range(len(self.layout.shards)) if not self._is_whole(k)]

    def _is_whole(self, shard: int) -> bool:
        record = manifest.read_record(self.root, shard)
        return record is not None and not manifest.differing(self.root, record["files"])

    def write(self, shard: int, arrays: dict[str, npt.NDArray[np.floating]]) -> None:
        """Write all arrays' rows of one shard, flush them, then commit their record.

        Parameters
        ----------
        shard : int
        arrays : dict
            By path ('local/LAYER' or 'global/LAYER'), the rows of the shard in the stored precision.
        """
        start, stop = self.layout.shards[shard]
        group = zarr.open_group(self.root, mode="r+")
        files = {}
        for path, shape in self.layout.arrays().items():
            rows = arrays[path]
            assert rows.shape == (stop - start, *shape), f"{path}: {rows.shape}"
            assert rows.dtype == self.layout.precision, f"{path}: {rows.dtype}"
            array = group[path]
            assert isinstance(array, zarr.Array)
            # A chunk of nothing but fill values is written like any other: zarr must never have to guess.
            array.with_config({"write_empty_chunks": True})[start:stop] = rows
            name = self.layout.shard_file(path, shard)
            fsync_path(self.root / name)
            fsync_path((self.root / name).parent)
            files[name] = manifest.file_record(self.root / name)
        record = {"rows": [start, stop], "stimuli_sha256": digest(self.ids[start:stop]), "files": files}
        write_json(manifest.record_path(self.root, shard), record)

    def digest(self) -> str:
        """Digest of the sealed store."""
        return str(manifest.read_seal(self.root)["digest"])

    def seal(self) -> str:
        """Close the store. Returns its digest."""
        files = {name: manifest.file_record(self.root / name) for name in manifest.metadata_files(self.root)}
        for shard in range(len(self.layout.shards)):
            record = manifest.read_record(self.root, shard)
            assert record is not None, f"shard {shard} has not been written"
            files |= record["files"]
        store_digest = manifest.write_seal(self.root, self.header, files)
        for shard in range(len(self.layout.shards)):  # the seal has taken their place
            manifest.record_path(self.root, shard).unlink()
        self.sealed = True
        return store_digest
