"""A planted brain is an Algonauts subject, its truth is what its responses came from, and it lies as brains do."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from nilearn.datasets import fetch_surf_fsaverage
from PIL import Image
from typer.testing import CliRunner

from bddn.backbones.preprocess import squash
from bddn.backbones.vit import VisionTransformer
from bddn.cli import app
from bddn.cortex.fsaverage import N_VERTICES_FSAVERAGE5
from bddn.data.algonauts import ATLASES, Algonauts
from bddn.errors import DataError, MismatchError
from bddn.planted.brain import RESPONSE_STD, image_path, true_maps, true_responses, write_subject
from bddn.planted.plant import plant
from bddn.planted.scenes import draw_scene
from bddn.planted.subject import Planted
from bddn.planted.tower import write_small_clip
from bddn.spec import CacheSpec, FamilySpec, PlantSpec, WeightsSpec
from bddn.testing import DatasetContract

HEMISPHERES = ("lh", "rh")


def tokens(backbone: Path, pixels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of a planted network: local (L, n, H, W, C) and global (L, n, C)."""
    weights = WeightsSpec(folder=str(backbone))
    network = VisionTransformer(
        CacheSpec(
            title="", backbone=FamilySpec(family="clip"), weights=weights, image_size=pixels.shape[-1], grid=(8, 8)
        )
    )
    found = network(pixels).values()
    local = torch.stack([layer.local_.permute(0, 2, 3, 1) for layer in found])
    global_ = torch.stack([layer.global_ for layer in found if layer.global_ is not None])
    return local.numpy(), global_.numpy()


@pytest.fixture(scope="module")
def signal(brain: Path, planted_spec: PlantSpec) -> np.ndarray:
    """The responses of the planted brain as they were without noise, (n_images, n_voxels), of unit variance."""
    stimuli = Planted(brain).stimuli
    pixels = torch.stack([squash(stimuli.image(i), (112, 112)) for i in range(len(stimuli))])
    truth = true_maps(planted_spec, planted_spec.n_layers).assign(ceiling=1.0)
    return true_responses(*tokens(brain / "backbone", pixels), truth, planted_spec) / RESPONSE_STD


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestPlanted(DatasetContract):
    @pytest.fixture
    def dataset(self, planted: Planted) -> Planted:
        return planted


def test_its_files_are_named_as_in_the_challenge(brain: Path) -> None:
    subject = brain / "subj01"
    found = {str(path.relative_to(subject)) for path in subject.rglob("*") if path.is_file()}
    spaces = ("fsaverage_space", "challenge_space")
    assert found == {
        *(f"training_split/training_images/train-{i + 1:04d}_nsd-{7 * i + 13:05d}.png" for i in range(48)),
        *(f"training_split/training_fmri/{hemi}_training_fmri.npy" for hemi in HEMISPHERES),
        *(f"test_split/noise_ceiling/{hemi}_noise_ceiling.npy" for hemi in HEMISPHERES),
        *(f"roi_masks/{hemi}.all-vertices_fsaverage_space.npy" for hemi in HEMISPHERES),
        *(f"roi_masks/{hemi}.{a}_{space}.npy" for hemi in HEMISPHERES for a in ATLASES for space in spaces),
        *(f"roi_masks/mapping_{atlas}.npy" for atlas in ATLASES),
    }


def test_its_pictures_are_of_the_challenges_size(planted: Planted) -> None:
    with Image.open(planted.stimuli.paths[0]) as image:
        assert (image.size, image.mode, image.format) == ((425, 425), "RGB", "PNG")


def test_its_label_maps_are_what_the_challenges_readers_expect(brain: Path) -> None:
    mapping = np.load(brain / "subj01/roi_masks/mapping_floc-places.npy", allow_pickle=True).item()
    assert mapping == {0: "Unknown", 1: "OPA", 2: "PPA", 3: "RSC"}


def test_the_algonauts_reader_takes_its_subject_for_an_ordinary_one(brain: Path, planted: Planted) -> None:
    ordinary = Algonauts(brain / "subj01")
    assert ordinary.voxels().equals(planted.voxels())
    assert np.array_equal(ordinary.responses(), planted.responses())
    assert ordinary.truth() is None


def test_its_voxels_are_vertices_of_fsaverage5(planted: Planted) -> None:
    voxels = planted.voxels()
    assert voxels["vertex"].max() < N_VERTICES_FSAVERAGE5
    assert set(voxels["hemi"]) == set(HEMISPHERES)


