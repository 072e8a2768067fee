"""Write a feature cache shard by shard, from any number of processes, so that it can stop anywhere and go on."""

from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from bddn.errors import CorruptStoreError, MismatchError, SpecError, StoreError
from bddn.identity import Identity, digest, only_made_with
from bddn.machine.parallel import ahead, n_threads
from bddn.store import manifest
from bddn.store.at_once import at_once
from bddn.store.canonical import digest_of_texts, encode_json
from bddn.store.contents import Contents, contents, merged
from bddn.store.files import ASIDE, Files
from bddn.store.layout import FORMAT, Layout, empty_files, shard_bytes
from bddn.store.lease import Lease
from bddn.store.precision import Rows
from bddn.store.reader import first_difference, read_images
from bddn.store.shards import shard_records

ASKED = 64  # records that are asked for by name rather than listed
ENCODERS = 8  # arrays of a shard that are encoded at once, at most


def arrays_at_once() -> int:
    """Arrays of a shard that are encoded or written at once."""
    return 1 + min(n_threads(), ENCODERS)


def new_header(layout: Layout, ids: Sequence[str], images: Sequence[str], network: Mapping[str, Any]) -> dict[str, Any]:
    """What a store is for: everything that decides its content, as JSON types.

    Parameters
    ----------
    ids : sequence of str
        Stimulus ids, in the order of the rows.
    images : sequence of str
        SHA-256 of every image's file.
    network : mapping
        What decides tokens besides the images: spec, backbone, versions.
    """
    return {
        "format": FORMAT,
        "n_images": layout.n_images,
        "stimuli_sha256": digest_of_texts(ids),
        "images_sha256": digest_of_texts(images),
        "layers": [{"name": layer.name, "channels": layer.channels} for layer in layout.layers],
        **network,
    }


