"""The style of all figures: the defaults of matplotlib, independent of the style of the user or the calling script."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import colormaps, rc_context, rcParamsDefault
from matplotlib.colors import Colormap

N_COLOURS = 256
STYLE = {
    "svg.hashsalt": "bddn",  # so that ids in SVG files are the same in every drawing
    "pdf.fonttype": 42,  # so that other programs can edit the text
    "text.parse_math": False,  # so that a dollar sign in a file name is drawn as it is
}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw and save in this style, and restore the caller's settings afterwards. It is a decorator, too."""
    defaults: dict[Any, Any] = {
        name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")
    }
    with rc_context(defaults | STYLE):
        yield


def colour_map(name: str) -> Colormap:
    """Return a matplotlib colormap with 256 colours, independent of the user's setting `image.lut`."""
    return colormaps[name].resampled(N_COLOURS)
