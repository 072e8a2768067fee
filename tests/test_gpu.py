"""What is promised of a GPU, on one: the same bytes in every run, and numbers close to those of the CPU.

`pytest -m gpu` runs these tests, where there is a GPU. Steps and kernels of the fit are in tests/encoder.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bddn
from backbones import contract, small_transformers
from backbones.small_diffusion import write_small_diffusion
from backbones.small_pipelines import SIZES, write_pipeline
from bddn.backbones.registry import load_spec, open_backbone, spec_names
from bddn.data.image_sets.kinds import open_images
from bddn.extraction import extract
from bddn.finetune import finetune
from bddn.machine.parallel import is_out_of_memory
from bddn.machine.settings import own_settings
from bddn.many import fit_many
from bddn.planted.subject import Planted
from bddn.run import fit_run
from bddn.spec import CacheSpec, FamilySpec, FitSpec, TransformersSpec
from bddn.store.reader import Cache
from finetune.conftest import SETTINGS, family_spec, write_images

pytestmark = pytest.mark.gpu

SMALL: dict[str, Any] = {"channels": 8, "selector_width": 16, "epochs": 2}
FAR = 1e-3  # of a standard deviation of a layer; TF32 alone gives about as much for one convolution
TIMED = ("finetune.json", "metrics.json", "timing.json")  # tell times and devices


def _files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _networks(folder: Path) -> Iterator[tuple[str, CacheSpec]]:
    """One small network of each family and class, of a module, and of diffusion."""
    seen = set()
    for name in spec_names():
        spec = load_spec(name)
        match spec.backbone:
            case TransformersSpec(model=kind):
                shrink: Any = small_transformers.shrink
            case FamilySpec(family=kind) if name != "demo":
                shrink = contract.shrink
            case _:
                continue
        if kind not in seen:
            seen.add(kind)
            (folder / name).mkdir()
            yield name, shrink(spec, folder / name).spec
    own = {"module": "backbones.own_nets:build", "layers": ["blocks.*"]}
    yield "module", CacheSpec.parse({"title": "own", "backbone": own, "image_size": 32}, "test")
    write_small_diffusion(folder / "stable_diffusion")
    for family in ("sdxl", "sd3", "flux"):
        write_pipeline(folder / family, family)
    for family in ("stable_diffusion", "sdxl", "sd3", "flux"):
        given = {
            "title": family,
            "backbone": {"family": family, "n_steps": 3},
            "weights": {"folder": str(folder / family)},
        }
        size = 64 if family == "stable_diffusion" else SIZES["flux"]
        yield (
            family,
            CacheSpec.parse(given | {"image_size": size, "preprocess": "native", "global_token": "mean"}, "test"),
        )


def test_every_kind_of_network_gives_nearly_the_tokens_of_the_cpu(tmp_path: Path) -> None:
    far = []
    for name, spec in _networks(tmp_path):
        here = open_backbone(spec)
        pixels = contract.scenes(here, 2)
        with own_settings():
            expected, found = here(pixels), open_backbone(spec, "cuda")(pixels)
        assert expected.keys() == found.keys()
        for layer, there in found.items():
            for kind in ("local_", "global_"):
                a, b = getattr(there, kind), getattr(expected[layer], kind)
                assert a.is_cuda
                distance = float((a.cpu() - b).abs().max() / expected[layer].local_.std())
                if not distance <= FAR:
                    far.append((name, layer, kind, distance))
    assert far == []


def test_an_extraction_repeats_in_parts_and_is_close_to_the_cpus(
    spec: CacheSpec, planted: Planted, sealed: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole.zarr", tmp_path / "parts.zarr"
    extract(spec, planted, whole, device="cuda")
    for part in (2, 1):
        extract(spec, planted, parts, device="cuda", part=(part, 2))
    assert _files(whole) == _files(parts)
    there, here = Cache(whole), Cache(sealed)
    for layer in here.layers:
        a, b = (one.read("local", layer.name, 0, len(one.ids)).float() for one in (there, here))
        assert (a - b).abs().max() < 0.02 * b.std()  # stored in float16
    kept = extract(spec, planted, whole, device="cpu")
    assert kept.reused
    assert "device cuda → cpu" in "; ".join(kept.versions)


def test_a_run_of_a_gpu_predicts_anywhere(sealed: Path, spec: CacheSpec, planted: Planted, tmp_path: Path) -> None:
    run = bddn.fit(sealed, planted, tmp_path / "run", "fast", device="cuda", **SMALL)
    bddn.export(
        run, tmp_path / "passed_on", terms="our own", spec=spec.model_copy(update={"licence": "MIT"}), device="cuda"
    )
    pictures = planted.stimuli.paths[:5]
    expected = bddn.load_encoder(run.folder, spec=spec, device="cpu").predict(pictures)
    found = bddn.load_encoder(run.folder, spec=spec, device="cuda").predict(pictures)
    passed_on = bddn.load_encoder(tmp_path / "passed_on", device="cuda").predict(pictures)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    assert np.array_equal(passed_on, found)


def test_the_encoder_on_arrays_repeats_and_is_loaded_without_a_gpu() -> None:
    rng = np.random.default_rng(0)
    features = {
        name: (rng.normal(size=(24, 4, 3, c)).astype(np.float32), rng.normal(size=(24, c)).astype(np.float32))
        for name, c in (("early", 5), ("late", 6))
    }
    given = features, rng.normal(size=(24, 7)), rng.normal(size=(7, 3))
    first = bddn.FactorTopy(device="cuda", **SMALL).fit(*given)
    for _ in range(20):  # each captures a graph, while those of earlier fits are freed
        assert np.array_equal(bddn.FactorTopy(device="cuda", **SMALL).fit(*given).channels_, first.channels_)
    kept = pickle.loads(pickle.dumps(first))  # noqa: S301 - our own
    assert (first.encoder_.bias.is_cuda, kept.encoder_.bias.is_cuda) == (True, False)
    np.testing.assert_allclose(kept.predict(features), first.predict(features), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("family", "method"), [("sam", "full"), ("clip", "full"), ("clip", "lora")])
def test_a_fine_tuning_repeats(family: str, method: str, tmp_path: Path) -> None:
    spec, images = family_spec(family, tmp_path / "weights"), open_images(f"folder:{write_images(tmp_path / 'set')}")
    settings = SETTINGS.model_copy(update={"method": method})
    first, second = (finetune(spec, images, tmp_path / name, settings, device="cuda") for name in "ab")
    assert _files(first.folder) == _files(second.folder)
    assert first.accuracy["loss"].iloc[-1] < first.accuracy["loss"].iloc[1]


def test_many_fits_of_one_process_are_those_of_single_ones(sealed: Path, brain: Path, tmp_path: Path) -> None:
    spec = FitSpec(**SMALL)
    many = fit_many([sealed], [f"planted:{brain}"], tmp_path / "many", spec, seeds=range(4), device="cuda")
    assert many.failed == {}
    for seed, folder in enumerate(many.table["folder"]):
        alone = spec.model_copy(update={"seed": seed})
        run, _ = fit_run(sealed, Planted(brain), tmp_path / str(seed), alone, device="cuda")
        assert _files(tmp_path / "many" / folder) == _files(run.folder)


def test_a_full_gpu_is_known_by_its_error() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 45, device="cuda")
    assert is_out_of_memory(caught.value)
