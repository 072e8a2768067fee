"""Specs: every field counts, nothing unknown passes, round trips are whole."""

from typing import Any

import pytest

from bddn.errors import SpecError
from bddn.spec import (
    AlexNetSpec,
    CacheSpec,
    CeilingSpec,
    DiffusionSpec,
    FamilySpec,
    FinetuneSpec,
    FitSpec,
    ModuleSpec,
    OwnDataSpec,
    OwnerSpec,
    ParentSpec,
    PixelsSpec,
    PlantSpec,
    PrefixSpec,
    ResponsesSpec,
    RoiSpec,
    SidesSpec,
    Spec,
    SplitBy,
    StimuliSpec,
    TimmSpec,
    TransformersSpec,
    VoxelsSpec,
    WeightsSpec,
)

CACHE: dict[str, Any] = {"title": "t", "backbone": {"family": "clip"}, "weights": {"folder": "w"}}
PARENT: dict[str, Any] = {"title": "p", "weights_sha256": "0" * 64, "images": "folder:a", "images_sha256": "1" * 64}
PARENT |= {"method": "full", "steps": 3000, "seed": 0}
OTHER: dict[type[Spec], dict[str, Any]] = {
    CacheSpec: {
        "title": "other",
        "backbone": {"family": "sam"},
        "weights": {"hub": "a/b"},
        "licence": "MIT",
        "parent": PARENT,
        "groups": ["table1"],
        "image_size": [112, 56],
        "preprocess": "native",
        "autocast": "bfloat16",
        "compile": True,
        "grid": [4, 8],
        "global_token": "mean",
        "registers": True,
        "precision": "float32",
        "batch_size": 3,
        "chunk_images": 8,
        "shard_images": 64,
    },
    FitSpec: {
        "seed": 1,
        "split": [7, 2, 1],
        "split_seed": 1,
        "split_by": {"clusters": 4},
        "covariates": ["old"],
        "layers": ["a", "b"],
        "channels": 64,
        "code_frequencies": 16,
        "code_period": 10.0,
        "code_steps": 10.0,
        "selection": "free",
        "selector_width": 64,
        "readout": "root",
        "features": "raw",
        "initial_align": "responses",
        "shared_noise": "limited",
        "shared_signal": "late",
        "bootstrap": 3,
        "half": 0,
        "epochs": 1,
        "batch_size": 9,
        "learning_rate": 0.1,
        "schedule": "one_cycle",
        "weight_decay": 0.0,
        "gradient_clip": 1.0,
        "loss_beta": 1.0,
        "regularizer": 0.0,
        "regularizer_steps": 1,
        "regularizer_fall": "exponential",
        "layer_regularizer": 1e-3,
        "scale_regularizer": "logit",
        "blurred_tokens": "scaled",
        "blurs": [0.0, 1.0],
        "sample": 9,
        "sampled": "responsive",
        "resolution": 0.5,
        "merged_at": "mean",
        "fixed": "place",
        "max_steps": 7,
        "min_steps": 6,
        "polish": False,
        "arithmetic": "tf32",
    },
    FinetuneSpec: {
        "seed": 1,
        "method": "lora",
        "per_class": 9,
        "held_out": 10,
        "steps": 0,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "checkpoint_every": 100,
        "evaluate_every": 10,
        "evaluate_per_class": 5,
        "autocast": "bfloat16",
        "lora_rank": 4,
    },
    ParentSpec: {
        "title": "q",
        "weights_sha256": "2" * 64,
        "images": "folder:b",
        "images_sha256": "3" * 64,
        "method": "head",
        "steps": 0,
        "seed": 1,
    },
    PlantSpec: {
        "seed": 1,
        "n_images": 20,
        "radius_rad": 0.1,
        "n_layers": 2,
        "width": 24,
        "image_size": 56,
        "patch": 28,
        "n_features": 1,
        "layer_spread": 1.0,
        "mean_ceiling": 0.3,
        "scenes": "leaves",
        "mesh": "fsaverage6",
        "depth_law": "peaked",
        "place_law": "whole",
        "scale_law": "anywhere",
        "field_size": [0.1, 0.2],
        "elongation": 2.0,
        "shared_tuning": 0.5,
        "silent": 0.2,
        "noise": "heavy",
    },
    StimuliSpec: {
        "table": "b.csv",
        "images": "i",
        "id": "j",
        "file": "g",
        "row": "q",
        "count_from": 1,
        "session": "s",
        "run": "r",
        "repeat": "t",
        "covariates": ["old"],
    },
    ResponsesSpec: {"file": ["a.npy", "b.npy"], "key": "k", "images": "columns", "trials": "single"},
    SidesSpec: {"lh": "b", "rh": "c"},
    VoxelsSpec: {
        "fsaverage": "fsaverage6",
        "vertices": {"lh": "a"},
        "hemispheres": ["lh"],
        "count_from": 1,
        "cifti": "a.dscalar.nii",
        "leave_out": ["nan"],
    },
    RoiSpec: {"name": "b", "column": "d", "table": "t.csv", "key": "k", "labels": {"1": "V1"}},
    CeilingSpec: {"column": "d", "table": "t.csv", "key": "k", "unit": "percent", "n_trials": 3},
    OwnerSpec: {"description": "a", "citation": ["b"], "terms": "c", "show_images": True, "share_responses": True},
    OwnDataSpec: {
        "title": "u",
        "stimuli": {"table": "b.csv"},
        "responses": {"file": "b.npy"},
        "repeats": "single",
        "voxels": {"table": "b.csv"},
        "rois": [{"name": "a", "column": "b"}],
        "ceiling": {"column": "c"},
        "owner": {"terms": "d"},
    },
    WeightsSpec: {"hub": "a/b", "revision": "c", "mirror": "d"},
    FamilySpec: {"family": "vit", "architecture": {"hidden_size": 3}, "layers": ["block_1*", -1, "50%"]},
    DiffusionSpec: {
        "architecture": {"unet": {"in_channels": 4}},
        "n_steps": 20,
        "latents": "inverted",
        "noise_seed": 3,
        "text": "zeros",
        "layers": ["up_2.resnet_0@t*"],
    },
    SplitBy: {"categories": "b.csv", "test": ["a", "b"]},  # clusters, layer and file stand without categories
    TimmSpec: {
        "model": "vit_tiny_patch16_224.augreg_in21k",
        "architecture": {"depth": 3},
        "layers": ["blocks.?"],
        "leading_tokens": 1,
        "channels": "last",
        "output": 1,
    },
    AlexNetSpec: {"layers": ["features.1"], "leading_tokens": 1, "channels": "last", "output": 1},
    PrefixSpec: {"cls": 3, "registers": 4, "global_cls": 1},
    PixelsSpec: {"mean": [0, 0, 0.5], "std": [2, 1, 1]},
    TransformersSpec: {
        "model": "BeitModel",
        "blocks": "encoder.stages.*.layers.*",
        "stages": [[2, 16, 4], [3, 32, 8]],
        "prefix": {"cls": 1},
        "suffix": {"registers": 2},
        "order": "mask_units",
        "output": 1,
        "channels": "last",
        "pixels": "half",
        "input": "video",
        "frames": 4,
        "architecture": {"hidden_size": 3},
        "options": {"add_pooling_layer": False},
        "forward": {"interpolate_pos_encoding": True},
        "tower": "visual",
        "layers": ["stage_0.*", -1, "50%"],
    },
    ModuleSpec: {
        "module": "a.b:d",
        "state": "s.safetensors",
        "layers": ["blocks.*"],
        "leading_tokens": 1,
        "channels": "last",
        "output": 1,
    },
}
BASE: dict[type[Spec], dict[str, Any]] = {
    CacheSpec: CACHE,
    FitSpec: {"polish": True, "features": "whitened", "resolution": 0.6, "blurs": [0.0, 1.0, 2.0]},
    FinetuneSpec: {},
    ParentSpec: PARENT,
    PlantSpec: {},
    StimuliSpec: {"table": "a.csv"},
    ResponsesSpec: {"file": "a.npy"},
    SidesSpec: {"lh": "a"},
    VoxelsSpec: {"fsaverage": "fsaverage5"},
    RoiSpec: {"name": "a", "column": "c"},
    CeilingSpec: {"column": "c"},
    OwnerSpec: {},
    OwnDataSpec: {
        "title": "t",
        "stimuli": {"table": "a.csv"},
        "responses": {"file": "a.npy"},
        "voxels": {"fsaverage": "fsaverage5"},
    },
    WeightsSpec: {"hub": "x/y"},
    FamilySpec: {"family": "clip"},
    DiffusionSpec: {"family": "stable_diffusion", "latents": "noised"},
    SplitBy: {"categories": "a.csv"},
    TimmSpec: {"family": "timm", "model": "vit_tiny_patch16_224"},
    AlexNetSpec: {"family": "alexnet"},
    PrefixSpec: {"cls": 2},
    PixelsSpec: {"mean": [0, 0, 0], "std": [1, 1, 1]},
    TransformersSpec: {"family": "transformers", "model": "IJepaModel", "blocks": "layers.*"},
    ModuleSpec: {"module": "a.b:c"},
}


