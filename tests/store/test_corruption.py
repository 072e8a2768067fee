"""Thousands of corruptions of a sealed store: reading it finds every one. Beside it, what plain Zarr would find."""

import copy
import json
import os
import random
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr

from bddn.errors import BddnError
from bddn.store.reader import Cache
from store.stores import SHARDS, filled_with, layout_of, tokens, write, writer

PRECISIONS = ("float16", "int8", "bitround:6")
FOUND, RIGHT, WRONG = "error", "right values", "wrong values"

Values = dict[str, Any]
Damage = dict[str, bytes | None]  # by name, the new bytes of a file; None where it is deleted


def store(root: Path, name: str, seed: int) -> None:
    """A sealed store of some kB."""
    layout = layout_of(name)
    made = writer(root, layout, images=[f"{i + 1 + 100 * seed:064x}" for i in range(layout.n_images)])
    made.prepare()
    write(made, filled_with(tokens(layout, seed), layout), SHARDS)
    made.seal()


def copied_with_defaults(root: Path, to: Path) -> None:
    """A Zarr store of the same arrays, as Zarr writes them where it is not told how."""
    group = zarr.create_group(to)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.UnstableSpecificationWarning)
        for path in arrays(root):
            array: Any = zarr.open_array(root / path, mode="r")
            group.create_array(path, data=array[:])


def arrays(root: Path) -> list[str]:
    """Paths of all arrays of a Zarr store."""
    names = [path for path in root.rglob("zarr.json") if json.loads(path.read_text())["node_type"] == "array"]
    return sorted(path.parent.relative_to(root).as_posix() for path in names)


# --- reading


def read_cache(root: Path, _: list[str]) -> Values:
    """Everything that a cache gives, by the way that a fit reads it."""
    cache = Cache(root)
    kinds, n = ("local", "global"), len(cache.ids)
    rows: Values = {f"{k}/{layer.name}": cache.read(k, layer.name, 0, n) for k in kinds for layer in cache.layers}
    return {**rows, "ids": cache.ids, "images": cache.images, "header": cache.header, "digest": cache.digest}


def read_zarr(root: Path, paths: list[str]) -> Values:
    """All arrays, by Zarr alone."""
    group: Any = zarr.open_group(root, mode="r", use_consolidated=False)
    return {path: group[path][:] for path in paths}