def test_the_truth_stands_in_the_order_of_the_voxels(brain: Path, tmp_path: Path) -> None:
    table = pd.read_parquet(brain / "truth/voxels.parquet").sample(frac=1, random_state=0)
    (tmp_path / "truth").mkdir()
    (tmp_path / "subj01").symlink_to(brain / "subj01")
    table.to_parquet(tmp_path / "truth/voxels.parquet")
    shuffled = Planted(tmp_path)
    truth = shuffled.truth()
    assert truth is not None
    assert truth[["hemi", "vertex"]].equals(shuffled.voxels()[["hemi", "vertex"]])
    by_voxel = table.set_index(["hemi", "vertex"])["depth"]
    assert truth["depth"].tolist() == [by_voxel[key] for key in zip(truth["hemi"], truth["vertex"], strict=True)]


def test_the_ceiling_of_the_truth_is_that_of_the_subject(planted: Planted) -> None:
    truth = planted.truth()
    assert truth is not None
    np.testing.assert_array_equal(truth["ceiling"], planted.voxels()["ceiling"])
    assert truth["ceiling"].between(0.03, 0.75).all()


def test_the_truth_lies_within_the_encoders_ranges(planted: Planted) -> None:
    truth = planted.truth()
    assert truth is not None
    for name, low in (("depth", 0), ("scale", 0), ("x", -1), ("y", -1)):
        assert truth[name].between(low, 1).all()


def test_each_hemisphere_sees_the_other_side_of_the_image(planted: Planted) -> None:
    truth = planted.truth()
    assert truth is not None
    x = truth.groupby("hemi")["x"].mean()
    assert x["lh"] > 0.2
    assert x["rh"] < -0.2


def test_what_noise_leaves_of_the_responses_is_the_ceiling(planted: Planted, signal: np.ndarray) -> None:
    ceiling = planted.voxels()["ceiling"].to_numpy()
    responses = planted.responses() / RESPONSE_STD
    noise = responses - np.sqrt(ceiling) * signal
    relative = noise.var(axis=0) / (1 - ceiling)
    assert relative.mean() == pytest.approx(1, abs=0.06)  # 124 voxels × 48 images: standard error 0.018
    assert np.corrcoef(noise.var(axis=0), 1 - ceiling)[0, 1] > 0.3
    explained = np.array([np.corrcoef(s, r)[0, 1] ** 2 for s, r in zip(signal.T, responses.T, strict=True)])
    assert explained.mean() == pytest.approx(ceiling.mean(), abs=0.05)
    assert np.corrcoef(explained, ceiling)[0, 1] > 0.3


def test_noise_is_new_for_every_voxel_and_image(planted: Planted, signal: np.ndarray) -> None:
    ceiling = planted.voxels()["ceiling"].to_numpy()
    noise = planted.responses() / RESPONSE_STD - np.sqrt(ceiling) * signal
    for between in (np.corrcoef(noise.T), np.corrcoef(noise)):
        others = between[~np.eye(len(between), dtype=bool)]
        assert abs(others.mean()) < 0.02
        assert np.abs(others).max() < 0.8


def test_a_voxel_with_its_field_on_one_side_follows_that_side_only(planted_spec: PlantSpec) -> None:
    truth = (
        true_maps(planted_spec, planted_spec.n_layers)
        .iloc[:2]
        .assign(x=[-0.75, 0.75], y=0.0, scale=0.0, nominal=0.0, sigma=0.1, ceiling=1.0)
    )
    rng = np.random.default_rng(0)
    local = rng.normal(size=(3, 40, 8, 8, 24)).astype(np.float32)
    global_ = rng.normal(size=(3, 40, 24)).astype(np.float32)
    changed = local.copy()
    changed[:, :, :, 4:] = rng.normal(size=(3, 40, 8, 4, 24))
    before, after = (true_responses(x, global_, truth, planted_spec) for x in (local, changed))
    r = [np.corrcoef(before[:, voxel], after[:, voxel])[0, 1] for voxel in range(2)]
    assert r[0] > 0.99
    assert abs(r[1]) < 0.6


