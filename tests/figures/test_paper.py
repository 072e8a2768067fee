"""Sheets of several runs: which panels they have, from which numbers, and where they are drawn."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bddn.cortex.gifti import read_gifti
from bddn.cortex.surfaces import surface
from bddn.errors import DataError, SpecError
from bddn.figures.grid import CortexPanel, ImagePanel, PlacePanel, draw_grid
from bddn.figures.paper import (
    ChannelInputs,
    Sheet,
    change,
    channels,
    check_rois,
    layer_maps,
    scores,
    short_labels,
    topology,
)
from bddn.maps import colors
from bddn.run import Run
from bddn.stats.hierarchy import confidence, depth

LAYERS = ("block_0", "block_1", "block_2")
CENTRE = {"lh": 5271, "rh": 5560}  # posterior vertices


def run(folder: Path, seed: int = 0, selection: str = "topological", reach_mm: float = 40.0) -> Run:
    """A run whose left hemisphere selects the first layer and its right one the last."""
    rng = np.random.default_rng(seed)
    parts = []
    for hemi, chosen in (("lh", 0), ("rh", 2)):
        points = surface(hemi).inflated
        vertex = np.flatnonzero(np.linalg.norm(points - points[CENTRE[hemi]], axis=1) < reach_mm)
        weights = np.full((len(vertex), 3), 0.05)
        weights[:, chosen] = 0.9
        table = {
            "hemi": hemi,
            "vertex": vertex,
            "roi": "V1v",
            "r2_val": 0.1,
            "r2_test": rng.uniform(0.0, 0.3, len(vertex)),
            "layer_argmax": LAYERS[chosen],
            "depth": depth(weights),
            "confidence": confidence(weights),
            "x": rng.uniform(-0.5, 0.5, len(vertex)),
            "y": rng.uniform(-0.5, 0.5, len(vertex)),
            "scale": 0.5,
            **{f"weight_{name}": weights[:, k] for k, name in enumerate(LAYERS)},
        }
        parts.append(pd.DataFrame(table))
    about = {
        "fit": {"selection": selection},
        "data": {"voxels_sha256": str(reach_mm), "responses_sha256": "of a subject"},
        "cache": {"digest": "of a network"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "split.json").write_text(json.dumps({"train": ["a", "b"], "val": ["c"], "test": ["d", "e"]}))
    return Run(folder, LAYERS, pd.concat(parts, ignore_index=True), {"title": "trial"}, None, about)


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    runs = [run(tmp_path / "clip" / name / "seed0") for name in ("subj01", "subj02")]
    assert short_labels(runs) == ["subj01", "subj02"]
    assert short_labels(runs[:1]) == ["seed0"]


def test_subjects_are_shown_beside_their_average(tmp_path: Path) -> None:
    sheet = layer_maps([run(tmp_path / "a"), run(tmp_path / "b", reach_mm=30.0)], "hue")
    titles = [panel.title for row in sheet.rows for panel in row]
    assert titles == ["average of 2", "agreement of their layers", "a", "b"]


def test_seeds_of_one_subject_are_shown_with_the_agreement_of_their_layers(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    swapped = first.voxels.assign(
        layer_argmax=np.where(first.voxels["hemi"] == "lh", "block_2", first.voxels["layer_argmax"]),
        **{"weight_block_2": np.where(first.voxels["hemi"] == "lh", 0.95, first.voxels["weight_block_2"])},
    )
    panels = layer_maps([first, replace(first, folder=tmp_path / "b", voxels=swapped)], "hue").rows
    agreement = panels[0][1]
    assert isinstance(agreement, CortexPanel)
    left = (agreement.table["hemi"] == "lh").to_numpy()
    assert np.unique(agreement.kind.values[left]).tolist() == [0]
    assert np.unique(agreement.kind.values[~left]).tolist() == [1]


def test_caches_of_one_subject_are_not_averaged(tmp_path: Path) -> None:
    first = run(tmp_path / "a")
    other = replace(first, folder=tmp_path / "b", about=first.about | {"cache": {"digest": "of another"}})
    assert len(layer_maps([first, other], "hue").rows[0]) == 2


def test_brightness_of_networks_of_other_sizes_does_not_depend_on_their_size(tmp_path: Path) -> None:
    """Half of the first layer and half of the last look the same among 2 layers and among 12."""

    def half(folder: Path, n: int) -> Run:
        layers = tuple(f"layer_{k}" for k in range(n))
        first = run(folder)
        weights = {f"weight_{name}": 0.5 * (k in (0, n - 1)) for k, name in enumerate(layers)}
        kept = first.voxels.drop(columns=[f"weight_{name}" for name in LAYERS]).assign(**weights)
        uneven = {"weight_layer_0": np.where(kept["hemi"] == "lh", 1.0, 0.5)}
        uneven[f"weight_layer_{n - 1}"] = np.where(kept["hemi"] == "lh", 0.0, 0.5)
        return replace(first, layers=layers, voxels=kept.assign(**uneven, layer_argmax="layer_0"))

    sheet = layer_maps([half(tmp_path / "a", 2), half(tmp_path / "b", 12)], "hue")
    shown = [panel.kind.values[:, 1] for panel in sheet.rows[0] if isinstance(panel, CortexPanel)]
    assert np.array_equal(shown[0], shown[1])
    assert sorted(np.unique(shown[0])) == [0, 1]
    assert "sharpness in depth" in sheet.heading


def test_networks_with_other_layers_stand_side_by_side(tmp_path: Path) -> None:
    other = run(tmp_path / "b")
    renamed = {f"weight_{name}": f"weight_x{name}" for name in LAYERS}
    voxels = other.voxels.rename(columns=renamed).assign(layer_argmax="x" + other.voxels["layer_argmax"])
    sheet = layer_maps(
        [run(tmp_path / "a"), replace(other, layers=tuple(f"x{n}" for n in LAYERS), voxels=voxels)], "hue"
    )
    written = draw_grid(sheet.rows, tmp_path / "figure6", sheet.title, sheet.heading, dpi=30)
    assert written[0].is_file()


def test_selection_has_the_ablation_the_places_and_every_layer(tmp_path: Path) -> None:
    sheet = topology([run(tmp_path / "a"), run(tmp_path / "b", selection="free")], "hue")
    first, *weights = sheet.rows
    assert [panel.title for panel in first] == ["with topological constraint", "without", "places in the image"]
    assert isinstance(first[2], PlacePanel)
    assert [panel.title for row in weights for panel in row] == list(LAYERS)


def test_the_best_model_is_zero_below_itself(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", 0), run(tmp_path / "b", 1)]
    sheet = scores(runs, "hue")
    below = [panel.kind.values[:, 0] for row in sheet.rows for panel in row[1:] if isinstance(panel, CortexPanel)]
    assert np.allclose(np.maximum(*below), 0)
    assert (np.minimum(*below) < 0).any()


def test_voxels_that_differ_are_not_compared(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a"), run(tmp_path / "b", reach_mm=30.0)]
    for figure in (scores, change):
        with pytest.raises(DataError, match="a run with other voxels"):
            figure(runs, "hue")
    with pytest.raises(SpecError, match="two runs or more, with the same layers; got 1"):
        change(runs[:1], "hue")


@pytest.mark.parametrize("figure", [scores, change])
def test_scores_on_other_test_images_or_responses_are_not_compared(
    tmp_path: Path, figure: Callable[..., Sheet]
) -> None:
    first, second = run(tmp_path / "a"), run(tmp_path / "b")
    other = replace(second, about=second.about | {"data": first.about["data"] | {"responses_sha256": "of others"}})
    with pytest.raises(DataError, match=r"b: expected the data and test images of .*a run with other responses\."):
        figure([first, other], "hue")
    (tmp_path / "b" / "split.json").write_text(json.dumps({"train": ["a", "d"], "val": ["c"], "test": ["b", "e"]}))
    with pytest.raises(DataError, match="other test images, of which 1 of 2 are the same"):
        figure([first, second], "hue")


def test_a_change_is_after_minus_before(tmp_path: Path) -> None:
    before, after = run(tmp_path / "a"), run(tmp_path / "b")
    after = replace(after, voxels=after.voxels.assign(depth=after.voxels["depth"] + 0.1))
    panel = change([before, after], "hue").rows[1][0]
    assert isinstance(panel, CortexPanel)
    assert np.allclose(panel.kind.values, 0.1)
    later = run(tmp_path / "c")
    sheet = change([before, after, replace(later, voxels=later.voxels.assign(depth=0.5))], "hue")
    assert [len(row) for row in sheet.rows] == [1, 3, 3]
    depths = [row[1] for row in sheet.rows[1:]]
    assert [panel.title for panel in depths] == ["change of depth"] * 2
    assert depths[0].legend == depths[1].legend  # one scale of colours


def test_pictures_are_shown_in_the_channels_of_the_rois(tmp_path: Path) -> None:
    made = run(tmp_path / "a")
    rng = np.random.default_rng(0)
    seen = ChannelInputs(
        made,
        rng.normal(size=(len(made.voxels), 8)).astype(np.float32),
        [np.full((32, 32, 3), 100, np.uint8)] * 2,
        rng.normal(size=(3, 2, 4, 4, 8)).astype(np.float32),
    )
    sheet = channels([seen])
    assert [[panel.title for panel in row] for row in sheet.rows] == [["picture", "V1"], ["picture", ""]]
    image = sheet.rows[0][1]
    assert isinstance(image, ImagePanel)
    assert image.image.shape == (4, 4, 3)
    written = draw_grid(sheet.rows, tmp_path / "figure2", sheet.title, sheet.heading, dpi=30)
    assert [path.name for path in written] == ["figure2.png", "figure2.txt"]
    bare = replace(made, voxels=made.voxels.assign(roi=""))
    with pytest.raises(DataError, match="ROI"):
        channels([replace(seen, run=bare)])


def test_the_rois_are_those_of_the_paper_unless_others_are_given(tmp_path: Path) -> None:
    made = run(tmp_path / "a")
    names = np.array(["V1v", "V2v", "V3v", "hV4", "EBA", "FFA-1", "PPA"])
    made = replace(made, voxels=made.voxels.assign(roi=names[np.arange(len(made.voxels)) % len(names)]))
    rng = np.random.default_rng(0)
    seen = ChannelInputs(
        made,
        rng.normal(size=(len(made.voxels), 8)).astype(np.float32),
        [np.full((32, 32, 3), 100, np.uint8)],
        rng.normal(size=(3, 1, 4, 4, 8)).astype(np.float32),
    )
    assert [panel.title for panel in channels([seen]).rows[0]] == ["picture", "V1", "V4", "FFA"]
    assert [panel.title for panel in channels([seen], ["PPA", "RSC", "V2"]).rows[0]] == ["picture", "PPA", "V2"]
    with pytest.raises(SpecError, match=r"--rois: expected some of V1, V2.*got MT"):
        check_rois(["V1", "MT"])


def test_a_grid_has_left_on_the_left_and_its_numbers_beside_it(tmp_path: Path) -> None:
    sheet = layer_maps([run(tmp_path / "a")], "hue")
    written = draw_grid(
        sheet.rows, tmp_path / "figure", sheet.title, sheet.heading, dpi=60, formats=("png", "svg", "pdf")
    )
    assert [path.name for path in written] == [
        *(f"figure.{kind}" for kind in ("png", "svg", "pdf")),
        *(
            f"figure.1{end}"
            for end in (".csv", ".lh.func.gii", ".lh.label.gii", ".rh.func.gii", ".rh.label.gii", ".txt")
        ),
        "figure.txt",
    ]
    image = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"), dtype=float) / 255
    upper = image[: image.shape[0] * 6 // 10]
    blue, red = (np.abs(upper - colors.layer_ramp(3)[k]).max(-1) < 0.06 for k in (0, 2))
    half = image.shape[1] // 2
    assert blue[:, :half].sum() > 50
    assert red[:, half:].sum() > 50
    assert not blue[:, half:].any()
    assert not red[:, :half].any()
    hemi, arrays = read_gifti(tmp_path / "figure.1.rh.func.gii")
    assert hemi == "rh"
    assert np.nanmax(arrays["layer_index"]) == 2
    again = draw_grid(sheet.rows, tmp_path / "b", sheet.title, sheet.heading, dpi=60, formats=("png", "svg", "pdf"))
    for first, second in zip(written[:3], again[:3], strict=True):
        assert first.read_bytes() == second.read_bytes()