@pytest.mark.parametrize("cls", list(OTHER), ids=lambda c: c.__name__)
def test_every_field_changes_the_digest_and_survives_a_round_trip(cls: type[Spec]) -> None:
    base = cls.parse(BASE[cls], "test")
    tested = set(OTHER[cls])
    other_sources = {"folder", "url", "file", "format", "sha256", "random"} if cls is WeightsSpec else set()
    only_one = {
        DiffusionSpec: {"family"},
        TimmSpec: {"family"},
        AlexNetSpec: {"family"},
        TransformersSpec: {"family"},
        PlantSpec: {"photographs"},
        SplitBy: {"clusters", "layer", "file"},
        StimuliSpec: {"array", "key"},
        ResponsesSpec: {"lh", "rh"},
        VoxelsSpec: {"sphere", "surface", "table", "mask", "space", "order"},
        RoiSpec: {"file", "lh", "rh"},
        CeilingSpec: {"file", "lh", "rh"},
    }.get(cls, set())
    assert tested | other_sources | only_one >= cls.model_fields.keys()
    digests = {base.digest()}
    for name, value in OTHER[cls].items():
        other = cls.parse(BASE[cls] | {name: value}, "test")
        assert cls.parse(other.to_dict(), "test") == other
        digests.add(other.digest())
    assert len(digests) == 1 + len(OTHER[cls])


