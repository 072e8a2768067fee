"""A diagnosis of candidate backbones: how organised each is, how fragile, and what is not known.

Runs that differ only in their seeds are fits of one network on one brain. `diagnosis.json` has all claims.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bddn.errors import DataError
from bddn.evaluation.contrast.rivals import SAME_DATA, cache_name, check_different, grouped, names_of
from bddn.evaluation.diagnosis.claims import Claim, Read, listed, number
from bddn.evaluation.diagnosis.organisation import organisation
from bddn.evaluation.diagnosis.trust import trust
from bddn.evaluation.diagnosis.unknowns import Unknown, unknowns
from bddn.evaluation.forgetting.drift import Drift
from bddn.evaluation.forgetting.expected import (
    Evidence,
    Measured,
    association_claim,
    expectations,
    of_experiment,
    published,
    read_measured,
)
from bddn.evaluation.slopes import hierarchy_of, shared_by_refits, voxels_of
from bddn.files import atomic
from bddn.identity import Identity
from bddn.machine.settings import own_settings
from bddn.run.folder import ENSEMBLE, Run, without_nan
from bddn.run.inputs import environment
from bddn.run.not_found import not_found
from bddn.stats import layer_order
from bddn.stats.association import LEVEL
from bddn.stats.hierarchy import Line
from bddn.stats.hierarchy import in_words as slope_in_words

NUMBERS = "diagnosis.json"
LEAST_SLOPE = 0.1  # of which a network is called ordered; 1 is ideal


@dataclass(frozen=True)
class Candidate:
    """A network, and what is known of it.

    Attributes
    ----------
    name : str
    read : Read
    summary : str
        The diagnosis in one sentence.
    organised, trusted, fragile : list of Claim
    unknown : list of Unknown
    """

    name: str
    read: Read
    summary: str
    organised: list[Claim]
    trusted: list[Claim]
    fragile: list[Claim]
    unknown: list[Unknown]

    @property
    def slope(self) -> float:
        """The hierarchy slope; -inf if there is none."""
        return -np.inf if self.read.hierarchy is None else self.read.hierarchy.slope

    def claim(self, name: str) -> Claim | None:
        """Return the first claim of this name."""
        every = (*self.organised, *self.trusted, *self.fragile)
        return next((claim for claim in every if claim.name == name), None)


@dataclass(frozen=True)
class Diagnosis:
    """Some networks, those with the largest slope first.

    Attributes
    ----------
    candidates : list of Candidate
    ideal : dict of str to float
        Ideal depth of each ROI.
    evidence : list of Evidence
        What expected forgetting rests on, beginning with the published networks.
    associations : list of Claim
        Of each evidence.
    notes : list of str
        What limits the comparison of these networks.
    drift : Drift or None
        The comparison of a run with its parent.
    """

    candidates: list[Candidate]
    ideal: dict[str, float]
    evidence: list[Evidence]
    associations: list[Claim]
    notes: list[str]
    drift: Drift | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `diagnosis.json`."""
        return {
            "drift": None if self.drift is None else self.drift.to_dict(),
            "candidates": [_about(one) for one in self.candidates],
            "evidence": [
                {
                    "name": one.name,
                    "source": one.source,
                    "networks": one.networks.to_dict("records"),
                    "association": asdict(claim),
                }
                for one, claim in zip(self.evidence, self.associations, strict=True)
            ],
            "notes": self.notes,
            "ideal": self.ideal,
            "settings": {
                "level_of_evidence": LEVEL,
                "level_of_layer_order": layer_order.LEVEL,
                "least_distance_of_layers": layer_order.LEAST_APART,
                "least_share_of_a_layer": layer_order.LEAST_SHARE,
            },
            "versions": environment("cpu"),
        }


@own_settings()
def diagnose_runs(runs: Sequence[Run], ideal: Mapping[str, float], evidence: Sequence[Path] = ()) -> Diagnosis:
    """Diagnose networks by their runs.

    Parameters
    ----------
    runs : sequence of Run
    ideal : mapping of str to float
        Ideal depth of each ROI.
    evidence : sequence of Path
        Tables of the user's own experiment (`.csv`), and `forgetting.json` of networks among the runs.

    Raises
    ------
    BddnError
        If a run is given twice, or a file of evidence is damaged or concerns none of the runs.
    """
    check_different(runs)
    known = [published(), *(of_experiment(path) for path in evidence if path.suffix.lower() == ".csv")]
    measured = [read_measured(path) for path in evidence if path.suffix.lower() != ".csv"]
    for one in measured:
        if one.cache_digest not in {run.about["cache"]["digest"] for run in runs}:
            raise DataError(
                one.path,
                expected="the forgetting of a network among the runs",
                got=f"that of another one, {one.numbers['runs']['before']['folder']}",
                fix="Give a run of this network too, or leave the file out.",
            )
    groups = grouped(runs, lambda run: f"{shared_by_refits(run).digest()} {ENSEMBLE in run.about}")
    names = names_of(groups, cache_name)
    found = [
        _candidate(name, own, ideal, known, [one for one in measured if one.cache_digest == _cache(own)])
        for name, own in zip(names, groups, strict=True)
    ]
    return Diagnosis(
        sorted(found, key=lambda one: -one.slope),
        dict(ideal),
        known,
        [association_claim(one) for one in known],
        _notes(groups),
    )


