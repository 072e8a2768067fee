"""Stage one: the store holds what the backbone gives, image by image, however often it was interrupted."""

import os
import shutil
import threading
import warnings
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from safetensors.torch import load_file, save_file
from torch import Tensor

from bddn import __version__
from bddn.backbones.backbone import Backbone, ShowsFullSize
from bddn.backbones.registry import open_backbone
from bddn.data.algonauts import IMAGES
from bddn.data.dataset import Stimuli
from bddn.errors import BackboneError, DataError, IncompleteStoreError, MismatchError, SpecError, StoreError
from bddn.extraction import extract
from bddn.files import atomic
from bddn.planted.subject import Planted
from bddn.spec import CacheSpec, WeightsSpec
from bddn.store.reader import Cache
from bddn.tokens import LayerTokens, Tokens

Usage = namedtuple("Usage", "total used free")

LAYERS = ("block_0", "block_1", "block_2")


class StopError(Exception):
    """What interrupts an extraction in these tests."""


class Watched:
    """A backbone that counts what it is given, may stop after some batches, and may scale an image's tokens."""

    def __init__(self, inner: Backbone, stop_after: int | None = None) -> None:
        self.inner, self.stop_after = inner, stop_after
        self.layers, self.identity = inner.layers, inner.identity
        self.n_batches = self.n_images = 0
        self.factor: tuple[str, Tensor, float] | None = None  # layer, pixels of the image, factor
        self.before_batch: Callable[[int], object] = lambda _: None
        self._lock = threading.Lock()  # batches come from several threads

    def preprocess(self, image: Image.Image) -> Tensor:
        return self.inner.preprocess(image)

    def each_layer(self, pixels: Tensor, keep: Callable[[LayerTokens], Any]) -> dict[str, Any]:
        assert isinstance(self.inner, ShowsFullSize)
        return self.inner.each_layer(pixels, keep)

    def __call__(self, pixels: Tensor) -> Tokens:
        with self._lock:
            self.before_batch(self.n_batches)
            if self.n_batches == self.stop_after:
                raise StopError
            self.n_batches += 1
            self.n_images += len(pixels)
        tokens = dict(self.inner(pixels))
        if self.factor is not None:
            layer, image, factor = self.factor
            local = tokens[layer].local_.clone()
            local[(pixels == image).flatten(1).all(1)] *= factor
            tokens[layer] = LayerTokens(local, tokens[layer].global_)
        return Tokens(tokens)


class Chosen(Planted):
    """A planted brain of which only some images are there, in another order."""

    def __init__(self, brain: Planted, rows: list[int]) -> None:
        super().__init__(brain.folder.parent)
        ids, paths = brain.stimuli.ids, brain.stimuli.paths
        self._chosen = Stimuli(tuple(ids[i] for i in rows), tuple(paths[i] for i in rows))

    @property
    def stimuli(self) -> Stimuli:
        return self._chosen


def watch(monkeypatch: pytest.MonkeyPatch, spec: CacheSpec, stop_after: int | None = None) -> Watched:
    """Put a watched backbone in the place of the one that `extract` opens."""
    watched = Watched(open_backbone(spec), stop_after)
    monkeypatch.setattr("bddn.extraction.extraction.open_backbone", lambda _spec, _device: watched)
    return watched


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def changed(spec: CacheSpec, **fields: Any) -> CacheSpec:
    return CacheSpec.parse(spec.to_dict() | fields, "test")