@dataclass(frozen=True)
class Writer:
    """A store that is being written. It can be sent to other processes, which then write shards of the same store.

    Attributes
    ----------
    files : Files
        Where the store is.
    layout : Layout
    ids, images : sequence of str
        Stimulus ids, and SHA-256 of the images' files.
    header : dict
        See `new_header`.
    """

    files: Files
    layout: Layout
    ids: Sequence[str]
    images: Sequence[str]
    header: dict[str, Any]

    def prepare(self) -> list[str]:
        """Make the store, or check that the one that is there is this very one.

        Returns
        -------
        list of str
            Libraries whose versions differ from those that wrote a sealed store, in words; else empty.

        Raises
        ------
        MismatchError
            Where there is a store with another content; nothing of it is touched.
        StoreError
            Where there is something else.
        """
        self._check_size()
        if not is_there(self.files):  # another process may be quicker; what it made is checked like any other
            self.files.create(manifest.HEADER, encode_json(self.header))
        words = Identity(manifest.read_header(self.files)).differences(Identity(self.header))
        sealed = manifest.is_sealed(self.files)
        if words and not (sealed and only_made_with(words)):
            raise other_work(self.files, words, self._first_other_image(words))
        if sealed:
            with suppress(StoreError):  # a sealed store may be read-only, or damaged
                if left := self._leftovers():
                    self.digest()  # as long as the seal cannot be read, nothing goes
                    self._tidy(left)
        else:
            self._write_metadata()
        return words

    @property
    def is_sealed(self) -> bool:
        """Whether the store is closed."""
        return manifest.is_sealed(self.files)

    def pending(self, shards: Sequence[int] | None = None) -> list[int]:
        """Of some shards (of all by default), those that must be computed.

        They have no record, or their files are no longer what was recorded, every byte of them; such records go.
        """
        if self.is_sealed:
            return []
        there = self.files.sizes(manifest.FOLDER)
        wanted = range(self.layout.n_shards) if shards is None else shards
        recorded = [shard for shard in wanted if manifest.record_name(shard) in there]
        bad = set()
        if recorded:
            checked = at_once(self.files, self._is_whole, recorded, "check", "written shards")
            bad = {shard for shard, whole in zip(recorded, checked, strict=True) if not whole}
        self.files.delete_all([manifest.record_name(shard) for shard in sorted(bad)])
        kept = set(recorded) - bad
        return [shard for shard in wanted if shard not in kept]

    def uncommitted(self, shards: Sequence[int] | None = None) -> list[int]:
        """Of some shards (of all by default), those without a record; none where the store is sealed.

        A listing only spares asking for each record: a few that it lacks are asked for by name, since an object store
        may list a new object late.
        """
        missing = list(range(self.layout.n_shards) if shards is None else shards)
        if len(missing) > ASKED:
            there = self.files.sizes(manifest.FOLDER)
            missing = [shard for shard in missing if manifest.record_name(shard) not in there]
        if len(missing) <= ASKED:
            missing = [shard for shard in missing if not manifest.is_there(self.files, manifest.record_name(shard))]
        return [] if missing and self.is_sealed else missing  # sealing deletes the records

    def is_committed(self, shard: int) -> bool:
        """Whether the shard has a record, or the store is sealed."""
        return not self.uncommitted([shard])

    def write(self, shard: int, filled: Mapping[str, Rows], lease: Lease) -> bool:
        """Write the files of one shard, flush them, then commit their record.

        Parameters
        ----------
        shard : int
        filled : mapping
            By path ('local/LAYER' or 'global/LAYER'), the rows of the shard as `Precision.fill` gave them.
        lease : Lease
            Of this shard.

        Returns
        -------
        bool
            False where another process had taken the shard over; nothing is committed then.
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
        """Digest of the sealed store."""
        return str(manifest.read_seal(self.files, manifest.read_header(self.files))["digest"])

    def seal(self) -> str:
        """Close the store, once every shard has its record. Returns its digest.

        Raises
        ------
        IncompleteStoreError
            Where shards are missing.
        CorruptStoreError
            Where files are no longer there, or not of their recorded size.
        """
        if not self.is_sealed:
            shards = range(self.layout.n_shards)
            found = list(at_once(self.files, partial(manifest.read_record, self.files), shards, "seal", "shards"))
            records = [record for record in found if record is not None and self._is_mine(record)]
            if len(records) == len(found):
                self._close(records)
            elif not self.is_sealed:  # another process may have sealed it just now
                raise manifest.unsealed(self.files, self.layout)
        sealed = self.digest()
        self._tidy(self._leftovers())
        return sealed

    def _leftovers(self) -> list[str]:
        """Records and leases, whose place the seal has taken, and what killed processes left."""
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
            if not self.is_sealed:  # another process may have sealed it just now, and swept
                raise

    def _check_size(self) -> None:
        """What no reader would open must not be written."""
        try:
            Layout.of(self.header)
        except ValueError as error:
            raise SpecError(
                self.files.place,
                expected="a cache that can be opened",
                got=f"one of {error}",
                fix="Set a larger shard_images or chunk_images in the spec.",
            ) from error

    def _metadata(self) -> dict[str, bytes]:
        return empty_files(self.layout, self.ids, self.images, self.header)

    def _write_metadata(self) -> None:
        """Write Zarr's files where they are missing; the seal must not vouch for edited ones."""
        for name, data in self._metadata().items():
            found = self.files.read(name)
            if found is None:
                self.files.replace(name, data)
            elif found != data:
                raise CorruptStoreError(
                    f"{self.files.place}/{name}",
                    expected="the metadata that bddn wrote",
                    got="other bytes",
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
            return False  # a damaged record is none

    def _first_other_image(self, words: list[str]) -> str:
        """Which image is the first that differs, where the hashes of the images do."""
        if not any(word.startswith(("images_sha256", "stimuli_sha256")) for word in words):
            return ""
        stored, wanted = read_images(self.files), list(zip(self.ids, self.images, strict=True))
        row = first_difference(stored, wanted)
        if row is None:
            return f"; {len(stored)} images there and {len(wanted)} here, the same as far as they go"
        return f"; the first other image is in row {row}, '{stored[row][0]}' there and '{wanted[row][0]}' here"


def other_work(files: Files, words: list[str], more: str = "") -> MismatchError:
    """The error of a store that is there and differs, in words, from the one that is wanted."""
    return MismatchError(
        files.place,
        expected="the cache of this very extraction",
        got=f"one that differs in: {'; '.join(words)}{more}",
        fix="Give another --out, or move the old cache away.",
    )


def is_there(files: Files) -> bool:
    """Whether there is a store, sealed or not.

    Raises
    ------
    StoreError
        Where there are other things instead.
    """
    if manifest.is_there(files, manifest.HEADER):
        return True
    if all(name.startswith(f"{ASIDE}/") for name in files.sizes()):
        return False
    if manifest.is_there(files, manifest.HEADER):  # another process made the store between the two looks
        return True
    raise StoreError(
        files.place,
        expected="a new folder, or a cache of bddn",
        got="a folder with other things in it",
        fix="Give another --out.",
    )
