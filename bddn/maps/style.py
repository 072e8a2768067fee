"""The style of all drawings: matplotlib's own defaults, whatever style the user or the calling script has set."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from matplotlib import colormaps, rc_context, rcParamsDefault
from matplotlib.colors import Colormap

N_COLOURS = 256
OURS = {
    "svg.hashsalt": "bddn",  # names of parts that do not change from one drawing to the next
    "pdf.fonttype": 42,  # letters that other programs can edit
    "text.parse_math": False,  # a dollar in a file's name is a dollar
}


@contextmanager
def own_style() -> Iterator[None]:
    """Draw and save in this style; the caller's settings are back afterwards. It is a decorator, too."""
    defaults: dict[Any, Any] = {
        name: value for name, value in rcParamsDefault.items() if not name.startswith("backend")
    }
    with rc_context(defaults | OURS):
        yield


def colour_map(name: str) -> Colormap:
    """A colour map of matplotlib with 256 colours; a user's setting `image.lut` would give it another number."""
    return colormaps[name].resampled(N_COLOURS)
