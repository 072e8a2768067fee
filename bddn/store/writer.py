"""Write a feature cache shard by shard, from any number of processes, so that it can be interrupted and resumed."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from bddn.errors import CorruptStoreError, MismatchError, SpecError, StoreError
from bddn.files.paths import is_left_by_system
from bddn.identity import digest, only_made_with
from bddn.machine.parallel import ahead, n_threads
from bddn.store import manifest
from bddn.store.canonical import digest_of_texts, encode_json
from bddn.store.contents import Contents, contents, merged
from bddn.store.files import ASIDE, Files
from bddn.store.layout import ALIASES, FORMAT, Layout, empty_files, shard_bytes
from bddn.store.lease import Lease
from bddn.store.map_files import map_files
from bddn.store.precision import TokenRows
from bddn.store.reader import first_difference, read_images
from bddn.store.shards import shard_records

MAX_LOOKUPS = 64  # most records that are looked up by name instead of listing the folder
ENCODERS = 8  # most arrays of a shard that are encoded in parallel


def arrays_at_once() -> int:
    """Return the number of arrays of a shard that are encoded or written at the same time."""
    return 1 + min(n_threads(), ENCODERS)


def new_header(
    layout: Layout,
    ids: Sequence[str],
    images: Sequence[str],
    network: Mapping[str, Any],
    aliases: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the header of a store: everything that determines its content, as JSON types.

    Parameters
    ----------
    ids : sequence of str
        Stimulus ids, in the order of the rows.
    images : sequence of str
        SHA-256 of every image file, or of its pixels, hexadecimal.
    network : mapping
        What determines tokens besides the images: spec, backbone, versions.
    aliases : mapping of str to str, optional
        Other ids of these images, each with one of `ids`.
    """
    return {
        "format": FORMAT,
        "n_images": layout.n_images,
        "stimuli_sha256": digest_of_texts(ids),
        "images_sha256": digest_of_texts(images),
        "layers": [layer.to_dict() for layer in layout.layers],
        **({ALIASES: dict(sorted(aliases.items()))} if aliases else {}),
        **network,
    }