def test_a_deep_voxel_reads_the_last_layer_and_a_shallow_one_the_first(planted_spec: PlantSpec) -> None:
    truth = true_maps(planted_spec, planted_spec.n_layers).iloc[:2].assign(scale=0.5, nominal=[0.0, 1.0], ceiling=1.0)
    rng = np.random.default_rng(0)
    local = rng.normal(size=(6, 40, 4, 4, 24)).astype(np.float32)
    global_ = rng.normal(size=(6, 40, 24)).astype(np.float32)
    changed, changed_global = local.copy(), global_.copy()
    changed[3:] = rng.normal(size=(3, 40, 4, 4, 24))
    changed_global[3:] = rng.normal(size=(3, 40, 24))
    before = true_responses(local, global_, truth, planted_spec)
    after = true_responses(changed, changed_global, truth, planted_spec)
    r = [np.corrcoef(before[:, voxel], after[:, voxel])[0, 1] for voxel in range(2)]
    assert r[0] > 0.99
    assert abs(r[1]) < 0.6


def test_a_global_voxel_reads_the_global_token(planted_spec: PlantSpec) -> None:
    truth = true_maps(planted_spec, planted_spec.n_layers).iloc[:2].assign(scale=[0.0, 1.0], ceiling=1.0)
    rng = np.random.default_rng(0)
    local = rng.normal(size=(3, 40, 4, 4, 24)).astype(np.float32)
    before, after = (
        true_responses(local, rng.normal(size=(3, 40, 24)).astype(np.float32), truth, planted_spec) for _ in range(2)
    )
    r = [np.corrcoef(before[:, voxel], after[:, voxel])[0, 1] for voxel in range(2)]
    assert r[0] > 0.99
    assert abs(r[1]) < 0.6


def test_the_first_and_the_last_layer_of_the_demos_network_differ(tmp_path: Path) -> None:
    pixels = torch.stack([squash(draw_scene(np.random.default_rng([9, i])), (112, 112)) for i in range(48)])
    demo = PlantSpec()
    write_small_clip(tmp_path, pixels[:24], demo.seed, demo.n_layers, demo.width, demo.patch)
    local, global_ = tokens(tmp_path, pixels[24:])  # other pictures than those it was scaled on
    for layers in (local, global_):
        first, last = ((layer - layer.mean(0)).ravel() for layer in (layers[0], layers[-1]))
        assert abs(np.corrcoef(first, last)[0, 1]) < 0.3


def test_no_layer_of_the_network_drowns_the_others(brain: Path) -> None:
    pixels = torch.stack([squash(draw_scene(np.random.default_rng([9, i])), (112, 112)) for i in range(8)])
    local, _ = tokens(brain / "backbone", pixels)
    sizes = local.std(axis=(1, 2, 3, 4))
    assert sizes.max() / sizes.min() < 1.5


def test_planting_again_with_the_same_options_changes_nothing(brain: Path, planted_spec: PlantSpec) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in brain.rglob("*")}
    about = plant(planted_spec, brain)
    assert about == json.loads((brain / "planted.json").read_text())
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in brain.rglob("*")} == before


def test_planting_again_with_other_options_is_refused_and_changes_nothing(brain: Path, planted_spec: PlantSpec) -> None:
    before = files(brain)
    with pytest.raises(MismatchError, match="other options"):
        plant(planted_spec.model_copy(update={"seed": 1}), brain)
    assert files(brain) == before


