"""Letters that matplotlib's own font lacks are drawn in an installed font, or as boxes, without a warning."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager
from matplotlib.image import imread
from typer.testing import CliRunner

from bddn.cli import app
from bddn.run import Run

NAME = "\u8996\u899a"  # a visual area in Japanese


def _font(path: Path, family: str) -> Path:
    """Write a font in which the letters of `NAME` are full squares."""
    builder, names = FontBuilder(1000), [".notdef", *(f"uni{ord(letter):X}" for letter in NAME)]
    pen = TTGlyphPen(None)
    for start, *others in (((0, 0), (0, 900), (900, 900), (900, 0)),):
        pen.moveTo(start)
        for point in others:
            pen.lineTo(point)
        pen.closePath()
    square = pen.glyph()
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): f"uni{ord(letter):X}" for letter in NAME})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_names_of_rois_are_drawn_in_a_font_that_has_their_letters(
    quick_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(quick_run.folder, tmp_path / "run"))
    table = pd.read_parquet(run / "voxels.parquet")
    table.assign(roi=np.where(table["roi"] == "", "", NAME)).to_parquet(run / "voxels.parquet")
    monkeypatch.setattr(fontManager, "ttflist", [font for font in fontManager.ttflist if "CJK" not in font.name])

    def drawn() -> np.ndarray:
        words = ["maps", str(run), "--dpi", "80", "--columns", "depth", "--format", "png,pdf,svg"]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "Glyph" not in done.output
        return np.asarray(imread(run / "maps/depth.png"))

    boxes = drawn()
    fontManager.addfont(_font(tmp_path / "font.ttf", "Noto Sans CJK JP"))
    letters = drawn()
    assert letters.shape == boxes.shape
    changed = (letters != boxes).any(axis=2)
    assert 0 < changed.mean() < 0.01
    assert letters[changed][:, :3].mean() < boxes[changed][:, :3].mean()  # squares, where frames of boxes were
