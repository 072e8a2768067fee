"""The learning film: maps and strips follow the log, frame by frame, and the same log gives the same file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from bddn.encoder.learning import Learning
from bddn.errors import RunError
from bddn.film.film import Frames, draw_over, layer_colours, write_film
from bddn.film.strips import LayerStrip, LossStrip
from bddn.maps import colors
from film.learned import LAYERS, N_FRAMES, learned, read_gif, voxels

DPI = 40


@pytest.fixture(scope="module")
def frames() -> Frames:
    table = voxels()
    return Frames(learned(table), table, LAYERS, "Trial", DPI, "hue")


def _near(picture: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    """Which pixels of the maps have a colour."""
    maps = picture[: picture.shape[0] * 7 // 10].astype(float)
    return np.asarray(np.abs(maps - 255 * rgb).max(axis=-1) < 6)


def test_colours_appear_on_their_sides_as_confidence_grows(frames: Frames) -> None:
    blue, red = colors.layer_ramp(3)[[0, 2]]
    dark = colors.layer_rgb(np.array([0, 2]), [0.0, 0.0], 3, 0.8)
    first, last = frames[0], frames[-1]
    half = first.shape[1] // 2
    for picture, (left, right) in ((first, dark), (last, (blue, red))):
        at_left, at_right = _near(picture, left), _near(picture, right)
        assert at_left[:, :half].sum() > 150
        assert at_right[:, half:].sum() > 150
        assert not at_left[:, half:].any()
        assert not at_right[:, :half].any()
    assert not _near(first, blue).any()
    assert not _near(last, dark[0]).any()


def test_only_maps_and_strips_change(frames: Frames) -> None:
    assert len(frames) == N_FRAMES
    assert frames[0].shape[0] % 2 == frames[0].shape[1] % 2 == 0
    changed = (frames[1] != frames[N_FRAMES - 1]).any(axis=2)
    assert 0.01 < changed.mean() < 0.4
    assert not changed[: int(0.7 * DPI)].any()  # title
    np.testing.assert_array_equal(frames[1], frames[1])  # in any order
    assert len(frames[1:3]) == 2


def test_all_colours_are_near_those_of_a_gif(frames: Frames) -> None:
    few = frames.colours.astype(int)
    assert len(few) <= 255
    for k in (0, 2, N_FRAMES - 1):
        seen, n = np.unique(frames[k].reshape(-1, 3), axis=0, return_counts=True)
        apart = np.abs(seen.astype(int)[:, None] - few).max(axis=2).min(axis=1)
        assert n[apart <= 4].sum() > 0.97 * n.sum()  # all but edges
    assert (few == 255).all(axis=1).any()


@pytest.mark.parametrize(("n_layers", "n_hues"), [(1, 1), (2, 2), (12, 12), (27, 27), (200, 27)])
def test_a_gif_has_colours_of_all_layers_while_there_is_room(n_layers: int, n_hues: int) -> None:
    few = layer_colours(220, n_layers, 1.0, "hue").astype(int)
    assert 8 * n_hues <= len(few) <= 220
    for end in colors.layer_rgb(np.array([0, n_layers - 1]), [1.0, 1.0], n_layers, 1.0) * 255:
        assert np.abs(few - end).max(axis=1).min() <= 1
    assert len(np.unique(few, axis=0)) > 0.85 * len(few)


def test_ink_is_drawn_over_the_maps_by_its_opacity() -> None:
    paper = np.full((1, 3, 3), 200, np.float32)
    ink = np.array([[[0, 100, 255, 0], [0, 100, 255, 255], [0, 100, 255, 51]]], np.uint8)
    assert draw_over(paper, ink).tolist() == [[[200, 200, 200], [0, 100, 255], [160, 180, 211]]]


def test_the_same_log_gives_the_same_gif(tmp_path: Path) -> None:
    table = voxels()
    write_film(learned(table), table, LAYERS, tmp_path / "a.gif", "Trial", dpi=DPI)
    shuffled = table.sample(frac=1.0, random_state=1).reset_index(drop=True)
    write_film(learned(shuffled), shuffled, LAYERS, tmp_path / "b.gif", "Trial", dpi=DPI)
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    found, durations = read_gif(tmp_path / "a.gif")
    assert len(found) == N_FRAMES
    assert durations[0] == 100
    assert durations[-1] == 2100
    assert found[-1][1, 1].tolist() == [255, 255, 255]


def test_another_palette_gives_another_film(tmp_path: Path) -> None:
    table = voxels()
    write_film(learned(table), table, LAYERS, tmp_path / "hue.gif", "Trial", dpi=DPI)
    write_film(learned(table), table, LAYERS, tmp_path / "safe.gif", "Trial", dpi=DPI, palette="safe")
    assert (tmp_path / "hue.gif").read_bytes() != (tmp_path / "safe.gif").read_bytes()


def test_one_hemisphere_and_two_frames_are_enough(tmp_path: Path) -> None:
    table = voxels()
    table = table[table["hemi"] == "rh"].reset_index(drop=True)
    write_film(learned(table, 2), table, LAYERS, tmp_path / "a.gif", "Trial", dpi=DPI)
    assert len(read_gif(tmp_path / "a.gif")[0]) == 2


def test_a_run_without_voxels_to_show_is_refused(tmp_path: Path) -> None:
    table = voxels()
    table = table[table["vertex"] >= 10_242].reset_index(drop=True)
    with pytest.raises(RunError, match="4 voxels at other vertices"):
        write_film(learned(table), table, LAYERS, tmp_path / "a.gif", "Trial", dpi=DPI)
    assert not list(tmp_path.iterdir())


def _log() -> Learning:
    made = learned(voxels())
    return replace(made, layer=np.where(made.layer == 0, 1, 2).astype(np.uint8))


def test_the_loss_strip_counts_steps_and_draws_the_loss_so_far() -> None:
    strip = LossStrip(Figure(figsize=(10, 8)), _log())
    strip.show(3)
    line, dot, words = strip.moving
    assert words.get_text() == "step 9 of 16"  # type: ignore[attr-defined]
    assert line.get_xdata().tolist() == [0, 1, 2, 3]  # type: ignore[attr-defined]
    assert line.get_ydata()[1:].tolist() == _log().loss[1:4].tolist()  # type: ignore[attr-defined]
    assert dot.get_xdata().tolist() == [3]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("last", "ticks"), [(1, [0, 1]), (48, [0, 10, 20, 30, 40]), (4920, [0, 1000, 2000, 3000, 4000])]
)
def test_steps_below_the_loss_are_round_and_where_their_frames_are(last: int, ticks: list[int]) -> None:
    log = replace(learned(voxels(), 41), step=np.linspace(0, last, 41).round().astype(np.int32))
    figure = Figure()
    LossStrip(figure, log)
    axis = figure.axes[0].xaxis
    assert [text.get_text() for text in axis.get_ticklabels()] == [f"{step:,}" for step in ticks]
    np.testing.assert_allclose(axis.get_ticklocs(), np.interp(ticks, log.step, np.arange(41)))


def test_the_layer_strip_counts_voxels_by_their_confidence() -> None:
    made = _log()
    strip = LayerStrip(Figure(figsize=(10, 8)), made, LAYERS, 0.8, "hue")
    strip.show(0)
    assert [bar.get_height() for bar in strip.moving] == [0, 0, 0]  # type: ignore[attr-defined]
    strip.show(N_FRAMES - 1)
    early, middle, late = (bar.get_height() for bar in strip.moving)  # type: ignore[attr-defined]
    share = (made.layer[0] == 1).mean()
    assert (early, middle, late) == pytest.approx((0, 0.8 * share, 0.8 * (1 - share)))
    red = strip.moving[2].get_facecolor()[:3]  # type: ignore[attr-defined]
    assert red == pytest.approx(colors.layer_ramp(3)[2], abs=0.01)


def _greys(picture: np.ndarray) -> np.ndarray:
    """Which pixels of the maps have a grey of the hatching."""
    maps = picture[: picture.shape[0] * 7 // 10].astype(float) / 255
    low, high = colors.HATCHING
    return np.asarray((np.ptp(maps, axis=-1) < 0.02) & (maps[..., 0] > low - 0.01) & (maps[..., 0] < high + 0.01))


def test_voxels_without_evidence_are_hatched_in_every_frame_and_not_in_the_bars(frames: Frames) -> None:
    table = voxels()
    table["q_test"] = np.where(table["hemi"] == "lh", 0.5, 0.01)
    film = Frames(learned(table), table, LAYERS, "Trial", DPI, "hue")
    blue, red = colors.layer_ramp(3)[[0, 2]]
    half = film[0].shape[1] // 2
    for k in (0, N_FRAMES - 1):
        more = _greys(film[k]).astype(int) - _greys(frames[k])
        assert more[:, :half].sum() > 150
        assert abs(more[:, half:].sum()) < 10
    assert _near(frames[N_FRAMES - 1], blue).any()
    assert not _near(film[N_FRAMES - 1], blue).any()
    assert _near(film[N_FRAMES - 1], red)[:, half:].sum() > 150
    (strip,) = (strip for strip in film._strips if isinstance(strip, LayerStrip))
    strip.show(N_FRAMES - 1)
    bars: list[Any] = strip.moving
    assert [bar.get_height() for bar in bars] == pytest.approx([0, 0, 0.8])


def test_the_film_says_how_many_voxels_have_no_evidence_or_that_there_is_no_test(frames: Frames) -> None:
    table = voxels()
    table["q_test"] = np.where(table["hemi"] == "lh", 0.5, 0.01)
    film = Frames(learned(table), table, LAYERS, "Trial", DPI, "hue")

    def said(of: Frames) -> str:
        return " ".join(text.get_text() for text in of._canvas.figure.texts)

    assert "No test of evidence" in said(frames)
    assert f"{(table['hemi'] == 'lh').sum():,} of {len(table):,} voxels have no evidence" in said(film)
    none = Frames(
        learned(table), table.assign(q_test=0.5), LAYERS, "Trial", DPI, "hue", caution="The layer is no finding."
    )
    assert "No voxel has evidence" in said(none)
    assert "Voxels without evidence are hatched" in said(none)
    assert "The layer is no finding." in said(none)
    assert "highest weight" not in said(none)
