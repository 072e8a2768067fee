"""What lies where, and that it is plain Zarr."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bddn.errors import SpecError
from bddn.store import manifest
from bddn.store.layout import Layer, Layout, empty_files, metadata_files, shard_bytes
from bddn.store.precision import precision
from store.stores import (
    IDS,
    IMAGES,
    LAYOUT,
    PRECISIONS,
    SHARDS,
    Arrays,
    N,
    files,
    filled_with,
    layout_of,
    rows,
    tokens,
    write,
    writer,
)


def test_a_sealed_store_has_the_files_that_its_layout_names_and_a_manifest_of_two(kept: Path) -> None:
    assert sorted(files(kept)) == sorted([*manifest.expected_files(LAYOUT), manifest.HEADER, manifest.SEAL])


def test_a_shard_is_one_file_of_whole_chunks(kept: Path) -> None:
    shards = sorted(name for name in files(kept) if name.startswith("local/early/c."))
    assert shards == [f"local/early/c.{k}.0.0.0" for k in SHARDS]
    array: Any = zarr.open_group(kept, mode="r")["local/early"]
    assert (array.chunks, array.shards) == ((2, 2, 3, 3), (4, 2, 3, 3))


@pytest.mark.parametrize("path", sorted(LAYOUT.arrays()))
def test_every_chunk_carries_a_checksum_and_what_is_absent_reads_as_nan(kept: Path, path: str) -> None:
    metadata = json.loads((kept / path / "zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    assert sharding["configuration"]["codecs"][-1]["name"] == "crc32c"
    assert sharding["configuration"]["index_codecs"][-1]["name"] == "crc32c"
    assert metadata["fill_value"] == "NaN"


@pytest.mark.parametrize("name", PRECISIONS)
def test_zarr_alone_reads_values_axes_ids_and_images(name: str, tmp_path: Path) -> None:
    layout, root = layout_of(name), tmp_path / "store.zarr"
    filled = filled_with(tokens(layout), layout)
    made = writer(root, layout)
    made.prepare()
    write(made, filled, SHARDS)
    made.seal()
    group: Any = zarr.open_group(root, mode="r")
    assert group["stimulus"][:].tolist() == IDS
    assert [bytes(row).hex() for row in group["image_sha256"][:]] == IMAGES
    for path, expected in filled.items():
        array = group[path]
        axes = ("row", "column") if path.startswith("local") else ()
        assert array.metadata.dimension_names == ("stimulus", *axes, f"channel_{expected.shape[-1]}")
        assert array.attrs["precision"] == name
        assert array.dtype == layout.precision.stored
        if name == "int8":
            scale = group[f"scale/{path}"]
            assert scale.metadata.dimension_names == ("shard", f"channel_{expected.shape[-1]}")
            for shard, (start, stop) in enumerate(layout.shards):
                error = np.abs(array[start:stop] * scale[shard] - expected[start:stop])
                assert (error <= scale[shard] * 0.5001).all()
        else:
            assert array[:].tobytes() == expected.tobytes()


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    layout = layout_of("bfloat16")
    values = tokens(layout)
    stored = filled_with(values, layout)["local/early"]
    assert stored.dtype == np.uint16
    decoded = (stored.astype(np.uint32) << 16).view(np.float32)
    assert np.allclose(decoded, values["local/early"], rtol=2**-8, atol=0)


def test_zarr_lists_every_array_of_a_store_without_a_warning(kept: Path) -> None:
    found = [path for path, _ in zarr.open_group(kept, mode="r").members(max_depth=None)]  # warnings are errors here
    assert sorted(found) == sorted([*LAYOUT.arrays(), "global", "image_sha256", "local", "stimulus"])


def test_the_groups_attributes_say_what_the_store_is_of(kept: Path) -> None:
    attributes: Any = zarr.open_group(kept, mode="r").attrs["bddn"]
    assert attributes == json.loads((kept / manifest.HEADER).read_text())


def test_rows_of_another_shape_or_type_are_never_made_to_fit(filled: Arrays) -> None:
    with pytest.raises(AssertionError, match="local/early"):
        shard_bytes(LAYOUT, 0, {path: array[:1] for path, array in filled.items()})
    with pytest.raises(AssertionError, match="float64"):
        shard_bytes(LAYOUT, 0, {path: array[:4].astype(np.float64) for path, array in filled.items()})


def test_the_same_rows_give_the_same_bytes(filled: Arrays) -> None:
    assert shard_bytes(LAYOUT, 1, rows(filled, 1)) == shard_bytes(LAYOUT, 1, rows(filled, 1))


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_size_on_disk_is_told_before_it_is_written(name: str) -> None:
    layout = layout_of(name)
    filled = filled_with(tokens(layout), layout)
    there = sum(len(data) for shard in SHARDS for data in shard_bytes(layout, shard, rows(filled, shard)).values())
    slack = 3 * 2 * 4 * (20 if name != "bitround:6" else 60) + (3 * 16 * 4 + 6 * 16 if name == "int8" else 0)
    padding = layout.image_bytes() * 2  # the last shard is filled up to a whole chunk
    assert layout.token_bytes() - padding - slack <= there <= layout.token_bytes() + padding + slack * 2
    assert layout.disk_bytes() > layout.token_bytes()


def test_a_million_ids_are_still_one_file() -> None:
    n = 200_000
    layout = Layout(n, (Layer("early", 3),), (2, 3), precision("float16"), 2, 1000)
    named = [name for name in empty_files(layout, ["a"] * n, ["00" * 32] * n, {}) if not name.endswith("zarr.json")]
    assert sorted(named) == ["image_sha256/c.0.0", "stimulus/c.0"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "é", "early\n"])
def test_a_layer_name_that_is_no_safe_folder_name_is_refused(name: str) -> None:
    with pytest.raises(SpecError):
        Layout(N, (Layer(name, 3),), (2, 3), precision("float16"), 2, 4)


def test_threads_that_make_metadata_at_once_give_no_warning() -> None:
    """Warning filters belong to the process, and workers of a cluster are threads; warnings are errors here."""
    layout = layout_of()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: metadata_files(layout, {}), range(120)))
    assert all(one == found[0] for one in found)
