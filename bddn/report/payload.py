"""The data of the page's script: surfaces, maps with their colours, the voxels of every run, and their responses."""

from collections.abc import Sequence
from typing import Any

from bddn.maps.colors import NO_EVIDENCE
from bddn.maps.legends import split_names
from bddn.report.anatomy import cortex
from bddn.report.choices import choices
from bddn.report.held_out_part import held_out_part
from bddn.report.learning_film import film
from bddn.report.packing import script_json
from bddn.report.shown import Shown
from bddn.report.voxels import drawn_rows, drawn_voxels, similar_arrays, voxel_arrays
from bddn.text import both_ends

MAX_BYTES = 8_000_000
"""Size limit of a page of one run without its responses to test images; films are shortened to fit it."""
_FILM_BYTES = 1_600_000
_NAME_CHARS = 12  # of a layer in legends and charts; its title and the tables have the whole name
_REST_BYTES = 200_000  # style, script, tables and text
_BASE64 = 4 / 3


def contents(runs: Sequence[Shown], n_library: int) -> str:
    """Return the data of a page, as JSON for a script element.

    Parameters
    ----------
    runs : sequence of Shown
    n_library : int
        Number of characters of the drawing library, which reduces the space for films.
    """
    made = [_run(shown) for shown in runs]
    page = {
        "cortex": cortex(),
        "noEvidence": [round(255 * NO_EVIDENCE)] * 3,
        "maps": choices([shown.run.voxels for shown in runs], [shown.run.layers for shown in runs]),
        "runs": made,
    }
    rest = n_library + _REST_BYTES + len(script_json(page))
    room = min((MAX_BYTES - rest) / _BASE64, _FILM_BYTES) if len(runs) == 1 else _FILM_BYTES / len(runs)
    for shown, run in zip(runs, made, strict=True):
        if shown.learning is not None:
            run["film"] = film(shown.learning, drawn_rows(shown.run.voxels), max(int(room), 0))
    return script_json({**page, **held_out_part(runs)})


def _run(shown: Shown) -> dict[str, Any]:
    layers = shown.run.layers
    shared, own = split_names(layers)
    return {
        "title": shown.title,
        "label": shown.label,
        "layers": list(layers),
        "own": [both_ends(name, _NAME_CHARS) for name in own],
        "shared": shared,
        "total": len(shown.run.voxels),
        "voxels": voxel_arrays(drawn_voxels(shown.run.voxels), layers),
        "similar": similar_arrays(shown.channels),
        "film": None,
    }
