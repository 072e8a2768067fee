"""A spec has a name, the stem of its file, and a wrong name says which there are."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

import licences
from bddn.backbones.backbone import weights_sha256
from bddn.backbones.kind import kind_of
from bddn.backbones.registry import load_spec, open_backbone, spec_folder, spec_names
from bddn.errors import SpecError
from bddn.spec import CacheSpec


def test_the_names_are_the_stems_of_the_files() -> None:
    assert spec_names() == sorted(path.stem for path in spec_folder().glob("*.yaml"))
    assert {"demo", "clip_vit_b16"} <= set(spec_names())


@pytest.mark.parametrize("name", spec_names())
def test_every_spec_that_comes_with_bddn_is_valid(name: str) -> None:
    assert load_spec(name).title


@pytest.mark.parametrize("name", [name for name in spec_names() if name != "demo"])
def test_every_spec_states_the_licence_of_its_weights_and_its_groups(name: str) -> None:
    spec = load_spec(name)
    assert spec.licence
    assert spec.groups, "no group: neither of a table or figure, nor modern, nor controls"
    assert set(spec.groups) <= {"table1", "table2", "figure6", "modern", "controls"}


def test_the_page_of_weights_lists_every_licence() -> None:
    page = licences.PAGE.read_text(encoding="utf-8")
    assert licences.written(page) == page, "run 'python tests/licences.py'"


def test_a_mirror_has_the_same_network_and_licence_without_a_gate() -> None:
    for name in spec_names():
        spec = load_spec(name)
        if spec.weights is not None and spec.weights.mirror is not None:
            other = load_spec(spec.weights.mirror)
            assert other.weights is not None
            assert other.weights.mirror is None
            assert other.weights.hub != spec.weights.hub
            assert (other.licence, other.image_size) == (spec.licence, spec.image_size)
            kinds = [kind_of(one) for one in (spec, other)]
            widths = [
                [layer.channels for layer in kind.outline(one).values()]
                for kind, one in zip(kinds, (spec, other), strict=True)
            ]
            assert widths[0] == widths[1]


def test_the_papers_model_is_the_datacomp_one_prepared_as_in_the_paper() -> None:
    spec = load_spec("clip_vit_b16")
    assert spec.weights is not None
    assert spec.weights.hub == "laion/CLIP-ViT-B-16-DataComp.L-s1B-b8K"
    assert (spec.image_size, spec.preprocess, spec.grid, spec.global_token) == (224, "paper", (8, 8), "cls")


def test_a_users_own_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("title: mine\nbackbone: {family: clip}\nweights: {folder: weights}\nbatch_size: 3\n")
    assert load_spec(str(path)).batch_size == 3


@pytest.mark.parametrize("name", ["clip_vit_b17", "", ".", "../cache_specs/demo", "demo/"])
def test_an_unknown_name_is_an_error_that_says_where_the_known_ones_are(name: str) -> None:
    with pytest.raises(SpecError, match="a name that 'bddn backbones' lists"):
        load_spec(name)


def test_a_name_that_is_nearly_right_is_an_error_that_says_which_would_be() -> None:
    with pytest.raises(SpecError, match="Did you mean clip_vit_b16 or"):
        load_spec("clip_vit_b17")


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"mine\.yaml.*no such file"):
        load_spec(str(tmp_path / "mine.yaml"))


def test_a_wrong_field_of_a_users_file_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("title: mine\nbackbone: {family: clip}\nweights: {folder: weights}\nbatchsize: 3\n")
    with pytest.raises(SpecError, match="Did you mean 'batch_size'") as caught:
        load_spec(str(path))
    assert str(path) in str(caught.value)


def test_a_spec_opens_the_backbone_whose_weights_it_names(spec: CacheSpec) -> None:
    backbone = open_backbone(spec)
    assert backbone.layers == ("block_0", "block_1", "block_2")
    assert spec.weights is not None
    state = load_file(f"{spec.weights.folder}/model.safetensors")
    stripped = {name.removeprefix("vision_model."): weight for name, weight in state.items()}
    assert backbone.identity["weights_sha256"] == weights_sha256(stripped)