def test_planting_into_a_folder_of_other_things_is_refused_and_changes_nothing(
    tmp_path: Path, planted_spec: PlantSpec
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(MismatchError, match="other files"):
        plant(planted_spec, tmp_path)
    assert files(tmp_path) == {"thesis.tex": b"mine"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_description_of_a_planted_brain_is_a_mismatch(
    tmp_path: Path, planted_spec: PlantSpec, text: str
) -> None:
    (tmp_path / "planted.json").write_text(text)
    with pytest.raises(MismatchError):
        plant(planted_spec, tmp_path)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_planting_is_repeatable_to_the_byte(
    brain: Path, planted_spec: PlantSpec, tmp_path: Path, n_threads: int
) -> None:
    """Whatever the state of the caller's generator and its threads."""
    torch.manual_seed(12345)
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    plant(planted_spec, tmp_path / "again")
    assert torch.get_num_threads() == n_threads
    torch.set_num_threads(before)
    assert files(tmp_path / "again") == files(brain)


def test_a_folder_without_a_truth_is_no_planted_brain(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Planted(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"voxels\.parquet"):
        Planted(tmp_path)


@pytest.fixture(scope="module")
def anatomy(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Voxels of a brain of the demo's size, with their regions and places `x`, `y`, `z` in mm on the pial surface."""
    spec = PlantSpec()
    subject = tmp_path_factory.mktemp("anatomy") / "subj01"
    image = image_path(subject, 0)
    image.parent.mkdir(parents=True)
    image.touch()
    maps = true_maps(spec, spec.n_layers)
    write_subject(subject, np.zeros((1, len(maps)), np.float32), maps)
    voxels = Algonauts(subject).voxels()
    for hemi, part in (("lh", "pial_left"), ("rh", "pial_right")):
        mesh: Any = nibabel.load(fetch_surf_fsaverage("fsaverage5")[part])
        mine = voxels["hemi"] == hemi
        voxels.loc[mine, ["x", "y", "z"]] = mesh.agg_data("pointset")[voxels.loc[mine, "vertex"]]
    return voxels


def place(anatomy: pd.DataFrame, hemi: str, atlas: str, names: list[str]) -> pd.Series:
    chosen = anatomy[(anatomy["hemi"] == hemi) & anatomy[atlas].isin(names)]
    assert len(chosen) >= 5
    return chosen[["x", "y", "z"]].median()


def test_the_left_hemisphere_is_left_and_the_right_one_right(anatomy: pd.DataFrame) -> None:
    median = anatomy.groupby("hemi")["x"].median()
    assert median["lh"] < -10
    assert median["rh"] > 10


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_the_patch_covers_the_back_of_the_brain(anatomy: pd.DataFrame, hemi: str) -> None:
    assert 500 < (anatomy["hemi"] == hemi).sum() < 1_100
    assert anatomy.loc[anatomy["hemi"] == hemi, "y"].median() < -60


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_v1_lies_along_the_calcarine_sulcus(anatomy: pd.DataFrame, hemi: str) -> None:
    v1 = place(anatomy, hemi, "prf-visualrois", ["V1v", "V1d"])
    calcarine = np.array([-10 if hemi == "lh" else 10, -86, 2])
    assert np.linalg.norm(v1 - calcarine) < 15


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_places_are_ventral_in_ppa_and_dorsal_in_opa(anatomy: pd.DataFrame, hemi: str) -> None:
    ppa, opa = (place(anatomy, hemi, "floc-places", [name]) for name in ("PPA", "OPA"))
    v1 = place(anatomy, hemi, "prf-visualrois", ["V1v", "V1d"])
    assert ppa["z"] < v1["z"] - 5
    assert opa["z"] > v1["z"] + 5


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_bodies_are_lateral_of_v1(anatomy: pd.DataFrame, hemi: str) -> None:
    eba = place(anatomy, hemi, "floc-bodies", ["EBA"])
    v1 = place(anatomy, hemi, "prf-visualrois", ["V1v", "V1d"])
    assert abs(eba["x"]) > abs(v1["x"]) + 15


@pytest.mark.parametrize("area", ["V1", "V2", "V3"])
@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_the_dorsal_half_of_an_early_area_lies_above_its_ventral_half(
    anatomy: pd.DataFrame, hemi: str, area: str
) -> None:
    ventral, dorsal = (place(anatomy, hemi, "prf-visualrois", [f"{area}{half}"]) for half in "vd")
    assert dorsal["z"] > ventral["z"]


@pytest.mark.parametrize("hemi", HEMISPHERES)
def test_each_hemisphere_of_the_demo_has_voxels_of_every_depth(hemi: str) -> None:
    maps = true_maps(PlantSpec(), 8)
    counts, _ = np.histogram(maps.loc[maps["hemi"] == hemi, "depth"], bins=8, range=(0, 1))
    assert counts.min() > 40


def test_depth_grows_from_v1_to_the_body_area(anatomy: pd.DataFrame) -> None:
    depth = true_maps(PlantSpec(), 8).set_index(["hemi", "vertex"])["depth"]
    own = depth.loc[pd.MultiIndex.from_frame(anatomy[["hemi", "vertex"]])].to_numpy()
    early = own[anatomy["prf-visualrois"].isin(["V1v", "V1d"])]
    late = own[anatomy["floc-bodies"] == "EBA"]
    assert early.max() < late.min()


def test_what_is_in_a_planted_brain_is_printed(brain: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", f"planted:{brain}"])
    assert done.exit_code == 0, done.output
    for words in (
        "truth      known, because the brain is planted",
        "voxels     124 (",
        "ceilings   of 124 voxels, mean 0.",
    ):
        assert words in done.output