def write_diagnosis(found: Diagnosis, out: Path) -> None:
    """Write `diagnosis.json` into a folder; an existing file is replaced."""
    atomic.write_json(out / NUMBERS, without_nan(found.to_dict()))


def _candidate(
    name: str,
    runs: Sequence[Run],
    ideal: Mapping[str, float],
    evidence: Sequence[Evidence],
    measured: Sequence[Measured],
) -> Candidate:
    voxels = voxels_of(runs)
    hierarchy = None if Line.of(voxels, ideal) is None else hierarchy_of(runs, ideal)
    read = Read.of(runs, voxels, hierarchy, ideal)
    fragile = [*(one.claim() for one in measured), *expectations(read, evidence)]
    return Candidate(name, read, _summary(read), organisation(read), trust(read), fragile, unknowns(read, fragile))


def _summary(read: Read) -> str:
    """Return the diagnosis of a network in one sentence."""
    found = read.hierarchy
    if said := next((said for fit in read.fits if (said := not_found(fit).get("layer"))), None):
        return f"Nothing is known of its layers: {said[0].lower()}{said[1:]}"
    if found is None:
        return f"No diagnosis of its order: {slope_in_words(None, read.voxels)}."
    blocks = next((one for one in found.intervals if one.over == "blocks"), None)
    low, high = (np.nan, np.nan) if blocks is None else (blocks.low, blocks.high)
    ends = "" if blocks is None else f" [{number(low)}, {number(high)}]"
    way = f"from {next(iter(found.ideal))} to {list(found.ideal)[-1]} (slope {number(found.slope)}{ends})"
    wrong = () if read.order is None else read.order.misplaced
    names = listed([read.layers[one.layer] for one in wrong])
    if high < 0:
        return f"Reversed: earlier layers are selected {way}."
    if not low > 0:
        return f"No hierarchy found: depth does not surely rise {way}{f'; out of order: {names}' if wrong else ''}."
    hardly = found.slope < LEAST_SLOPE
    if hardly or len(wrong) > 1:
        but = (
            "but by less than a tenth of the ideal" if hardly else f"but {len(wrong)} layers are out of order: {names}"
        )
        return f"{'Hardly' if hardly else 'Partly'} ordered: depth rises {way}, {but}."
    end = "and no layer is out of order"
    if wrong and read.order is not None:
        last = ", the last layer," if wrong[0].layer == len(read.layers) - 1 else ""
        end = f"but {names}{last} is out of order: {read.order.roi[wrong[0].layer]} selects it most"
    return f"Ordered{' but for one layer' if wrong else ''}: later layers are selected {way}, {end}."


def _notes(groups: Sequence[Sequence[Run]]) -> list[str]:
    """Return what limits the comparison of networks."""
    notes = []
    firsts = [runs[0] for runs in groups]
    if other := [
        what for key, what in SAME_DATA.items() if len({str(run.about["data"].get(key)) for run in firsts}) > 1
    ]:
        notes.append(f"The networks were fitted to other data ({', '.join(other)}), so scores cannot be compared.")
    fits = [shared_by_refits(run).parts["fit"] for run in firsts]
    names = {name for fit in fits for name in fit if name != "layers"}
    different = {name for name in names if any(one.get(name) != fits[0].get(name) for one in fits)}
    if different:
        notes.append(
            f"The fits have other settings ({', '.join(sorted(different))}), which change slopes. Use one --spec."
        )
    if len({len(run.layers) for run in firsts}) > 1:
        notes.append("The networks have different numbers of layers. Depth is relative, 0 the first and 1 the last.")
    return notes


def _cache(runs: Sequence[Run]) -> str:
    return str(runs[0].about["cache"]["digest"])


def _about(one: Candidate) -> dict[str, Any]:
    order = one.read.order
    return {
        "name": one.name,
        "summary": one.summary,
        "runs": [str(run.folder) for run in one.read.runs],
        "run_digests": [Identity(run.about).digest() for run in one.read.runs],
        "cache_digest": _cache(one.read.runs),
        "layers": list(one.read.layers),
        "layer_order": None
        if order is None
        else {
            name: dict(zip(one.read.layers, getattr(order, name), strict=True))
            for name in ("place", "low", "high", "roi")
        },
        "claims": [asdict(claim) for claim in (*one.organised, *one.trusted, *one.fragile)],
        "rois": [] if one.read.hierarchy is None else one.read.hierarchy.rois,
        "not_known": [asdict(unknown) for unknown in one.unknown],
    }