def same(a: Values, b: Values) -> bool:
    return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        a, b = a.numpy(), b.numpy()
    if not hasattr(a, "tobytes"):
        return bool(a == b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool((a == b).all()) if a.dtype.kind in "OT" else a.tobytes() == b.tobytes()


class Reader:
    """A way to read a store, and what it gave of the whole one."""

    def __init__(self, root: Path, read: Callable[[Path, list[str]], Values]) -> None:
        self.root, self._read, self.paths = root, read, arrays(root)
        self.whole = read(root, self.paths)

    def outcome(self) -> str:
        """What reading gives of the store as it is now; every error of this project's is one that says so."""
        try:
            found = self._read(self.root, self.paths)
        except BddnError:
            return FOUND
        except Exception as error:  # plain Zarr has many
            if self._read is read_cache:
                raise AssertionError(f"an error of another kind: {error!r}") from error
            return FOUND
        return RIGHT if same(found, self.whole) else WRONG


# --- damage: each gives the new bytes of some files, or none where it would change nothing


def flip(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    name = rng.choice(sorted(name for name, data in files.items() if data))
    data = bytearray(files[name])
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    return {name: bytes(data)}


def cut(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    name = rng.choice(sorted(files))
    return {name: files[name][: rng.choice([0, rng.randrange(len(files[name])), len(files[name]) - 1])]}


def lengthen(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    name = rng.choice(sorted(files))
    return {name: files[name] + rng.randbytes(rng.choice([1, 100]))}


def blank(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    name = rng.choice(sorted(files))
    start = rng.choice([0, rng.randrange(len(files[name]))])
    return {name: files[name][:start] + bytes(len(files[name]) - start)}


def swap(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    a, b = rng.sample(sorted(files), 2)
    return {a: files[b], b: files[a]}


def swap_shards(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    """Two files of the same size, which only their content tells apart."""
    a = rng.choice(sorted(files))
    b = rng.choice(sorted(name for name in files if len(files[name]) == len(files[a])))
    return {a: files[b], b: files[a]}


def delete(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    return {rng.choice(sorted(files)): None}


def replace(rng: random.Random, files: dict[str, bytes], others: dict[str, bytes]) -> Damage:
    """The file of the same name of another sealed store."""
    name = rng.choice(sorted(files.keys() & others.keys()))
    return {name: others[name]}


def edit(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    """Another value somewhere in a JSON file, which stays JSON."""
    name = rng.choice(sorted(name for name in files if name.endswith(".json")))
    value = json.loads(files[name])
    places = list(_places(value))
    holder, key = rng.choice(places)
    holder[key] = _other(rng, holder[key])
    return {name: json.dumps(value, indent=2).encode()}


def describe(rng: random.Random, files: dict[str, bytes], _: dict[str, bytes]) -> Damage:
    """Metadata of an array that describe another array."""
    name = rng.choice(sorted(n for n in files if n.endswith("/zarr.json") and b'"array"' in files[n]))
    value = json.loads(files[name])
    shape, kind = value["shape"], value["data_type"]
    numbers = {"float16": "int16", "int8": "uint8", "float32": "int32", "uint8": "int8"}
    changes: list[Callable[[], object]] = [
        lambda: shape.__setitem__(0, shape[0] * 2),
        lambda: shape.__setitem__(0, shape[0] - 1),
        lambda: value.update(data_type=numbers.get(kind, kind)),
        lambda: value.update(fill_value=0 if kind != "string" else "x"),
        lambda: value.update(codecs=_without_checksums(value["codecs"])),
        lambda: value.update(chunk_key_encoding={"name": "default", "configuration": {"separator": "/"}}),
    ]
    rng.choice(changes)()
    return {name: json.dumps(value, indent=2).encode()}


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every number, text and truth value in nested JSON, as what holds it and its key there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, Any]] = []
    for key, item in items:
        found += _places(item) if isinstance(item, dict | list) else [(value, key)]
    return found


def _other(rng: random.Random, value: Any) -> Any:
    match value:
        case bool() | None:
            return not value
        case int():
            return value + rng.choice([-1, 1, 10])
        case float():
            return value * 2 + 1
    return rng.choice([value[:-1], f"{value}x", value.upper() if value != value.upper() else "y"])


def _without_checksums(codecs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [copy.deepcopy(codec) for codec in codecs if codec["name"] != "crc32c"]
    for codec in kept:
        if codec["name"] == "sharding_indexed":
            inner = codec["configuration"]
            inner["codecs"] = _without_checksums(inner["codecs"])
    return kept


KINDS: dict[str, tuple[int, Callable[[random.Random, dict[str, bytes], dict[str, bytes]], Damage]]] = {
    "one byte flipped": (44, flip),
    "cut short, to 0 bytes too": (12, cut),
    "bytes added": (4, lengthen),
    "zeros to the end": (6, blank),
    "two files swapped": (6, swap),
    "two files of one size swapped": (6, swap_shards),
    "deleted": (6, delete),
    "file of another store": (6, replace),
    "value in a JSON file edited": (5, edit),
    "array described otherwise": (5, describe),
}


class Victim:
    """A store in memory and on disk, damaged and mended in place."""

    def __init__(self, root: Path, other: Path, read: Callable[[Path, list[str]], Values]) -> None:
        self.root = root
        self.files, self.others = _files(root), _files(other)
        self.reader = Reader(root, read)

    def damage(self, kind: str, seed: int) -> Damage:
        """A damage that changes something, on no file yet."""
        rng = random.Random(seed)  # noqa: S311
        while True:
            found = KINDS[kind][1](rng, self.files, self.others)
            if any(data != self.files[name] for name, data in found.items()):
                return found

    def suffer(self, damage: Damage) -> str:
        """What reading gives of the damaged store, which is whole again afterwards."""
        try:
            for name, data in damage.items():
                _put(self.root / name, data)
            return self.reader.outcome()
        finally:
            for name in damage:
                _put(self.root / name, self.files[name])


def _files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def test_reading_finds_every_corruption_where_plain_zarr_would_not(tmp_path: Path, long: bool) -> None:
    n, n_compared = (10_000, 10_000) if long else (300, 30)
    ours: list[Victim] = []
    plain: list[Victim] = []
    default: list[Victim] = []
    for name in PRECISIONS:
        at = tmp_path / name
        for seed, of in enumerate(("store", "other")):
            store(at / f"{of}.zarr", name, seed)
            copied_with_defaults(at / f"{of}.zarr", at / f"{of}.default.zarr")
        ours.append(Victim(at / "store.zarr", at / "other.zarr", read_cache))
        plain.append(Victim(at / "store.zarr", at / "other.zarr", read_zarr))
        default.append(Victim(at / "store.default.zarr", at / "other.default.zarr", read_zarr))
    kinds = random.Random(0).choices(list(KINDS), [weight for weight, _ in KINDS.values()], k=n)  # noqa: S311
    table = {reader: {kind: Counter[str]() for kind in KINDS} for reader in ("bddn", "zarr", "zarr's defaults")}
    missed: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed, kind in enumerate(kinds):
            i = seed % len(PRECISIONS)
            damage = ours[i].damage(kind, seed)
            outcome = ours[i].suffer(damage)
            table["bddn"][kind][outcome] += 1
            if outcome != FOUND:
                missed.append(f"{seed}: {kind}, {', '.join(damage)}")
            if seed >= n_compared:
                continue
            table["zarr"][kind][plain[i].suffer(damage)] += 1
            table["zarr's defaults"][kind][default[i].suffer(default[i].damage(kind, seed))] += 1
    figures = {
        "corruptions": n,
        "zarr": zarr.__version__,
        "not found by bddn": len(missed),
        "silently wrong": {reader: sum(one[WRONG] for one in found.values()) for reader, found in table.items()},
        "by kind": table,
    }
    report(figures, long)
    assert missed == []
    assert sum(found[WRONG] for found in table["bddn"].values()) == 0
    for victim in (*ours, *default):
        assert _files(victim.root) == victim.files
        assert victim.reader.outcome() == RIGHT


def report(figures: dict[str, Any], long: bool) -> None:
    """Print the table, and keep that of the long test."""
    lines = [f"{'':32}" + "".join(f"{reader:>36}" for reader in figures["by kind"])]
    lines.append(f"{'':32}" + "".join(f"{f'{FOUND} / {RIGHT} / {WRONG}':>36}" for _ in figures["by kind"]))
    for kind in KINDS:
        cells = [
            "{} / {} / {}".format(*(one[kind][o] for o in (FOUND, RIGHT, WRONG))) for one in figures["by kind"].values()
        ]
        lines.append(f"{kind:32}" + "".join(f"{cell:>36}" for cell in cells))
    sys.stdout.write(os.linesep.join(lines) + "\n")
    if long:
        from bench.report import keep

        keep("corruption", figures)


@pytest.mark.parametrize("name", PRECISIONS)
def test_every_byte_of_a_shard_counts(tmp_path: Path, name: str, long: bool) -> None:
    store(tmp_path / "store.zarr", name, 0)
    victim = Victim(tmp_path / "store.zarr", tmp_path / "store.zarr", read_cache)
    shard = "local/early/c.2.0.0.0" if not long else "local/step@20.block_1/c.0.0.0.0"
    data = victim.files[shard]
    for at in range(0, len(data), 1 if long else 5):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        assert victim.suffer({shard: bytes(changed)}) == FOUND, at
