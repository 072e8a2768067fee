"""What the fits of one network say about its organisation: slope, tests, both ends, and single layers."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bddn.evaluation.calibration import calibration
from bddn.evaluation.diagnosis.claims import BLOCKS, Claim, Read, listed, number, share_of
from bddn.run.folder import METRICS, VOXELS
from bddn.stats.audit import ALIKE
from bddn.stats.evidence import evident
from bddn.stats.hierarchy import Line
from bddn.stats.layer_order import LEAST_APART, LEVEL, LayerOrder, Misplaced

_INTERVALS = {
    "blocks": (
        "blocks of cortex",
        "Fits shrink depth to the middle, so the true slope is probably larger. The interval is about other cortex of "
        "the same areas, not about other images, seeds or brains.",
    ),
    "images": ("bootstraps of the training images", "It is about fits to other training images, with the same seed."),
    "seeds": ("seeds", "It is about other fits to the same data, not about other brains."),
}
"""What an interval of the slope is over, and what it cannot tell."""
_TESTS = {
    "layers": (
        "other orders of these layers",
        "It tests the order of the network, not the cortex: neighbouring layers are alike, and a shuffled order tears "
        "them apart.",
    ),
    "maps": (
        "maps that are as smooth but have nothing to do with ROIs",
        "A small share says that depth follows the ROIs, not that the network works like the brain.",
    ),
}
"""What the slope is tested against, and what the test cannot tell."""


def organisation(read: Read) -> list[Claim]:
    """Return the claims on how the layers of a network lie on the hierarchy of ROIs."""
    return [*_slope(read), *_ends(read), *_layers(read)]


def _slope(read: Read) -> Iterator[Claim]:
    found = read.hierarchy
    if found is None:
        return
    rois, by = list(found.ideal), {one.over: one for one in found.intervals}
    for over, (what, limits) in _INTERVALS.items():
        one = by.get(over)
        if one is None and over != "blocks":
            continue
        low, high = (float("nan"), float("nan")) if one is None else (one.low, one.high)
        said = "It is not sure that depth follows the cortex"
        if low > 0 or high < 0:
            said = f"{'Later' if low > 0 else 'Earlier'} layers are selected along the cortex"
        yield Claim(
            "slope" if one is None or over == "blocks" else f"slope over {over}",
            f"{said} from {rois[0]} to {rois[-1]}: the slope of depth is {number(found.slope)}.",
            found.slope,
            None if one is None else low,
            None if one is None else high,
            "none: there are too few blocks of cortex" if one is None else f"95 %, over {one.n} {what}",
            f"{read.file(VOXELS)}; {read.command} prints it",
            limits,
            not low > 0,
        )
    if found.calibration is not None:
        corrected, curve = found.calibration["corrected"], found.calibration["curve"]
        low, high = corrected["intervals"]["90"]
        yield Claim(
            "corrected slope",
            f"Corrected for what such fits shrink, the slope is {number(corrected['slope'])}: they recover "
            f"{curve['gain']:.2f} of a planted slope.",
            corrected["slope"],
            low,
            high,
            f"90 %, from {found.calibration['n_brains']} planted brains",
            f"{read.runs[0].folder / calibration.FOLDER / calibration.NUMBERS}; 'bddn calibrate' wrote it",
            "Planted brains read the network as the model assumes. A real brain may not.",
            low <= 0,
        )
    for name, (what, limits) in _TESTS.items():
        null = found.tests[name]
        yield Claim(
            f"slope against other {name}",
            f"Of {null.n:,} {what}, {share_of(null.p)} have at least this slope.",
            null.p,
            None,
            None,
            f"none: a p-value; 95 % of their slopes lie between {number(null.low)} and {number(null.high)}",
            f"{read.file(VOXELS)}; {read.command} prints it",
            limits,
            null.p > LEVEL,
        )


def _ends(read: Read) -> Iterator[Claim]:
    """Yield b0 and b1 in words."""
    found, line = read.hierarchy, Line.of(read.voxels, read.ideal)
    if found is None or line is None:
        return
    depth = read.voxels["depth"].to_numpy(np.float64)[line.row]
    ordered = sorted(found.ideal, key=lambda roi: found.ideal[roi])
    early = (
        "early layers are selected",
        "middle layers are selected instead of early ones",
        "early layers are not selected",
    )
    late = "late layers are not selected", "middle layers are selected instead of late ones", "late layers are selected"
    b0 = f"At the start of the hierarchy ({ordered[0]}), {early[_third(found.b0)]}: b0 is {number(found.b0)}, where 0 "
    b1 = f"At the end of the hierarchy ({ordered[-1]}), {late[_third(found.b1)]}: b1 is {number(found.b1)}, where 1 "
    for name, said, value, ends, doubt in (
        ("b0", f"{b0}would be the first layer.", found.b0, line.jackknife(depth, "b0"), _third(found.b0) > 0),
        ("b1", f"{b1}would be the last layer.", found.b1, line.jackknife(depth, "b1"), _third(found.b1) < 2),
    ):
        low, high = ends or (None, None)
        yield Claim(
            name,
            said,
            value,
            low,
            high,
            BLOCKS if ends else "none: there are too few blocks of cortex",
            f"{read.file(VOXELS)}; {read.command} prints it",
            "The straight line fits all ROIs together. Fits shrink depth to the middle, which raises b0 and lowers b1.",
            doubt,
        )


def _third(depth: float) -> int:
    """Return whether a depth is in the first (0), second or last (2) third of the layers."""
    return int(np.searchsorted((1 / 3, 2 / 3), depth))


def _layers(read: Read) -> Iterator[Claim]:
    """Yield what is known of single layers: not selected, out of order, alike."""
    yield _unselected(read)
    if read.order is not None:
        yield from _order(read, read.order)
    audit = read.runs[0].metrics.get("layer_audit")
    if audit is not None:
        groups: list[list[str]] = audit["alike"]
        n = sum(map(len, groups))
        largest = max((value for value in audit["similarity"].values() if value is not None), default=None)
        yield Claim(
            "layers alike",
            f"{'; '.join(listed(group) for group in groups)} carry the same information (linear CKA ≥ {ALIKE:g}). "
            "Which of them a voxel selects depends on the seed."
            if groups
            else f"No two of the {len(read.layers)} layers carry the same information (linear CKA ≥ {ALIKE:g})"
            + ("" if largest is None else f"; the largest of two neighbours is {largest:.3f}")
            + ".",
            n,
            None,
            None,
            f"none: a number of layers, by the tokens of {audit['n_images']} images",
            f"{read.file(METRICS)}, layer_audit",
            "Layers can differ in ways that linear CKA does not see, and be alike on these images only.",
            bool(groups),
        )


def _unselected(read: Read) -> Claim:
    """Return the claim on layers that no voxel with evidence selects."""

    def missing(voxels: pd.DataFrame) -> list[str]:
        chosen = set(voxels.loc[evident(voxels), "layer_argmax"])
        return [layer for layer in read.layers if layer not in chosen]

    names, n_layers = missing(read.voxels), len(read.layers)
    counts = [len(missing(fit.voxels)) for fit in read.fits]
    several = len(counts) > 1
    which = "is selected most by no voxel" if len(names) == 1 else "are selected most by no voxel"
    return Claim(
        "layers not selected",
        f"{len(names)} of {n_layers} layers {which} with evidence: {listed(names)}."
        if names
        else f"Each of the {n_layers} layers is selected most by a voxel with evidence.",
        len(names),
        min(counts) if several else None,
        max(counts) if several else None,
        f"range over {len(counts)} fits" if several else "none: a count of layers in one fit",
        f"{read.file(VOXELS)}, layer_argmax",
        "A layer may still have a smaller weight in many voxels, and another seed may select it."
        if not several
        else "A layer may still have a smaller weight in many voxels.",
        bool(names),
    )


def _order(read: Read, order: LayerOrder) -> Iterator[Claim]:
    """Yield a claim for each layer out of order, or one that there is none."""
    source = f"{read.file(VOXELS)}, the layer weights by ROI"
    limits = (
        "The place of a layer depends on the ROIs and their ideal depths. Soft selections draw all places to the "
        f"middle, and differences below {LEAST_APART:g} of the hierarchy are not called another order."
    )
    placed = int(np.isfinite(order.place).sum())
    names = [read.layers[one.layer] for one in order.misplaced]
    if len(names) != 1:
        said = f"No layer is out of order, of the {placed} that are selected enough to have a place."
        if names:
            said = f"{len(names)} of {placed} layers are out of order: {listed(names)}."
        why = f"none: a count; each pair is tested, all together at 5 %, {BLOCKS.partition(', ')[2]}"
        yield Claim("layers out of order", said, len(names), None, None, why, source, limits, bool(names))
    for one in order.misplaced:
        place, low, high = (float(values[one.layer]) for values in (order.place, order.low, order.high))
        said = misplaced_in_words(one, read.layers, order)
        yield Claim("misplaced layer", said, place, low, high, BLOCKS, source, limits, True)


def misplaced_in_words(one: Misplaced, layers: Sequence[str], order: LayerOrder) -> str:
    """Return a sentence on a layer that is out of order."""
    position = {0: "the first layer", len(layers) - 1: "the last layer"}.get(
        one.layer, f"layer {one.layer + 1} of {len(layers)}"
    )
    wrong = []
    if one.before:
        wrong.append(f"it lies in earlier cortex than {listed([layers[k] for k in one.before])}")
    if one.after:
        wrong.append(f"it lies in later cortex than {listed([layers[k] for k in one.after])}")
    return (
        f"{layers[one.layer]}, {position}, is out of order: {order.roi[one.layer]} selects it most, and "
        f"{' and '.join(wrong)}. "
        f"Its place on the hierarchy is {number(float(order.place[one.layer]))}."
    )