def spoil_images(brain: Planted) -> dict[str, Path]:
    """Damage eight images, each in its own way."""
    picture = Image.effect_noise((112, 112), 60)

    def encoded(kind: str, *frames: Image.Image) -> bytes:
        data = BytesIO()
        frames[0].save(data, kind, **({"save_all": True, "append_images": frames[1:]} if len(frames) > 1 else {}))
        return data.getvalue()

    jpeg, png = (encoded(kind, picture.convert("RGB")) for kind in ("JPEG", "PNG"))
    deep = Image.fromarray(np.arange(112 * 112, dtype=np.uint16).reshape(112, 112))
    made = {
        "truncated JPEG": jpeg[: len(jpeg) * 2 // 3],
        "truncated PNG": png[: len(png) * 2 // 3],
        "PNG without its end": png[:-12],
        "0 bytes": b"",
        "web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "16 bits": encoded("PNG", deep),
        "animation": encoded("GIF", *(picture.rotate(angle) for angle in (0, 90))),
        "FIFO": None,
    }
    chosen = dict(zip(made, brain.stimuli.paths[2::5], strict=False))
    for name, data in made.items():
        if data is None:
            chosen[name].unlink()
            os.mkfifo(chosen[name])
        else:
            chosen[name].write_bytes(data)
    return chosen


@pytest.fixture
def own(brain: Path, tmp_path: Path) -> Planted:
    """A copy of the planted brain, to be damaged."""
    return Planted(Path(shutil.copytree(brain, tmp_path / "brain")))


@pytest.fixture(scope="module")
def cut_once(spec: CacheSpec, brain: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one of its three shards; read only."""
    out = tmp_path_factory.mktemp("cut") / "cut.zarr"
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec, stop_after=5)
        with pytest.raises(StopError):
            extract(spec, Planted(brain), out)
    return out


@pytest.fixture
def cut(cut_once: Path, tmp_path: Path) -> Path:
    """A store with one of its three shards, to go on with."""
    return Path(shutil.copytree(cut_once, tmp_path / "cut.zarr"))


def bilinear(tokens: np.ndarray, n_rows: int, n_columns: int) -> np.ndarray:
    """Tokens (C, H, W) at the centres of the cells of another grid, by definition."""

    def along(values: np.ndarray, axis: int, n: int) -> np.ndarray:
        size = values.shape[axis]
        at = (np.arange(n) + 0.5) * size / n - 0.5
        return np.apply_along_axis(lambda v: np.interp(at, np.arange(size), v), axis, values)

    return along(along(tokens, 1, n_rows), 2, n_columns)


def test_the_store_holds_what_the_backbone_gives_for_each_image(
    sealed: Path, spec: CacheSpec, planted: Planted
) -> None:
    cache, backbone = Cache(sealed), open_backbone(spec)
    paths = dict(zip(planted.stimuli.ids, planted.stimuli.paths, strict=True))
    for row in (0, 7, 15, 16, 31, 47):  # first and last of shards and batches
        with Image.open(paths[cache.ids[row]]) as image:
            tokens = backbone(backbone.preprocess(image.convert("RGB"))[None])
        for layer in LAYERS:
            local = bilinear(tokens[layer].local_[0].numpy(), *spec.grid).transpose(1, 2, 0)
            found = cache.read("local", layer, row, row + 1)[0]
            assert found.shape == (4, 3, 24)
            np.testing.assert_allclose(found, local, rtol=2**-10, atol=1e-4)
            global_ = tokens[layer].global_
            assert global_ is not None
            found = cache.read("global", layer, row, row + 1)[0]
            np.testing.assert_allclose(found, global_[0], rtol=2**-10, atol=1e-4)


def test_rows_follow_the_ids_of_the_stimuli(sealed: Path, planted: Planted) -> None:
    assert Cache(sealed).ids == planted.stimuli.ids


def test_images_in_another_order_give_their_rows_in_that_order(
    sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    order = np.random.default_rng(0).permutation(48).tolist()
    extract(spec, Chosen(planted, order), tmp_path / "shuffled.zarr")
    found, expected = Cache(tmp_path / "shuffled.zarr"), Cache(sealed)
    assert found.ids == tuple(expected.ids[i] for i in order)
    rows, original = (cache.read("local", "block_2", 0, 48).double() for cache in (found, expected))
    np.testing.assert_allclose(rows, original[order], rtol=2**-10, atol=1e-3)


def test_it_reports_what_it_did(spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path) -> None:
    done = extract(spec, planted, tmp_path / "new.zarr")
    assert (done.n_images, done.n_shards, done.n_computed) == (48, 3, 3)
    assert done.digest == Cache(tmp_path / "new.zarr").digest == Cache(sealed).digest


def test_extracting_twice_gives_the_same_bytes(spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path) -> None:
    extract(spec, planted, tmp_path / "again.zarr")
    assert files(tmp_path / "again.zarr") == files(sealed)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_batch_size_changes_speed_only(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, batch_size: int
) -> None:
    out = tmp_path / "other.zarr"
    extract(changed(spec, batch_size=batch_size), planted, out)
    found, expected = Cache(out), Cache(sealed)
    assert found.header == expected.header
    assert files(out)["manifest/header.json"] == files(sealed)["manifest/header.json"]
    for kind in ("local", "global"):
        rows, others = (cache.read(kind, "block_2", 0, 48).double() for cache in (found, expected))
        np.testing.assert_allclose(rows, others, rtol=2**-10, atol=1e-4)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_the_number_of_threads_does_not_change_a_byte(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_threads: int
) -> None:
    monkeypatch.setattr("bddn.extraction.extraction.n_threads", lambda: n_threads)
    extract(spec, planted, tmp_path / "other.zarr")
    assert files(tmp_path / "other.zarr") == files(sealed)


def layers(*names: str | int) -> dict[str, Any]:
    return {"family": "clip", "layers": list(names)}


def test_chosen_layers_are_stored_early_to_late(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    extract(changed(spec, backbone=layers("block_2", 0)), planted, tmp_path / "two.zarr")
    found, expected = Cache(tmp_path / "two.zarr"), Cache(sealed)
    assert [layer.name for layer in found.layers] == ["block_0", "block_2"]
    for layer in ("block_0", "block_2"):
        assert torch.equal(found.read("local", layer, 0, 48), expected.read("local", layer, 0, 48))
    assert not (tmp_path / "two.zarr/local/block_1").exists()


def test_an_unknown_layer_is_refused_before_anything_is_written(
    spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=r"block_0 … block_2: .*; got 'block_12'"):
        extract(changed(spec, backbone=layers("block_0", "block_12")), planted, tmp_path / "new.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_layer_named_twice_is_refused(spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="block_0"):
        extract(changed(spec, backbone=layers("block_0", "block_0")), planted, tmp_path / "new.zarr")


def test_float32_stores_what_the_backbone_gives_to_the_last_bit(
    spec: CacheSpec, planted: Planted, tmp_path: Path
) -> None:
    exact = changed(spec, precision="float32", grid=[8, 8])
    extract(exact, planted, tmp_path / "new.zarr")
    backbone = open_backbone(exact)
    pixels = backbone.preprocess(planted.stimuli.image(3))[None]
    found = Cache(tmp_path / "new.zarr").read("local", "block_1", 3, 4)
    assert found.dtype == torch.float32
    expected = backbone(pixels)["block_1"].local_.permute(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# --- again, and after an interrupt


def test_a_sealed_store_is_used_as_it_is(
    spec: CacheSpec, planted: Planted, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in sealed.rglob("*")}
    watched = watch(monkeypatch, spec)
    done = extract(spec, planted, sealed)
    assert (done.n_computed, done.digest) == (0, Cache(sealed).digest)
    assert watched.n_images <= 1  # one image, to see how many channels each layer has
    assert {path: path.stat().st_mtime_ns for path in sealed.rglob("*")} == before


@pytest.mark.parametrize(
    ("n_batches", "n_done"), [(1, 0), (3, 0), (4, 1), (5, 1), (9, 2)]
)  # a sample of one image, then three batches for each of three shards
def test_an_interrupted_extraction_goes_on_to_the_same_bytes(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, n_batches: int, n_done: int
) -> None:
    out = tmp_path / "cut.zarr"
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec, stop_after=n_batches)
        with pytest.raises(StopError):
            extract(spec, planted, out)
    with pytest.raises(IncompleteStoreError, match=f"{n_done} of 3 shards"):
        Cache(out)
    with pytest.MonkeyPatch.context() as patch:
        watched = watch(patch, spec)
        done = extract(spec, planted, out)
    assert done.n_computed == 3 - n_done
    assert watched.n_images == 1 + 16 * (3 - n_done)
    assert files(out) == files(sealed)


def test_an_interrupt_just_before_sealing_costs_nothing(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    def stop(*_: object) -> str:
        raise StopError

    out = tmp_path / "cut.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bddn.store.manifest.seal_bytes", stop)
        with pytest.raises(StopError):
            extract(spec, planted, out)
    assert extract(spec, planted, out).n_computed == 0
    assert files(out) == files(sealed)


def test_an_interrupt_just_after_sealing_costs_nothing(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    """Records are still there beside the seal; the next run takes them away."""

    def stop(*_: object) -> None:
        raise StopError

    out = tmp_path / "cut.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bddn.store.writer.Writer._tidy", stop)
        with pytest.raises(StopError):
            extract(spec, planted, out)
    assert "manifest/shard-000002.json" in files(out)
    assert Cache(out).digest == Cache(sealed).digest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bddn.store.files.LocalFiles.delete", _read_only)
        assert extract(spec, planted, out).reused
    assert extract(spec, planted, out).reused
    assert files(out) == files(sealed)


def _read_only(_: object, name: str) -> None:
    raise StoreError(name, expected="to delete", got="Read-only file system", fix="")


def test_a_disk_that_fails_at_any_point_is_an_error_and_is_survived(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, n = 0, 0

    def fail(_: Path) -> None:
        nonlocal n
        n += 1
        if n > limit:
            raise OSError(5, "Input/output error")

    limit = 1 << 30
    monkeypatch.setattr(atomic, "fsync_path", fail)
    extract(spec, planted, tmp_path / "whole.zarr")
    n_writes = n
    for limit in range(0, n_writes, 1 if long else 1 + n_writes // 6):
        out, n = tmp_path / f"cut{limit}.zarr", 0
        with pytest.raises(StoreError, match="Input/output"):
            extract(spec, planted, out)
        with pytest.raises(StoreError):
            Cache(out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(atomic, "fsync_path", lambda _: None)
            extract(spec, planted, out)
        assert files(out) == files(sealed)
        shutil.rmtree(out)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"grid": [3, 4]}, r"spec\.grid \[4, 3\] → \[3, 4\]"),
        ({"backbone": layers(0, 1)}, "layers"),
        ({"precision": "float32"}, r"spec\.precision float16 → float32"),
        ({"global_token": "mean"}, r"spec\.global_token cls → mean"),
        ({"image_size": 56}, r"spec\.image_size \[112, 112\] → \[56, 56\]"),
        ({"preprocess": "native"}, r"spec\.preprocess paper → native"),
        ({"shard_images": 32}, r"spec\.shard_images 16 → 32"),
    ],
)
def test_another_spec_into_the_same_store_is_refused_by_the_field_that_differs(
    spec: CacheSpec, planted: Planted, sealed: Path, fields: dict[str, Any], named: str
) -> None:
    before = files(sealed)
    with pytest.raises(MismatchError, match=named):
        extract(changed(spec, **fields), planted, sealed)
    assert files(sealed) == before


def test_a_spec_that_differs_for_people_only_is_the_same(spec: CacheSpec, planted: Planted, sealed: Path) -> None:
    other = changed(spec, title="another title", licence="MIT", batch_size=3)
    assert extract(other, planted, sealed).n_computed == 0


def test_the_same_weights_elsewhere_are_the_same(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    assert spec.weights is not None
    moved = shutil.copytree(str(spec.weights.folder), tmp_path / "moved")
    other = spec.model_copy(update={"weights": WeightsSpec(folder=str(moved))})
    assert extract(other, planted, sealed).n_computed == 0


def test_the_same_images_elsewhere_are_the_same(spec: CacheSpec, own: Planted, sealed: Path) -> None:
    assert extract(spec, own, sealed).n_computed == 0


def test_other_weights_into_the_same_store_are_refused(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    assert spec.weights is not None
    folder = Path(shutil.copytree(str(spec.weights.folder), tmp_path / "other"))
    state = load_file(folder / "model.safetensors")
    next(iter(state.values())).view(-1)[0] += 0.25
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    other = spec.model_copy(update={"weights": WeightsSpec(folder=str(folder))})
    with pytest.raises(MismatchError, match=r"backbone\.weights_sha256"):
        extract(other, planted, sealed)


def test_one_other_pixel_into_the_same_store_is_refused(spec: CacheSpec, own: Planted, sealed: Path) -> None:
    path = own.stimuli.paths[20]
    with Image.open(path) as image:
        picture = image.convert("RGB")
    red, green, blue = np.asarray(picture)[0, 0].tolist()
    picture.putpixel((0, 0), (red ^ 1, green, blue))
    picture.save(path)
    with pytest.raises(MismatchError, match=f"images_sha256.* in row 20: '{own.stimuli.ids[20]}'"):
        extract(spec, own, sealed)


def test_two_images_that_changed_names_are_refused(spec: CacheSpec, own: Planted, sealed: Path) -> None:
    a, b = own.stimuli.paths[3:5]
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)
    with pytest.raises(MismatchError, match=f"images_sha256.* in row 3: '{own.stimuli.ids[3]}'"):
        extract(spec, own, sealed)


def test_the_same_images_under_other_ids_are_refused(spec: CacheSpec, own: Planted, sealed: Path) -> None:
    path = own.stimuli.paths[3]
    path.rename(path.with_name("train-0004_nsd-70000.png"))
    with pytest.raises(MismatchError, match="stimuli_sha256"):
        extract(spec, Planted(own.folder.parent), sealed)


def test_a_folder_of_other_things_is_refused_and_not_touched(spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(StoreError, match="other files"):
        extract(spec, planted, tmp_path)
    assert files(tmp_path) == {"thesis.tex": b"mine"}


ALL = list(range(48))
LISTS = {  # name: (rows, the first that differs, which image is there now)
    "two in another order": ([*ALL[:3], 4, 3, *ALL[5:]], 3, 4),
    "one removed": ([*ALL[:20], *ALL[21:]], 20, 21),
    "one added in front": ([47, *ALL[:47]], 0, 47),
}


@pytest.mark.parametrize("state", ["cut", "sealed"])
@pytest.mark.parametrize("change", LISTS)
def test_another_list_of_images_is_refused_by_the_first_row_that_differs(
    spec: CacheSpec, planted: Planted, sealed: Path, cut: Path, state: str, change: str
) -> None:
    rows, row, now = LISTS[change]
    out = {"cut": cut, "sealed": sealed}[state]
    before, ids = files(out), planted.stimuli.ids
    with pytest.raises(
        MismatchError, match=f"different image is in row {row}: '{ids[row]}' there and '{ids[now]}' here"
    ):
        extract(spec, Chosen(planted, rows), out)
    assert files(out) == before


def test_a_list_with_more_images_is_refused_by_their_number(
    spec: CacheSpec, planted: Planted, cut: Path, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match="48 images and this extraction 47, equal up to the shorter length"):
        extract(spec, Chosen(planted, ALL[:47]), cut)
    extract(spec, Chosen(planted, ALL[:47]), tmp_path / "fewer.zarr")
    with pytest.raises(MismatchError, match=r"n_images 47 → 48.*47 images and this extraction 48"):
        extract(spec, planted, tmp_path / "fewer.zarr")


def test_a_sealed_cache_of_other_versions_is_used_and_the_versions_are_told(
    spec: CacheSpec, planted: Planted, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(sealed)
    assert extract(spec, planted, sealed).versions == []
    monkeypatch.setattr("bddn.extraction.source.__version__", "0.0.7")
    done = extract(spec, planted, sealed)
    assert (done.reused, done.n_computed, done.digest) == (True, 0, Cache(sealed).digest)
    assert done.versions == [f"made_with.bddn {__version__} → 0.0.7"]
    assert files(sealed) == before


def test_an_unfinished_cache_of_other_versions_is_not_gone_on_with(
    spec: CacheSpec, planted: Planted, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(cut)
    monkeypatch.setattr("bddn.extraction.source.__version__", "0.0.7")
    with pytest.raises(MismatchError, match=r"made_with\.bddn .* → 0\.0\.7"):
        extract(spec, planted, cut)
    assert files(cut) == before


def test_other_versions_do_not_hide_another_difference(
    spec: CacheSpec, planted: Planted, sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bddn.extraction.source.__version__", "0.0.7")
    with pytest.raises(MismatchError, match=r"made_with\.bddn.*spec\.grid"):
        extract(changed(spec, grid=[3, 4]), planted, sealed)


@pytest.mark.parametrize("order", [(1, 2), (2, 1), (3, 1, 2), (1, 2, 3, 4)])  # of four parts, one has nothing to do
def test_parts_give_the_same_bytes_as_the_whole_and_only_the_last_seals(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, order: tuple[int, ...]
) -> None:
    out, n = tmp_path / "parts.zarr", len(order)
    done = [extract(spec, planted, out, part=(i, n)) for i in order]
    assert [one.n_computed for one in done] == [len(range(i - 1, 3, n)) for i in order]
    last = next(k for k in range(n) if sum(one.n_computed for one in done[: k + 1]) == 3)
    assert [one.digest for one in done] == [None] * last + [Cache(sealed).digest] * (n - last)
    assert files(out) == files(sealed)


def test_a_disk_too_small_is_refused_at_the_start(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.zarr"
    tokens = 2 * 48 * 3 * 24 * (4 * 3 + 1)  # of float16
    with pytest.MonkeyPatch.context() as patch:
        watched = watch(patch, spec)
        patch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - tokens // 2, tokens // 2))
        with pytest.raises(StoreError, match=r"0\.00 GB of free space.*bddn plan"):
            extract(spec, planted, out)
        assert watched.n_images == 1  # to know the shapes
        patch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 2 * tokens, 2 * tokens))
        extract(spec, planted, out)
    assert files(out) == files(sealed)


def test_what_is_there_already_needs_no_room_again(
    spec: CacheSpec, planted: Planted, sealed: Path, cut: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = 2 * 48 * 3 * 24 * (4 * 3 + 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - tokens, tokens))  # one shard of 3 is there
    extract(spec, planted, cut)
    assert files(cut) == files(sealed)


# --- numbers and images that cannot be stored


@pytest.mark.parametrize(("factor", "shown"), [(1e6, r"\de\+0\d"), (np.nan, "nan")])
def test_tokens_that_are_not_finite_are_refused_and_what_was_done_is_kept(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path, factor: float, shown: str
) -> None:
    out, image = tmp_path / "new.zarr", 20
    with pytest.MonkeyPatch.context() as patch:
        watched = watch(patch, spec)
        watched.factor = ("block_1", watched.preprocess(planted.stimuli.image(image)), factor)
        expected = rf"local/block_1.*1 of 6 images.*'{planted.stimuli.ids[image]}'.*{shown}"
        with pytest.raises(BackboneError, match=expected):
            extract(spec, planted, out)
    with pytest.raises(IncompleteStoreError, match="1 of 3 shards"):
        Cache(out)
    assert extract(spec, planted, out).n_computed == 2
    assert files(out) == files(sealed)


def test_an_image_that_breaks_on_the_way_is_refused_by_its_file_and_what_was_done_is_kept(
    spec: CacheSpec, own: Planted, sealed: Path, tmp_path: Path
) -> None:
    path, out = own.stimuli.paths[40], tmp_path / "new.zarr"
    whole = path.read_bytes()

    def damage(batch: int) -> None:
        if batch == 4:  # the first of the second shard; the image is in the third
            path.write_bytes(whole[: len(whole) // 2])

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec).before_batch = damage
        with pytest.raises(DataError, match=own.stimuli.ids[40]) as caught:
            extract(spec, own, out)
    assert str(path) in str(caught.value)
    path.write_bytes(whole)
    assert extract(spec, own, out).n_computed == 1
    assert files(out) == files(sealed)


def test_an_image_that_changed_since_it_was_checked_is_an_error_that_names_it(
    spec: CacheSpec, own: Planted, sealed: Path, tmp_path: Path
) -> None:
    path, out = own.stimuli.paths[40], tmp_path / "new.zarr"
    whole, other = path.read_bytes(), own.stimuli.paths[41].read_bytes()

    def exchange(batch: int) -> None:
        if batch == 4:  # in the second shard; the image is in the third
            path.write_bytes(other)

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, spec).before_batch = exchange
        with pytest.raises(DataError, match=r"the image that was checked at the start; got different bytes") as caught:
            extract(spec, own, out)
    assert caught.value.place == str(path)
    path.write_bytes(whole)
    assert extract(spec, own, out).n_computed == 1
    assert files(out) == files(sealed)


def test_all_bad_images_are_listed_at_once_before_anything_is_written(
    spec: CacheSpec, own: Planted, tmp_path: Path
) -> None:
    paths = spoil_images(own)
    with pytest.raises(DataError, match="8 images: expected readable images") as caught:
        extract(spec, own, tmp_path / "new.zarr")
    assert [name for name, path in paths.items() if str(path) not in str(caught.value)] == []
    assert sum(str(path) in str(caught.value) for path in own.stimuli.paths) == 8
    assert not (tmp_path / "new.zarr").exists()


def test_what_another_library_lets_pillow_pass_is_refused_all_the_same(
    spec: CacheSpec, own: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    paths = spoil_images(own)
    rows = [own.stimuli.paths.index(path) for path in paths.values()]
    with pytest.raises(DataError, match="8 images: expected readable images") as caught:
        extract(spec, Chosen(own, rows), tmp_path / "new.zarr")
    assert [name for name, path in paths.items() if str(path) not in str(caught.value)] == []
    assert not (tmp_path / "new.zarr").exists()


def test_of_very_many_bad_images_some_are_named_and_all_are_counted(
    spec: CacheSpec, own: Planted, tmp_path: Path
) -> None:
    for path in own.stimuli.paths[:30]:
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"30 images.*; and 22 more"):
        extract(spec, own, tmp_path / "new.zarr")


@pytest.mark.parametrize("kept_share", [0, 0.3, 0.9])
def test_an_image_that_is_broken_from_the_start_can_be_restored_and_the_same_command_goes_on(
    spec: CacheSpec, own: Planted, sealed: Path, tmp_path: Path, kept_share: float
) -> None:
    path, out = own.stimuli.paths[40], tmp_path / "new.zarr"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept_share)])
    with pytest.raises(DataError, match=own.stimuli.ids[40]) as caught:
        extract(spec, own, out)
    assert str(path) in str(caught.value)
    path.write_bytes(whole)
    extract(spec, own, out)
    assert files(out) == files(sealed)


def test_an_image_that_disappeared_is_refused_by_its_file(spec: CacheSpec, own: Planted, tmp_path: Path) -> None:
    path = own.stimuli.paths[5]
    path.unlink()
    with pytest.raises(DataError) as caught:
        extract(spec, own, tmp_path / "new.zarr")
    assert str(path) in str(caught.value)
    assert IMAGES.name in str(caught.value)


def test_decoding_in_several_threads_leaves_the_warning_filters_as_they_were(planted: Planted) -> None:
    with warnings.catch_warnings():
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(planted.stimuli.image, range(48)))
        assert list(warnings.filters) == before


def test_a_picture_too_large_to_be_one_is_refused(own: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 425 * 425 - 1)  # Pillow warns above it, and refuses above its double
    with pytest.raises(DataError, match=r"more pixels than PIL\.Image\.MAX_IMAGE_PIXELS allows"):
        own.stimuli.image(0)
