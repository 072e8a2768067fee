"""A sealed store is plain Zarr: xarray reads it by name where there is no bddn."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bddn.extraction import extract
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec
from bddn.store.reader import Cache

ALONE = """
import sys
sys.modules["bddn"] = None  # as where it is not installed
try:
    import bddn
except ImportError:
    pass
else:
    raise SystemExit("bddn is there")
import json
import warnings
import numpy as np
import xarray
store, out = sys.argv[1:]
found, arrays = dict(), dict()

def keep(name, array):
    found[name] = [list(array.dims), str(array.dtype), array.attrs]
    values = array.values
    arrays[name.replace("/", " ")] = np.array(values.tolist()) if name == "stimulus" else values

with warnings.catch_warnings():
    warnings.simplefilter("error")
    {code}
np.savez(out, **arrays)
print(json.dumps(found))
"""

BY_GROUP = """
    for kind in {groups!r}:
        with xarray.open_zarr(store, group=kind, consolidated=False) as group:
            for name, array in group.items():
                keep(f"{{kind}}/{{name}}", array)
"""

AS_TREE = """
    with xarray.open_datatree(store, engine="zarr") as tree:
        found["bddn"] = tree.attrs["bddn"]["spec"]["precision"]
        for node in tree.subtree:
            for name, array in node.to_dataset(inherit=False).variables.items():
                keep(f"{{node.path}}/{{name}}".strip("/"), array)
        keep("by id", tree["local"]["block_1"].sel(stimulus=tree["stimulus"].values[7]))
"""

Found = tuple[dict[str, Any], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def int8(brain: Path, spec: CacheSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sealed cache of the planted brain in int8."""
    out = tmp_path_factory.mktemp("caches") / "int8.zarr"
    extract(spec.model_copy(update={"precision": "int8"}), Planted(brain), out)
    return out


@pytest.fixture
def alone(tmp_path: Path) -> Callable[[Path, str], Found]:
    """Runs xarray on a store in a process that has no bddn."""

    def run(store: Path, code: str) -> Found:
        text = ALONE.format(code=code.strip())
        out = tmp_path / "found.npz"
        done = subprocess.run(
            [sys.executable, "-I", "-c", text, str(store), str(out)],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        with np.load(out) as arrays:
            return json.loads(done.stdout), {name.replace(" ", "/"): arrays[name] for name in arrays}

    return run


def test_open_zarr_gives_the_rows_of_a_group_by_the_names_of_their_dimensions(
    sealed: Path, alone: Callable[[Path, str], Found]
) -> None:
    found, arrays = alone(sealed, BY_GROUP.format(groups=["local", "global"]))
    cache = Cache(sealed)
    assert sorted(found) == sorted(cache.contents)
    for path, (dimensions, dtype, attributes) in found.items():
        kind, layer = path.split("/")
        places = ["row", "column"] if kind == "local" else []
        assert dimensions == ["stimulus", *places, "channel_24"]
        assert (dtype, attributes["precision"]) == ("float16", "float16")
        assert np.array_equal(arrays[path], cache.read(kind, layer, 0, 48))


def test_open_datatree_gives_the_whole_store_with_its_ids_and_its_header(
    sealed: Path, alone: Callable[[Path, str], Found]
) -> None:
    found, arrays = alone(sealed, AS_TREE.format())
    cache = Cache(sealed)
    assert found.pop("bddn") == "float16"
    assert found.pop("by id")[0] == ["row", "column", "channel_24"]
    assert np.array_equal(arrays["by/id"], cache.read("local", "block_1", 7, 8)[0])
    assert sorted(found) == sorted([*cache.contents, "stimulus", "image_sha256"])
    assert found["stimulus"][0] == ["stimulus"]
    assert tuple(arrays["stimulus"]) == cache.ids
    assert tuple(bytes(row).hex() for row in arrays["image_sha256"]) == cache.images
    for path in cache.contents:
        kind, layer = path.split("/")
        assert np.array_equal(arrays[path], cache.read(kind, layer, 0, 48))


def test_int8_times_the_scale_beside_it_gives_the_rows(int8: Path, alone: Callable[[Path, str], Found]) -> None:
    found, arrays = alone(int8, AS_TREE.format())
    cache = Cache(int8)
    assert found["bddn"] == "int8"
    for path in cache.contents:
        kind, layer = path.split("/")
        assert found[path][1] == "int8"
        assert found[f"scale/{path}"][:2] == [["shard", "channel_24"], "float32"]
        scale = arrays[f"scale/{path}"][np.arange(48) // 16]
        rows = arrays[path] * (scale[:, None, None] if kind == "local" else scale)
        assert np.array_equal(rows, cache.read(kind, layer, 0, 48))