@dataclass(frozen=True)
class Writer:
    """The writer of a store. It can be sent to other processes, which then write shards of the same store.

    Attributes
    ----------
    files : Files
        The files of the store.
    layout : Layout
    ids, images : sequence of str
        Stimulus ids, and SHA-256 of the image files.
    header : dict
        See `new_header`.
    """

    files: Files
    layout: Layout
    ids: Sequence[str]
    images: Sequence[str]
    header: dict[str, Any]

    def prepare(self) -> list[str]:
        """Create the store, or check that an existing store has the same header.

        Returns
        -------
        list of str
            A description of each library whose version differs from the one that wrote a sealed store.

        Raises
        ------
        MismatchError
            If a store with another content exists; it is not changed.
        StoreError
            If other files exist there.
        """
        self._check_size()
        if not is_there(self.files):  # if another process creates it first, the check below compares its header
            self.files.create(manifest.HEADER, encode_json(self.header))
        words = manifest.content_of(manifest.read_header(self.files)).differences(manifest.content_of(self.header))
        sealed = manifest.is_sealed(self.files)
        if words and not (sealed and only_made_with(words)):
            raise other_content_error(self.files, words, self._first_other_image(words))
        if sealed:
            with suppress(StoreError):  # a sealed store may be read-only, or damaged
                if left := self._leftovers():
                    self.digest()  # delete nothing while the seal cannot be read
                    self._tidy(left)
        else:
            self._write_metadata()
        return words

    @property
    def is_sealed(self) -> bool:
        """Whether the store is sealed."""
        return manifest.is_sealed(self.files)

    def pending(self, shards: Sequence[int] | None = None) -> list[int]:
        """Return those of these shards (by default of all) that must be computed.

        They have no record, or a byte of their files differs from it; in that case the record is deleted.
        """
        if self.is_sealed:
            return []
        there = self.files.sizes(manifest.FOLDER)
        wanted = range(self.layout.n_shards) if shards is None else shards
        recorded = [shard for shard in wanted if manifest.record_name(shard) in there]
        bad = set()
        if recorded:
            checked = map_files(self.files, self._is_whole, recorded, "check", "written shards")
            bad = {shard for shard, whole in zip(recorded, checked, strict=True) if not whole}
        self.files.delete_all([manifest.record_name(shard) for shard in sorted(bad)])
        kept = set(recorded) - bad
        return [shard for shard in wanted if shard not in kept]

    def uncommitted(self, shards: Sequence[int] | None = None) -> list[int]:
        """Return those of these shards (by default of all) that have no record; none if the store is sealed.

        Many shards are first looked up with one listing. The last few missing ones are then looked up by name, because
        an object store may list a new object late.
        """
        missing = list(range(self.layout.n_shards) if shards is None else shards)
        if len(missing) > MAX_LOOKUPS:
            there = self.files.sizes(manifest.FOLDER)
            missing = [shard for shard in missing if manifest.record_name(shard) not in there]
        if len(missing) <= MAX_LOOKUPS:
            missing = [shard for shard in missing if not manifest.is_there(self.files, manifest.record_name(shard))]
        return [] if missing and self.is_sealed else missing  # sealing deletes the records

    def is_committed(self, shard: int) -> bool:
        """Return whether the shard has a record, or the store is sealed."""
        return not self.uncommitted([shard])

    def write(self, shard: int, filled: Mapping[str, TokenRows], lease: Lease) -> bool:
        """Write the files of one shard, flush them, then commit their record.

        Parameters
        ----------
        shard : int
        filled : mapping
            By path ('local/LAYER', 'global/LAYER', …), the rows of the shard as `Precision.fill` returns them.
        lease : Lease
            The lease of this shard.

        Returns
        -------
        bool
            False if another process has taken over the shard; nothing is committed then.
        """
        start, stop = self.layout.shards[shard]
        record: dict[str, Any] = {
            "rows": [start, stop],
            "stimuli_sha256": digest_of_texts(self.ids[start:stop]),
            "header_sha256": self._header_sha256,
            "contents": {},
            "files": {},
        }

        def encode(path: str) -> tuple[str, dict[str, bytes], dict[str, manifest.Record], dict[str, Any]]:
            files = shard_bytes(self.layout, shard, {path: filled[path]})
            return path, files, shard_records(self.layout, shard, files), contents(self.layout, filled[path]).to_dict()

        with closing(ahead(encode, self.layout.arrays(), arrays_at_once())) as encoded:
            for path, files, records, sums in encoded:
                for name, data in files.items():
                    if not lease.is_held():
                        return False
                    self.files.replace(name, data)
                record["files"] |= records
                record["contents"][path] = sums
        assert sorted(record["files"]) == sorted(self.layout.shard_files(shard))
        if not lease.is_held():
            return False
        self.files.replace(manifest.record_name(shard), manifest.record_bytes(record))
        return True

    def digest(self) -> str:
        """Return the digest of the sealed store."""
        return str(manifest.read_seal(self.files, manifest.read_header(self.files))["digest"])

    def seal(self) -> str:
        """Seal the store after all shards have a record, and return its digest.

        Raises
        ------
        IncompleteStoreError
            If shards are missing.
        CorruptStoreError
            If a file is missing, or does not have its recorded size.
        """
        if not self.is_sealed:
            shards = range(self.layout.n_shards)
            found = list(map_files(self.files, partial(manifest.read_record, self.files), shards, "seal", "shards"))
            records = [record for record in found if record is not None and self._is_mine(record)]
            if len(records) == len(found):
                self._close(records)
            elif not self.is_sealed:  # another process may have sealed it just now
                raise manifest.unsealed(self.files, self.layout)
        sealed = self.digest()
        self._tidy(self._leftovers())
        return sealed

    def _leftovers(self) -> list[str]:
        """Return the names of records and leases, which the seal replaces, and of files that killed processes left."""
        return [name for name in self.files.sizes(manifest.FOLDER) if name not in {manifest.HEADER, manifest.SEAL}]

    def _tidy(self, left: list[str]) -> None:
        self.files.delete_all(left)
        self.files.sweep()

    def _close(self, records: list[manifest.Record]) -> None:
        files = {name: manifest.file_record(data) for name, data in self._metadata().items()}
        for record in records:
            files |= record["files"]
        bad = manifest.wrong_sizes(self.files, files)
        if bad:
            raise manifest.corrupt(self.files, bad)
        layers = {
            path: merged([Contents(**record["contents"][path]) for record in records]).to_dict()
            for path in self.layout.arrays()
        }
        try:
            self.files.replace(manifest.SEAL, manifest.seal_bytes(self.header, files, layers))
        except StoreError:
            if not self.is_sealed:  # another process may have sealed it just now, and deleted temporary files
                raise

    def _check_size(self) -> None:
        """Refuse a store that is too large for a reader to open."""
        try:
            Layout.of(self.header)
        except ValueError as error:
            raise SpecError(
                self.files.place,
                expected="a cache that can be opened",
                got=f"a cache of {error}",
                fix="Set a larger shard_images or chunk_images in the spec.",
            ) from error

    def _metadata(self) -> dict[str, bytes]:
        return empty_files(self.layout, self.ids, self.images, self.header)

    def _write_metadata(self) -> None:
        """Write missing metadata files of Zarr, and refuse edited ones."""
        for name, data in self._metadata().items():
            found = self.files.read(name)
            if found is None:
                self.files.replace(name, data)
            elif found != data:
                raise CorruptStoreError(
                    f"{self.files.place}/{name}",
                    expected="the metadata that bddn wrote",
                    got="different bytes",
                    fix=f"Delete this file and run the same command again. {manifest.RESTORE}",
                )

    def _is_mine(self, record: manifest.Record) -> bool:
        return record.get("header_sha256") == self._header_sha256

    @cached_property
    def _header_sha256(self) -> str:
        return digest(self.header)

    def _is_whole(self, shard: int) -> bool:
        try:
            record = manifest.read_record(self.files, shard)
            if record is None or not self._is_mine(record):
                return False
            if sorted(record["files"]) != sorted(self.layout.shard_files(shard)):
                return False
            return all(manifest.wrong_bytes(self.files, name, about) is None for name, about in record["files"].items())
        except (CorruptStoreError, KeyError, TypeError):
            return False  # a damaged record counts as missing

    def _first_other_image(self, words: list[str]) -> str:
        """Describe the first image that differs, or return '' if the images are equal."""
        if not any(word.startswith(("images_sha256", "stimuli_sha256")) for word in words):
            return ""
        stored, wanted = read_images(self.files), list(zip(self.ids, self.images, strict=True))
        row = first_difference(stored, wanted)
        if row is None:
            return f"; it has {len(stored)} images and this extraction {len(wanted)}, equal up to the shorter length"
        return f"; the first different image is in row {row}: '{stored[row][0]}' there and '{wanted[row][0]}' here"


def other_content_error(files: Files, words: list[str], more: str = "") -> MismatchError:
    """Return the error for an existing store that differs from this extraction; `words` describe the differences."""
    return MismatchError(
        files.place,
        expected="a cache of the same extraction",
        got=f"a cache that differs in: {'; '.join(words)}{more}",
        fix="Give another --out, or move the old cache away.",
    )


def is_there(files: Files) -> bool:
    """Return whether a store exists, sealed or not.

    Raises
    ------
    StoreError
        If the folder holds other files instead.
    """
    if manifest.is_there(files, manifest.HEADER):
        return True
    if all(name.startswith(f"{ASIDE}/") or is_left_by_system(name.partition("/")[0]) for name in files.sizes()):
        return False
    if manifest.is_there(files, manifest.HEADER):  # another process has created the store between the two checks
        return True
    raise StoreError(
        files.place,
        expected="a new folder, or a cache of bddn",
        got="a folder with other files",
        fix="Give another --out, or move these files away.",
    )
