"""A subject folder is read by what its files say: ids pair images with responses, masks pair columns with vertices."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bddn.cli import app
from bddn.cortex.fsaverage import N_VERTICES, sphere
from bddn.data.algonauts import ATLASES, Algonauts
from bddn.errors import DataError
from bddn.testing import DatasetContract

VERTICES = {"lh": np.array([3, 40, 500, 9_000, 120_000]), "rh": np.array([7, 40, 163_841])}
NSD = (13, 14, 27, 300, 301, 72_999)  # image of train-0001, train-0002, …
LABELS = {  # atlas: names from 1, and the labels of the columns
    "prf-visualrois": (("V1v", "V1d"), {"lh": [1, 2, 0, 0, 0], "rh": [0, 2, 0]}),
    "floc-bodies": (("EBA",), {"lh": [0, 0, 0, 0, 0], "rh": [0, 0, 0]}),
    "floc-faces": (("OFA", "FFA-1"), {"lh": [0, 1, 2, 0, 0], "rh": [0, 0, 0]}),
    "floc-places": (("OPA",), {"lh": [0, 0, 1, 0, 0], "rh": [1, 0, 0]}),
    "floc-words": (("OWFA",), {"lh": [0, 0, 0, 0, 0], "rh": [1, 0, 0]}),
    "streams": (("early", "ventral"), {"lh": [1, 1, 2, 2, 2], "rh": [2, 1, 0]}),
}
N = len(NSD)


def image_of(subject: Path, ordinal: int, nsd: int) -> Path:
    return subject / f"training_split/training_images/train-{ordinal:04d}_nsd-{nsd:05d}.png"


def mask_of(subject: Path, hemi: str, atlas: str, space: str = "fsaverage") -> Path:
    return subject / f"roi_masks/{hemi}.{atlas}_{space}_space.npy"


def responses_of(subject: Path, hemi: str) -> Path:
    return subject / f"training_split/training_fmri/{hemi}_training_fmri.npy"


def response(nsd: int, hemi: str, column: int) -> float:
    """The response that stands for an image and a column, unlike any other."""
    return nsd + column / 10 + (0.5 if hemi == "rh" else 0)


def save(path: Path, array: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def whole(vertex: np.ndarray, labels: Any) -> np.ndarray:
    mask = np.zeros(N_VERTICES, np.uint8)
    mask[vertex] = labels
    return mask


@pytest.fixture
def subject(tmp_path: Path) -> Path:
    """A whole subject of 6 images, 5 left and 3 right vertices, without noise ceilings; its files made out of order."""
    folder = tmp_path / "subj06"
    (folder / "training_split/training_images").mkdir(parents=True)
    for k in (4, 0, 5, 2, 1, 3):
        Image.new("RGB", (2, 2), (NSD[k] % 256, 0, 0)).save(image_of(folder, k + 1, NSD[k]))
    for hemi, vertex in VERTICES.items():
        rows = [[response(nsd, hemi, column) for column in range(len(vertex))] for nsd in NSD]
        save(responses_of(folder, hemi), np.array(rows, np.float32))
        save(mask_of(folder, hemi, "all-vertices"), whole(vertex, 1))
        for atlas, (_, labels) in LABELS.items():
            save(mask_of(folder, hemi, atlas), whole(vertex, labels[hemi]))
            save(mask_of(folder, hemi, atlas, "challenge"), np.array(labels[hemi]))
    for atlas, (names, _) in LABELS.items():
        mapping = dict(enumerate(("Unknown", *names)))
        save(folder / f"roi_masks/mapping_{atlas}.npy", np.array(mapping, dtype=object))
    return folder


class TestAlgonauts(DatasetContract):
    @pytest.fixture
    def dataset(self, subject: Path) -> Algonauts:
        return Algonauts(subject)


def relist(monkeypatch: pytest.MonkeyPatch, order: Any) -> None:
    """Make every folder list its files in this order."""
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter(order(listed(self))))


@pytest.mark.parametrize(
    "order",
    [sorted, lambda paths: sorted(paths, reverse=True), lambda paths: sorted(paths, key=lambda p: str(p)[::-1])],
    ids=["forward", "backward", "by the last digit"],
)
def test_images_and_responses_belong_together_in_whatever_order_the_folder_lists(
    subject: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    relist(monkeypatch, order)
    data = Algonauts(subject)
    responses = data.responses()
    for i, name in enumerate(data.stimuli.ids):
        nsd = int(name.removeprefix("nsd-"))
        red = data.stimuli.image(i).getpixel((0, 0))
        assert red == (nsd % 256, 0, 0)
        assert responses[i, 0] == np.float32(response(nsd, "lh", 0))


def test_row_k_belongs_to_ordinal_k_plus_1_even_where_the_nsd_numbers_do_not_ascend(subject: Path) -> None:
    first, last = image_of(subject, 1, NSD[0]), image_of(subject, N, NSD[-1])
    first.rename(image_of(subject, 1, 50_000))
    last.rename(image_of(subject, N, 2))
    assert Algonauts(subject).stimuli.ids == (
        "nsd-50000",
        *(f"nsd-{nsd:05d}" for nsd in NSD[1:-1]),
        "nsd-00002",
    )


def test_columns_follow_the_masks_left_hemisphere_first(subject: Path) -> None:
    data = Algonauts(subject)
    voxels = data.voxels()
    assert voxels["hemi"].tolist() == ["lh"] * 5 + ["rh"] * 3
    assert voxels["vertex"].tolist() == [*VERTICES["lh"], *VERTICES["rh"]]
    expected = [response(NSD[2], h, c) for h, vertex in VERTICES.items() for c in range(len(vertex))]
    responses = data.responses()
    assert responses.dtype == np.float32
    np.testing.assert_array_equal(responses[2], np.array(expected, np.float32))


def test_positions_are_those_of_the_voxels_with_the_right_hemisphere_aside(subject: Path) -> None:
    shift = np.repeat([[0, 0, 0], [300, 0, 0]], [5, 3], axis=0)
    vertex = np.concatenate([VERTICES["lh"], VERTICES["rh"]])
    np.testing.assert_allclose(Algonauts(subject).coords_mm(), sphere()[0][vertex] + shift, atol=1e-4)


def test_a_vertex_that_a_subject_lacks_moves_the_columns_behind_it(subject: Path) -> None:
    kept = [0, 2, 3, 4]
    vertex = VERTICES["lh"][kept]
    save(responses_of(subject, "lh"), np.load(responses_of(subject, "lh"))[:, kept])
    save(mask_of(subject, "lh", "all-vertices"), whole(vertex, 1))
    for atlas, (_, labels) in LABELS.items():
        save(mask_of(subject, "lh", atlas), whole(vertex, np.array(labels["lh"])[kept]))
        save(mask_of(subject, "lh", atlas, "challenge"), np.array(labels["lh"])[kept])
    data = Algonauts(subject)
    voxels = data.voxels()
    assert voxels["vertex"].tolist() == [3, 500, 9_000, 120_000, *VERTICES["rh"]]
    assert voxels["roi"].tolist()[:3] == ["V1v", "FFA-1", ""]
    assert data.responses().shape == (N, 7)
    assert data.coords_mm().shape == (7, 3)


def test_a_hemisphere_without_any_vertex_has_no_columns(subject: Path) -> None:
    save(responses_of(subject, "rh"), np.zeros((N, 0), np.float32))
    for atlas in ("all-vertices", *ATLASES):
        save(mask_of(subject, "rh", atlas), np.zeros(N_VERTICES, np.uint8))
    for atlas in ATLASES:
        save(mask_of(subject, "rh", atlas, "challenge"), np.zeros(0, np.uint8))
    data = Algonauts(subject)
    assert data.voxels()["hemi"].tolist() == ["lh"] * 5
    assert data.responses().shape == (N, 5)
    assert data.coords_mm().shape == (5, 3)


@pytest.mark.parametrize("gone", ["fsaverage", "challenge"])
def test_masks_of_one_space_are_enough(subject: Path, gone: str) -> None:
    both = Algonauts(subject).voxels()
    for hemi in VERTICES:
        for atlas in ATLASES:
            mask_of(subject, hemi, atlas, gone).unlink()
    one = Algonauts(subject).voxels()
    assert one.equals(both)


def test_every_atlas_names_the_voxels_it_labels(subject: Path) -> None:
    voxels = Algonauts(subject).voxels()
    for atlas, (names, labels) in LABELS.items():
        assert voxels[atlas].tolist() == [("", *names)[k] for k in labels["lh"] + labels["rh"]]


def test_roi_is_the_first_label_of_the_named_atlases_and_streams_name_none(subject: Path) -> None:
    rois = Algonauts(subject).voxels()["roi"].tolist()
    assert rois == ["V1v", "V1d", "FFA-1", "", "", "OPA", "V1d", ""]


def test_the_ceiling_is_unknown_where_the_download_has_none(subject: Path) -> None:
    assert Algonauts(subject).voxels()["ceiling"].isna().all()


def test_ceilings_stand_beside_their_voxels(subject: Path) -> None:
    save(subject / "test_split/noise_ceiling/rh_noise_ceiling.npy", np.array([0, 0.25, 1], np.float32))
    ceiling = Algonauts(subject).voxels()["ceiling"].to_numpy()
    np.testing.assert_array_equal(ceiling, [np.nan] * 5 + [0, 0.25, 1])


def read_all(subject: Path) -> None:
    data = Algonauts(subject)
    data.responses()
    data.voxels()
    data.coords_mm()


def refused(subject: Path, place: Path | str, match: str) -> None:
    with pytest.raises(DataError, match=match) as caught:
        read_all(subject)
    assert str(place) in str(caught.value)


def test_a_folder_that_is_no_subject_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tmp_path / "nowhere", "no such folder")
    (tmp_path / "README.md").touch()
    refused(tmp_path, tmp_path, r"README\.md")


def test_a_gap_in_the_ordinals_is_refused(subject: Path) -> None:
    image_of(subject, 3, NSD[2]).unlink()
    refused(subject, subject / "training_split/training_images", "train-0003")


def test_ordinals_from_0_are_refused(subject: Path) -> None:
    image_of(subject, N, NSD[-1]).rename(image_of(subject, 0, NSD[-1]))
    refused(subject, subject / "training_split/training_images", r"without an image \(1\): train-0006")


def test_an_nsd_image_that_comes_twice_is_refused_by_its_number(subject: Path) -> None:
    image_of(subject, 3, NSD[2]).rename(image_of(subject, 3, NSD[0]))
    refused(subject, subject / "training_split/training_images", f"nsd-{NSD[0]:05d}")


def test_an_ordinal_that_comes_twice_is_refused(subject: Path) -> None:
    image_of(subject, 3, 999).touch()
    refused(subject, subject / "training_split/training_images", "train-0003")


def test_a_picture_with_another_name_is_refused(subject: Path) -> None:
    stray = subject / "training_split/training_images/test-0001_nsd-00044.png"
    stray.touch()
    refused(subject, stray.name, "train-0001_nsd-00013")


def test_a_subject_without_images_is_refused(subject: Path) -> None:
    for path in (subject / "training_split/training_images").iterdir():
        path.unlink()
    refused(subject, subject / "training_split/training_images", "0 images")


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda rows: rows[:-1], r"\(5, 3\)"),
        (lambda rows: rows.T, r"\(3, 6\)"),
        (lambda rows: rows[:, :-1], r"\(6, 2\)"),
        (lambda rows: rows[None], r"\(1, 6, 3\)"),
        (lambda rows: rows.astype(np.int16), "int16"),
        (lambda rows: rows.astype(complex), "complex128"),
    ],
    ids=["a row short", "transposed", "a column short", "one axis more", "integers", "complex"],
)
def test_responses_of_another_shape_or_kind_are_refused(subject: Path, change: Any, got: str) -> None:
    path = responses_of(subject, "rh")
    save(path, change(np.load(path)))
    refused(subject, path, rf"\({N}, 3\).*{got}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_response_that_is_no_number_is_refused_by_the_name_of_its_stimulus(subject: Path, value: float) -> None:
    path = responses_of(subject, "rh")
    rows = np.load(path)
    rows[3, 1] = value
    save(path, rows)
    refused(subject, path, f"1 of 18.*nsd-{NSD[3]:05d}.*column 1")


def test_missing_responses_are_refused(subject: Path) -> None:
    responses_of(subject, "lh").unlink()
    refused(subject, responses_of(subject, "lh"), "no such file")


@pytest.mark.parametrize("length", [0, 5, 60, 150])
def test_responses_cut_short_are_refused(subject: Path, length: int) -> None:
    path = responses_of(subject, "lh")
    path.write_bytes(path.read_bytes()[:length])
    refused(subject, path, "a NumPy .npy file")


def test_responses_that_are_a_pickle_are_refused(subject: Path) -> None:
    path = responses_of(subject, "lh")
    save(path, np.array([{}], dtype=object))
    refused(subject, path, "a NumPy .npy file")


@pytest.mark.parametrize("name", ["all-vertices", "floc-faces"])
def test_a_mask_of_another_surface_is_refused(subject: Path, name: str) -> None:
    path = mask_of(subject, "lh", name)
    save(path, np.load(path)[:10_242])
    refused(subject, path, r"\(163842,\).*\(10242,\)")


def test_a_challenge_mask_of_another_length_than_the_responses_is_refused(subject: Path) -> None:
    path = mask_of(subject, "lh", "streams", "challenge")
    save(path, np.load(path)[:-1])
    refused(subject, path, r"\(5,\).*\(4,\)")


@pytest.mark.parametrize(
    "mask",
    [np.full(N_VERTICES, 0.5), np.full(N_VERTICES, np.nan), np.full(N_VERTICES, "one")],
    ids=["halves", "NaN", "text"],
)
def test_a_mask_of_anything_but_whole_numbers_is_refused(subject: Path, mask: np.ndarray) -> None:
    path = mask_of(subject, "lh", "all-vertices")
    save(path, mask)
    refused(subject, path, "whole numbers")


def test_all_vertices_that_are_labels_instead_of_0_and_1_are_refused(subject: Path) -> None:
    path = mask_of(subject, "lh", "all-vertices")
    save(path, whole(VERTICES["lh"], [1, 2, 1, 1, 1]))
    refused(subject, path, "0 (and|or) 1")


def test_masks_of_the_two_spaces_that_disagree_are_refused(subject: Path) -> None:
    path = mask_of(subject, "lh", "floc-faces", "challenge")
    save(path, np.array([0, 1, 1, 0, 2]))
    refused(subject, subject / "roi_masks/lh.floc-faces", "2 different labels")


def test_an_atlas_without_any_mask_is_refused(subject: Path) -> None:
    for space in ("fsaverage", "challenge"):
        mask_of(subject, "rh", "streams", space).unlink()
    refused(subject, subject / "roi_masks/rh.streams", "neither")


def test_a_label_without_a_name_is_refused(subject: Path) -> None:
    for space, labels in (("fsaverage", whole(VERTICES["rh"], [9, 0, 0])), ("challenge", np.array([9, 0, 0]))):
        save(mask_of(subject, "rh", "floc-places", space), labels)
    refused(subject, subject / "roi_masks/rh.floc-places", "9")


@pytest.mark.parametrize(
    "ceiling",
    [[0.1, 0.2, 1.01], [0.1, -0.01, 0.3], [0.1, np.nan, 0.3], [0.1, 0.2], [0.1, 0.2, 0.3, 0.4], []],
    ids=["above 1", "below 0", "NaN", "too few", "too many", "empty"],
)
def test_a_ceiling_out_of_range_or_of_another_length_is_refused(subject: Path, ceiling: list[float]) -> None:
    path = subject / "test_split/noise_ceiling/rh_noise_ceiling.npy"
    save(path, np.array(ceiling))
    refused(subject, path, r"\(3,\)")


def test_a_missing_label_map_is_refused(subject: Path) -> None:
    path = subject / "roi_masks/mapping_streams.npy"
    path.unlink()
    refused(subject, path, "no such file")


def test_a_picture_cut_short_is_refused_by_its_file_and_stimulus(subject: Path) -> None:
    path = image_of(subject, 2, NSD[1])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:4_000])
    with pytest.raises(DataError, match=f"nsd-{NSD[1]:05d}") as caught:
        Algonauts(subject).stimuli.image(1)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA"])
def test_pictures_of_other_modes_are_read_as_rgb(subject: Path, mode: str) -> None:
    Image.new("RGB", (2, 2), (153, 153, 153)).convert(mode).save(image_of(subject, 1, NSD[0]))
    image = Algonauts(subject).stimuli.image(0)
    assert (image.mode, image.getpixel((1, 1))) == ("RGB", (153, 153, 153))


def test_the_identity_of_an_image_is_its_files_bytes(subject: Path) -> None:
    before = [Algonauts(subject).stimuli.read(i)[1] for i in range(N)]
    Image.new("RGB", (2, 2), (NSD[1] % 256, 0, 1)).save(image_of(subject, 2, NSD[1]))
    after = [Algonauts(subject).stimuli.read(i)[1] for i in range(N)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True, True, True]
    assert len(set(before)) == N


def test_what_is_in_a_subject_is_printed(subject: Path) -> None:
    done = CliRunner().invoke(app, ["data", "check", f"algonauts:{subject}"])
    said = " ".join(done.output.split())
    assert done.exit_code == 0, said
    responses = np.array([response(nsd, h, c) for nsd in NSD for h in VERTICES for c in range(len(VERTICES[h]))])
    for words in (
        f"dataset algonauts:{subject} images 6, 2 × 2 pixels voxels 8 (lh 5, rh 3)",
        "ROIs V1v 1, V1d 2, FFA-1 1, OPA 1",
        f"responses finite, mean {responses.mean():.3g}, standard deviation {responses.std():.3g}; means over",
        "ceilings unknown about Responses",
        "responses must not be passed on",
        "good: all images and responses can be read",
    ):
        assert words in said
    path = responses_of(subject, "rh")
    values = np.load(path)
    values[:, 1] = 5
    save(path, values)
    done = CliRunner().invoke(app, ["data", "check", f"algonauts:{subject}"])
    assert "note: responses of 1 voxels are constant" in done.output
    image_of(subject, 3, NSD[2]).write_bytes(b"")
    done = CliRunner().invoke(app, ["data", "check", f"algonauts:{subject}"])
    assert done.exit_code == 2
    assert "error: " in done.output
    assert "nsd-00027.png: expected a readable image" in " ".join(done.output.split())
    assert "good" not in done.output
