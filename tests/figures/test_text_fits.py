"""Words of a figure are within it, and do not lie on one another, however long names and paths are."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

from bddn.figures.single import draw
from bddn.maps.kinds import layer_map
from bddn.maps.legends import split_names
from bddn.maps.map import Map

STAGES = [f"stages.{s}.residual_blocks.{b}.norm_of_{'abc'[b]}_out" for s in range(4) for b in range(3)]
NETWORKS = {
    "one layer": ["only"],
    "deep": [f"encoder.blocks.{i}.mlp_out" for i in range(60)],
    "long names": [f"visual_backbone_with_a_long_name.module.{name}" for name in STAGES],
    "nothing in common": [f"{'abcdefghijkl'[i]}{i}_a_name_of_its_own_{i}" for i in range(12)],
}


def _voxels(layers: list[str]) -> pd.DataFrame:
    n = 40
    chosen = np.arange(n) % len(layers)
    weights = {f"weight_{name}": (chosen == k).astype(float) for k, name in enumerate(layers)}
    return pd.DataFrame(
        {
            "hemi": ["lh", "rh"] * (n // 2),
            "vertex": np.arange(n),
            "roi": "",
            "layer_argmax": [layers[k] for k in chosen],
            "depth": 0.5,
            "confidence": 0.8,
            "p_test": 0.5,
            "q_test": np.where(np.arange(n) % 3, 0.001, 0.9),
            **weights,
        }
    )


def _with(kind: Map, caution: str) -> Map:
    return Map(**{**vars(kind), "caution": caution})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("points", [False, True])
def test_words_of_a_map_are_apart(network: str, points: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []

    def keep(figure: Figure, *_: object) -> list[Path]:
        figures.append(figure)
        return []

    monkeypatch.setattr("bddn.figures.single.save", keep)
    layers = NETWORKS[network]
    voxels = _voxels(layers)
    caution = "The settings fixed the layer: all layers have equal weights. The fit did not find it."
    kind = _with(layer_map(voxels, layers), caution)
    if points:
        at = np.random.default_rng(0).normal(0, 30, (len(voxels), 3))
        voxels = voxels.assign(vertex=-1, voxel=[f"e{i}" for i in range(len(voxels))])
        voxels[["x_mm", "y_mm", "z_mm"]] = at
    title = f"table:/{'home/a_long_name/' * 6}data.yaml through {layers[0]}"
    draw(voxels, [kind], tmp_path, title, dpi=90)
    (figure,) = figures
    figure.canvas.draw()
    own = [text for text in figure.texts if text.get_text()]
    shared = [text for text in figure.findobj(Annotation) if text.get_text()]
    names = [label for ax in figure.axes if ax.axison for label in ax.get_xticklabels() if label.get_text()]
    heads = [ax.title for ax in figure.axes if ax.title.get_text()]
    all_of: list[Text] = [*own, *shared, *names, *heads]
    boxes = {text: text.get_window_extent() for text in all_of}
    for text, box in boxes.items():
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.width, text.get_text()
        assert box.y0 >= 0, text.get_text()
    pairs = [(a, b) for a, b in combinations(all_of, 2) if a in own or b in own]
    over = [(a.get_text(), b.get_text()) for a, b in pairs if boxes[a].shrunk(0.98, 0.7).overlaps(boxes[b])]
    assert over == []


def test_what_all_layers_end_with_is_said_once() -> None:
    assert split_names(NETWORKS["deep"]) == ("encoder.blocks.*.mlp_out", [str(i) for i in range(60)])
    assert split_names(["0.attn.proj", "1.attn.proj"]) == ("*.attn.proj", ["0", "1"])
    assert split_names(["x.out", ".out"]) == ("", ["x.out", ".out"])