def test_what_decides_a_cache_leaves_out_words_and_speed() -> None:
    base = CacheSpec.parse(CACHE, "test").identity()
    for name in ("title", "licence", "parent", "groups", "batch_size"):
        assert CacheSpec.parse(CACHE | {name: OTHER[CacheSpec][name]}, "test").identity() == base
    assert CacheSpec.parse(CACHE | {"grid": [4, 4]}, "test").identity() != base


def test_one_number_is_rows_and_columns_of_a_grid() -> None:
    one, two = (CacheSpec.parse(CACHE | {"grid": grid}, "test") for grid in (6, [6, 6]))
    assert one == two
    assert one.digest() == two.digest()
    with pytest.raises(SpecError, match="'grid"):
        CacheSpec.parse(CACHE | {"grid": 0}, "test")


@pytest.mark.parametrize(
    "source",
    [
        {"folder": "a"},
        {"hub": "a/b"},
        {"url": "https://a/b.pth", "format": "moco"},
        {"file": "b.pth", "format": "timm"},
        {"file": "b.pth", "format": "torchvision"},
        {"file": "b.pth", "format": "torchvision", "sha256": "0" * 64},
        {"random": 0},
        {"random": 1},
    ],
)
def test_every_source_of_weights_is_its_own(source: dict[str, Any]) -> None:
    spec = WeightsSpec.parse(source, "test")
    assert WeightsSpec.parse(spec.to_dict(), "test") == spec
    assert {k: v for k, v in spec.to_dict().items() if v is not None} == source


def test_weights_that_are_the_word_random_have_seed_0() -> None:
    assert CacheSpec.parse(CACHE | {"weights": "random"}, "test").weights == WeightsSpec(random=0)


