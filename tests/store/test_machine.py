"""Whatever happens to a store, and in whatever order: it answers the rows that were written, or an error of ours."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bddn.errors import BddnError, IncompleteStoreError, StoreError
from bddn.store import manifest
from bddn.store import writer as writing
from bddn.store.check import verify
from bddn.store.files import LocalFiles
from bddn.store.layout import Layer, Layout, empty_files
from bddn.store.precision import precision
from bddn.store.reader import Cache
from bddn.store.writer import Writer, new_header
from store.disk import KilledError, killing
from store.stores import (
    IDENTITY,
    IDS,
    IMAGES,
    SHARDS,
    Arrays,
    N,
    as_read,
    filled_with,
    flip,
    lease_of,
    read,
    rows,
    same,
    swap,
    tokens,
)

PRECISIONS = ("float16", "int8", "bitround:6")
SEEDS = range(2)
DAMAGE = ("flip", "flip", "swap", "swap", "cut", "empty", "longer", "delete", "link", "folder")


def _layout(name: str) -> Layout:
    return Layout(N, (Layer("early", 3),), (2, 3), precision(name), 2, 4)


def _header(name: str) -> dict[str, Any]:
    about = {**IDENTITY, "spec": {**IDENTITY["spec"], "precision": name}}
    return new_header(_layout(name), IDS, IMAGES, about)


@cache
def _filled(name: str, seed: int) -> Arrays:
    return filled_with(tokens(_layout(name), seed), _layout(name))


@cache
def _empty(name: str) -> dict[str, bytes]:
    return empty_files(_layout(name), IDS, IMAGES, _header(name))


def _finish(made: Writer, name: str, seed: int) -> str:
    made.prepare()
    for shard in made.pending():
        with lease_of(made, shard) as lease:
            assert made.write(shard, rows(_filled(name, seed), shard), lease)
    return made.seal()


@cache
def _digest(name: str, seed: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        made = Writer(LocalFiles(Path(folder)), _layout(name), IDS, IMAGES, _header(name))
        return _finish(made, name, seed)


class StoreMachine(RuleBasedStateMachine):
    """One store, the rows that it should hold, and whether anyone has laid hands on its files."""

    @initialize(name=st.sampled_from(PRECISIONS), seed=st.sampled_from(SEEDS), n=st.integers(-1, len(SHARDS)))
    def begin(self, name: str, seed: int, n: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bddn-machine-"))
        self.name, self.seed = name, seed
        self.expected = as_read(_filled(name, seed), _layout(name))
        self.damaged = False
        self.opened: Cache | None = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(writing, "empty_files", lambda layout, ids, images, header: _empty(name))
        if n >= 0:
            self.work(n, 0, True)

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            self.patch.undo()
            shutil.rmtree(self.folder)

    @property
    def root(self) -> Path:
        return self.folder / "store.zarr"

    def writer(self) -> Writer:
        return Writer(LocalFiles(self.root), _layout(self.name), IDS, IMAGES, _header(self.name))

    @contextlib.contextmanager
    def unless_damaged(self) -> Iterator[None]:
        """An error of ours is right where files were damaged, and nowhere else."""
        try:
            yield
        except BddnError:
            if not self.damaged:
                raise

    @rule(n=st.integers(0, len(SHARDS)), kill_at=st.just(0) | st.integers(1, 250), seal=st.booleans())
    def work(self, n: int, kill_at: int, seal: bool) -> None:
        """A job begins or goes on; it may die at any operation."""
        made, filled = self.writer(), _filled(self.name, self.seed)
        with killing(kill_at), contextlib.suppress(KilledError), self.unless_damaged():
            made.prepare()
            for shard in made.pending()[:n]:
                with lease_of(made, shard) as lease:
                    assert made.write(shard, rows(filled, shard), lease)
            if seal:
                with contextlib.suppress(IncompleteStoreError):
                    made.seal()

    @rule()
    def finish(self) -> None:
        """A job that nothing disturbs ends with the very store, or says that it cannot mend what is there."""
        made = self.writer()
        with killing(0), self.unless_damaged():
            was_sealed = made.is_sealed
            assert _finish(made, self.name, self.seed) == _digest(self.name, self.seed)
            self.damaged &= was_sealed
            self.read_everything(Cache(self.root))

    def read_everything(self, found: Cache) -> None:
        for path, expected in self.expected.items():
            assert same(read(found, path), expected)

    @precondition(lambda self: self.tokens())
    @rule(data=st.data(), how=st.sampled_from(DAMAGE))
    def damage_tokens(self, data: st.DataObject, how: str) -> None:
        self.damage(self.tokens(), data, how)

    @precondition(lambda self: (self.root / "manifest").exists())
    @rule(data=st.data(), how=st.sampled_from(DAMAGE), manifest_only=st.booleans())
    def damage_any(self, data: st.DataObject, how: str, manifest_only: bool) -> None:
        names = (self.root / "manifest" if manifest_only else self.root).rglob("*")
        self.damage([path for path in names if path.is_file()], data, how)

    def tokens(self) -> list[Path]:
        return [path for path in self.root.rglob("early/c.*") if path.is_file()]

    def damage(self, paths: list[Path], data: st.DataObject, how: str) -> None:
        """One file of the store is not what it was."""
        if not paths:
            return
        path = data.draw(st.sampled_from(sorted(paths)))
        size = path.stat().st_size
        self.damaged = True
        if how == "flip" and size:
            flip(path, data.draw(st.integers(0, size - 1)), 1 << data.draw(st.integers(0, 7)))
        elif how == "cut" and size:
            path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, size - 1))])
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "longer":
            path.write_bytes(path.read_bytes() + b"\0" * data.draw(st.integers(1, 100)))
        elif how == "swap":
            others = [other for other in sorted(paths) if other.parent == path.parent and other != path]
            if others:
                swap(path, data.draw(st.sampled_from(others)))
        elif how == "link":
            path.rename(self.folder / "elsewhere")
            path.symlink_to(self.folder / "elsewhere")
        else:
            path.unlink()
            if how == "folder":
                path.mkdir()

    @precondition(lambda self: self.damaged)
    @rule()
    def begin_again(self) -> None:
        """What the errors advise: delete it, and extract again."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.damaged, self.opened = False, None

    @rule()
    def open(self) -> None:
        try:
            self.opened = Cache(self.root)
        except StoreError as error:
            sealed = (self.root / manifest.SEAL).is_file()
            if sealed and not self.damaged:
                raise AssertionError("a good store is refused") from error

    @precondition(lambda self: self.opened is not None)
    @rule(kind=st.sampled_from(["local", "global"]), a=st.integers(0, N), b=st.integers(0, N))
    def read(self, kind: str, a: int, b: int) -> None:
        assert self.opened is not None
        start, stop = sorted((a, b))
        with self.unless_damaged():
            found = self.opened.read(kind, "early", start, stop)
            assert same(found, self.expected[f"{kind}/early"][start:stop])

    @precondition(lambda self: (self.root / manifest.SEAL).is_file())
    @rule()
    def check(self) -> None:
        """A store in which nothing is found bad can be read to the last byte."""
        with self.unless_damaged():
            bad = verify(self.root).bad
            assert self.damaged or not bad
            try:
                self.read_everything(Cache(self.root))
            except StoreError as error:
                if not bad:
                    raise AssertionError("what was found good is refused") from error

    @invariant()
    def a_damaged_store_answers_no_other_number(self) -> None:
        if hasattr(self, "folder") and self.damaged:
            with contextlib.suppress(StoreError):
                self.read_everything(Cache(self.root))
            with contextlib.suppress(StoreError):
                if self.opened is not None:
                    self.read_everything(self.opened)

    @invariant()
    def a_seal_names_every_file(self) -> None:
        if hasattr(self, "folder") and not self.damaged and (self.root / manifest.SEAL).is_file():
            there = LocalFiles(self.root).sizes()
            assert set(manifest.expected_files(_layout(self.name))) <= there.keys()


def test_a_store_answers_what_was_written_or_an_error_whatever_happens_to_it(long: bool) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=2_000 if long else 70,
            stateful_step_count=30 if long else 12,
            derandomize=not long,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
