"""Parts of a selection that a fit did not find, in words: maps and slopes of them show settings, or a failed fit."""

from collections.abc import Iterable

from bddn.run.folder import Run

FIXED = {
    "layer": ("layer", "all layers have equal weights"),
    "place": ("place", "every place is the centre of the image"),
    "local": ("scale", "only local tokens are read"),
    "scale": ("scale", "local and global token have equal weights"),
}
"""For each value of `fixed` in the settings, the part of the selection, and what it then is."""
SATURATED = {"place x": "place", "place y": "place"}  # other names of `saturated_selectors` are those of parts


def fixed_part(run: Run) -> str | None:
    """Return the part that the settings of the fit fixed: 'layer', 'place' or 'scale'; None if all were learned."""
    found = FIXED.get(run.about.get("fit", {}).get("fixed"))
    return None if found is None else found[0]


def not_found(run: Run) -> dict[str, str]:
    """Return for each of 'layer', 'place' and 'scale' that the fit did not find a sentence that says why."""
    dead = run.metrics.get("saturated_selectors") or ()
    said = {
        part: f"The selector of the {part} is saturated, so that its values are meaningless."
        for part in (SATURATED.get(name, name) for name in dead)
    }
    return said | not_learned(run)


def not_learned(run: Run) -> dict[str, str]:
    """Return the same for the parts that no fit with these settings and layers could find: they are equal in all."""
    said = {}
    if (part := fixed_part(run)) is not None:
        said[part] = f"The settings fixed the {part}: {FIXED[run.about['fit']['fixed']][1]}. The fit did not find it."
    if len(run.layers) == 1:
        said["layer"] = "The network was fitted with one layer, which all voxels select."
    return said


def no_layer(runs: Iterable[Run]) -> str | None:
    """Return the sentence of the first run whose layers could not be learned, see `not_learned`; None if all could."""
    return next((said for run in runs if (said := not_learned(run).get("layer"))), None)
