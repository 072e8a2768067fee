"""The style of all figures: the defaults of matplotlib, independent of the style of the user or the calling script."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import colormaps, rc_context, rcParamsDefault
from matplotlib.colors import Colormap
from matplotlib.font_manager import fontManager

N_COLOURS = 256
STYLE = {
    "svg.hashsalt": "bddn",  # so that ids in SVG files are the same in every drawing
    "pdf.fonttype": 42,  # so that other programs can edit the text
    "text.parse_math": False,  # so that a dollar sign in a file name is drawn as it is
}


FONT = "DejaVu Sans"  # comes with matplotlib, so that figures are the same on every machine
OTHER_FONTS = (
    *(f"{name} {where}" for name in ("Noto Sans CJK", "Source Han Sans") for where in ("JP", "SC", "TC", "KR", "HK")),
    *("Noto Sans JP", "Noto Sans SC", "Noto Sans TC", "Noto Sans KR"),
    *(
        "IPAexGothic",
        "IPAGothic",
        "TakaoGothic",
        "VL Gothic",
        "WenQuanYi Micro Hei",
        "WenQuanYi Zen Hei",
        "NanumGothic",
    ),
    *("Hiragino Sans", "PingFang SC", "Heiti TC", "Apple SD Gothic Neo"),
    *("Yu Gothic", "Meiryo", "MS Gothic", "Microsoft YaHei", "SimHei", "Malgun Gothic"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Arial Unicode MS"),
)
"""Fonts of Linux, macOS and Windows for letters that `FONT` lacks, as in ROI names in Japanese."""


@contextmanager
def own_style() -> Iterator[None]:
    """Draw and save in this style, and restore the caller's settings afterwards. It is a decorator, too.

    Letters that `FONT` lacks are drawn in one of `OTHER_FONTS` that is installed, or as boxes, without a warning.
    """
    defaults: dict[Any, Any] = {
        name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")
    }
    installed = set(fontManager.get_font_names())
    fonts = [FONT, *(name for name in OTHER_FONTS if name in installed)]
    with rc_context(defaults | STYLE | {"font.family": fonts}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from", UserWarning)
        yield


def colour_map(name: str) -> Colormap:
    """Return a matplotlib colormap with 256 colours, independent of the user's setting `image.lut`."""
    return colormaps[name].resampled(N_COLOURS)
