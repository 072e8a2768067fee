"""The page of a diagnosis: one file without any request, with all claims, their numbers, intervals and sources."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bddn import __version__
from bddn.evaluation.diagnosis.claims import Claim, number
from bddn.evaluation.diagnosis.diagnosis import Candidate, Diagnosis
from bddn.evaluation.forgetting.drift import ALARM, Drift, Test
from bddn.figures.contrasted import contrasted
from bddn.figures.grid import CortexPanel, panel_pngs
from bddn.files.atomic import replace_file
from bddn.identity import Identity
from bddn.maps import ramps
from bddn.maps.kinds import STRENGTHS, Strength, layer_map, sharpness
from bddn.report.charts import Chart, depth_chart
from bddn.report.layer_charts import LayerChart, layer_chart, scatter
from bddn.report.page import policy_hash, templates, web_file
from bddn.report.tables import Cell, Table
from bddn.run.inputs import environment
from bddn.stats.evidence import FDR, evident
from bddn.stats.layer_order import LEAST_APART

PAGE = "diagnosis.html"
_START = 'Tables.start();\ndocument.body.dataset.ready = "";\n'
_DIGITS = {"brain score": 3, "measured forgetting": 3, "expected forgetting": 3, "voxels with evidence": 2}
_COUNTS = {"layers not selected", "layers out of order", "layers alike", "fits not converged", "saturated selectors"}
_SHOWN = 3  # commands of one kind


@dataclass(frozen=True)
class Said:
    """A claim as text: its sentence, number with interval, what the interval is, source and limits."""

    sentence: str
    number: str
    interval: str
    source: str
    limits: str
    doubt: bool


@dataclass(frozen=True)
class Network:
    """A network on the page."""

    label: str
    title: str
    summary: str
    image: str
    words: str
    layers: LayerChart
    chart: Chart | None
    organised: list[Said]
    fragile: list[Said]


@dataclass
class Missing:
    """Something that is not known of some networks."""

    what: str
    why: str
    networks: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


def write_page(found: Diagnosis, path: Path) -> Path:
    """Write the page of a diagnosis; an existing file is replaced. The same diagnosis gives the same bytes."""
    style = web_file("page.css") + web_file("diagnosis.css")
    script = "\n".join([web_file("dom.js"), web_file("tables.js"), _START])
    policy = (
        f"default-src 'none'; script-src {policy_hash(script)}; style-src {policy_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    every, slopes = found.candidates, {one.name: one.slope for one in found.candidates if one.read.hierarchy}
    text = (
        templates()
        .get_template("diagnosis.html")
        .render(
            policy=policy,
            style=style,
            script=script,
            title=f"Diagnosis of {len(every)} networks" if len(every) > 1 else f"Diagnosis of {every[0].name}",
            data=_data(every),
            networks=_networks(every, found),
            table=_table(every),
            notes=found.notes,
            drift=None if found.drift is None else _drift(found.drift),
            evidence=[
                {
                    "name": "Published networks" if one.name == "published" else one.name,
                    "claim": said(claim),
                    "scatter": scatter(one.networks, slopes),
                    "n": len(one.networks),
                }
                for one, claim in zip(found.evidence, found.associations, strict=True)
            ],
            missing=_missing(every),
            ideal=", ".join(f"{roi} {depth:g}" for roi, depth in found.ideal.items()),
            least_apart=LEAST_APART,
            fdr=FDR,
            runs=_runs(every),
            versions=", ".join(f"{name} {value}" for name, value in environment("cpu").items()),
            bddn=__version__,
        )
    )
    replace_file(path, lambda aside: aside.write_bytes(text.encode("utf-8", "backslashreplace")))
    return path


def said(claim: Claim) -> Said:
    """Return a claim as text."""
    digits = 0 if claim.name in _COUNTS else _DIGITS.get(claim.name, 2)
    value = "none" if claim.value is None else number(claim.value, digits)
    if claim.name.startswith("slope against") and claim.value is not None:
        value = f"p = {claim.value:.2g}"
    if claim.low is not None and claim.high is not None:
        value += f" [{number(claim.low, digits)}, {number(claim.high, digits)}]"
    return Said(claim.sentence, value, claim.interval, claim.source, claim.limits, claim.doubt)


def _networks(every: Sequence[Candidate], found: Diagnosis) -> list[Network]:
    strength: Strength = "confidence" if len({len(one.read.layers) for one in every}) == 1 else "sharpness in depth"
    top = ramps.confidence_top(np.concatenate([_strength(one, strength)[evident(one.read.voxels)] for one in every]))
    panels = [
        CortexPanel(one.name, layer_map(one.read.voxels, one.read.layers, top, "hue", strength), one.read.voxels)
        for one in every
    ]
    how = f"brightness is the {strength}, {STRENGTHS[strength]}"
    return [
        Network(
            one.name,
            str(one.read.runs[0].metrics["title"]),
            one.summary,
            _png(image),
            how,
            layer_chart(one.name, one.read.voxels, one.read.layers, one.read.order, found.ideal),
            _chart(one),
            [said(claim) for claim in (*one.organised, *one.trusted)],
            [said(claim) for claim in one.fragile],
        )
        for one, image in zip(every, panel_pngs(panels), strict=True)
    ]


def _chart(one: Candidate) -> Chart | None:
    found = one.read.hierarchy
    if found is None:
        return None
    return depth_chart(
        one.name, [(roi["roi"], roi["ideal"], roi["depth"]) for roi in found.rois], found.slope, found.b0
    )


def _table(every: Sequence[Candidate]) -> Table:
    heads = ["Network", "Slope", "from", "to", "Corrected", "b0", "b1", "Brain score R²", "from", "to"]
    heads += ["Evident voxels", "Layers", "Not selected", "Out of order", "Fits"]
    rows: list[list[Cell]] = []
    for one in every:
        slope, corrected, score = (one.claim(name) for name in ("slope", "corrected slope", "brain score"))
        evidence, wrong = (
            one.claim("voxels with evidence"),
            None if one.read.order is None else one.read.order.misplaced,
        )
        absent = one.claim("layers not selected")
        rows.append(
            [
                one.name,
                *((slope.value, slope.low, slope.high) if slope else (None, None, None)),
                corrected.value if corrected else None,
                *(claim.value if (claim := one.claim(name)) else None for name in ("b0", "b1")),
                *((score.value, score.low, score.high) if score else (None, None, None)),
                evidence.value if evidence else None,
                len(one.read.layers),
                None if absent is None or absent.value is None else int(absent.value),
                None if wrong is None else len(wrong),
                len(one.read.fits),
            ]
        )
    known = [k for k in range(len(heads)) if any(row[k] is not None for row in rows)]
    return Table("Networks, by slope", [heads[k] for k in known], [[row[k] for k in known] for row in rows])


def _missing(every: Sequence[Candidate]) -> list[Missing]:
    """Return what is not known, with the networks and the commands."""
    found: dict[tuple[str, str], Missing] = {}
    for one in every:
        for unknown in one.unknown:
            known = found.setdefault((unknown.what, unknown.why), Missing(unknown.what, unknown.why))
            known.networks.append(one.name)
            if unknown.command not in known.commands:
                known.commands.append(unknown.command)
    for known in found.values():
        if len(known.networks) == len(every) > 1:
            known.networks = ["all networks"]
        if (more := len(known.commands) - _SHOWN) > 0:
            known.commands = [*known.commands[:_SHOWN], f"… and {more} more"]
    return list(found.values())


def _drift(found: Drift) -> dict[str, Any]:
    table = found.voxels.assign(first="parent", second="run", depth_low=float("nan"), depth_high=float("nan"))
    (panels,) = contrasted(table, "").rows
    images = panel_pngs([panel for panel in panels if isinstance(panel, CortexPanel)], legends=True)
    names = {
        "brain score": "Mean brain score R², run minus parent",
        "hierarchy slope": "Hierarchy slope, run minus parent",
    }
    names["depth"] = "Movement along depth, times that between seeds"
    about = found.to_dict()
    return {
        "verdict": found.verdict,
        "is_drift": found.is_drift,
        "parent": found.parent,
        "run": found.run,
        "seeds": found.seeds,
        "alarm": f"{ALARM:.0%}",
        "n_images": about["n_images"],
        "tests": [(names[test.name], *_test(test), test.how, test.is_drift) for test in found.tests],
        "maps": [
            (
                _png(images[0]),
                "Difference of R²",
                f"Run minus parent. {about['n_worse']:,} of {about['n_voxels']:,} voxels are predicted worse and "
                f"{about['n_better']:,} better (false discovery rate {FDR:.0%}, paired over {about['n_images']} test "
                "images); the others are hatched.",
            ),
            (
                _png(images[1]),
                "Difference of depth",
                f"Run minus parent, of {about['n_evident']:,} voxels with evidence in all runs; others are hatched.",
            ),
        ],
    }


def _test(test: Test) -> tuple[str, str]:
    """Return the number of a test with its interval, and its p-value."""
    if test.change is None or test.low is None or test.high is None or test.p_corrected is None:
        return "–", "–"
    digits = 4 if test.name == "brain score" else 2
    ends = f"[{number(test.low, digits)}, {number(test.high, digits)}]"
    return (
        f"{number(test.change, digits)} {ends}",
        f"{test.p_corrected:.4f}" if test.p_corrected >= 1e-4 else "< 0.0001",
    )


def _runs(every: Sequence[Candidate]) -> list[tuple[str, str, str, str]]:
    """Return network, folder, and digests of run and cache."""
    return [
        (one.name, str(run.folder), Identity(run.about).digest()[:16], str(run.about["cache"]["digest"])[:16])
        for one in every
        for run in one.read.runs
    ]


def _data(every: Sequence[Candidate]) -> str:
    titles = dict.fromkeys(str(one.read.runs[0].metrics["title"]).rpartition(" through ")[0] for one in every)
    return ", ".join(titles)


def _strength(one: Candidate, strength: Strength) -> npt.NDArray[np.float64]:
    if strength == "confidence":
        return one.read.voxels["confidence"].to_numpy("float64")
    return sharpness(one.read.voxels, one.read.layers)


def _png(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"