def test_a_side_of_the_image_is_that_of_a_square() -> None:
    one, two = (CacheSpec.parse(CACHE | {"image_size": size}, "test") for size in (112, [112, 112]))
    assert one.image_hw == two.image_hw == (112, 112)
    assert one.identity() == two.identity()


def test_defaults_of_a_fit_are_the_published_recipe() -> None:
    spec = FitSpec()
    assert (spec.channels, spec.code_frequencies, spec.code_period, spec.code_steps) == (128, 32, 1000, 100)
    assert (spec.batch_size, spec.learning_rate, spec.weight_decay, spec.gradient_clip) == (8, 1e-3, 0.01, 0.5)
    assert (spec.loss_beta, spec.regularizer, spec.regularizer_steps, spec.split) == (0.1, 0.1, 2000, (8, 1, 1))


def test_a_spec_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        FitSpec().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cls", "text", "words"),
    [
        (FitSpec, "epoch: 3", ["unknown key 'epoch'", "Did you mean 'epochs'?"]),
        (FitSpec, "learning_rate: fast", ["'learning_rate'", "'fast'"]),
        (FitSpec, "learning_rate: .inf", ["'learning_rate'", "inf"]),
        (FitSpec, "split: [8, 2]", ["'split.2'"]),
        (FitSpec, "split_by: {cluster: 9}", ["unknown key 'split_by.cluster'", "Did you mean 'clusters'?"]),
        (FitSpec, "split_by: {layer: a}", ["exactly one of 'clusters', 'categories' and 'file'"]),
        (FitSpec, "split_by: {clusters: 9, categories: a.csv}", ["exactly one of 'clusters', 'categories' and 'file'"]),
        (FitSpec, "split_by: {clusters: 9, test: [a]}", ["'test' only beside 'categories'"]),
        (FitSpec, "split_by: {file: a.json, layer: a}", ["'layer' only beside 'clusters'"]),
        (FitSpec, "split_by: {categories: a.csv, layer: a}", ["'layer' only beside 'clusters'"]),
        (FitSpec, "split_by: {clusters: 2}", ["'split_by.clusters'", "got 2"]),
        (FitSpec, "- 1", ["a mapping", "list"]),
        (FitSpec, "a: [", ["YAML"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {hub: a/b, folder: c}", ["exactly one"]),
        (
            CacheSpec,
            "title: t\nbackbone: {family: clip}\nweights: {hub: a/b, revisoin: c}",
            ["'weights.revisoin'", "'revision'"],
        ),
        (CacheSpec, "backbone: {family: clip}\nweights: {hub: a/b}", ["the key 'title'"]),
        (CacheSpec, "title: t\nbackbone: {family: resnet}\nweights: {hub: a/b}", ["'backbone.family'", "'resnet'"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {hub: a/b}\nshard_images: 10", ["multiple of chunk"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}", ["with 'weights'"]),
        (CacheSpec, "title: t\nbackbone: {module: a:b}\nweights: random", ["with 'weights'"]),
        (CacheSpec, "title: t\nbackbone: {module: a}", ["'backbone.module'"]),
        (CacheSpec, "title: t\nbackbone: {module: a:b, layer: c}", ["'backbone.layer'", "Did you mean 'layers'"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {url: a}", ["with 'format'"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {hub: a/b, format: moco}", ["with 'format'"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {folder: a, revision: b}", ["without 'revision'"]),
        (CacheSpec, "title: t\nbackbone: {family: clip}\nweights: {folder: a, mirror: b}", ["without 'mirror'"]),
        (
            CacheSpec,
            f"title: t\nbackbone: {{family: clip}}\nweights: {{hub: a/b, sha256: {'a' * 64}}}",
            ["without 'sha256'"],
        ),
        (
            CacheSpec,
            "title: t\nbackbone: {famly: clip}\nweights: random",
            ["with one of the keys family, module", "famly"],
        ),
        (CacheSpec, "title: t\nbackbone: clip\nweights: random", ["with one of the keys family, module", "'clip'"]),
    ],
)
def test_a_wrong_spec_says_where_and_what(cls: type[Spec], text: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        cls.from_yaml(text.encode(), "my.yaml")
    for word in ["my.yaml", *words]:
        assert word in str(error.value)
