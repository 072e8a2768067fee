"""Write the files of an exported folder."""

import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bddn.backbones.backbone import Trainable
from bddn.evaluation.kept_responses import ABOUT as ABOUT_RESPONSES
from bddn.evaluation.kept_responses import FOLDER as SCORE
from bddn.evaluation.kept_responses import RESPONSES, ROWS
from bddn.exports.card import facts, markdown
from bddn.exports.sidecars import ROI_COLUMNS, dataset_description, roi_table, roi_tsv, voxel_columns
from bddn.exports.terms import Terms
from bddn.files import atomic
from bddn.files.checksum import file_sha256
from bddn.identity import Identity
from bddn.predict import Network
from bddn.predict.exported import FORMAT, NETWORK, SPEC
from bddn.run import Run
from bddn.run.folder import ABOUT, ENCODER, ENSEMBLE, METRICS, SPLIT, VOXELS, encoder_files, without_nan
from bddn.run.passed_on import EXPORT
from bddn.spec import CacheSpec

CARD, CARD_JSON, IGNORE = "README.md", "card.json", ".bidsignore"
DESCRIPTION = "dataset_description.json"
TRUTH = "truth.json"
FITS = "fits"
MADE_OF = "made_of"


def write_run(run: Run, title: str, aside: Path, responses: bool) -> None:
    """Write the files of a run folder; tables and encoders as they are, byte for byte."""
    about: dict[str, Any] = dict(run.about)
    encoders = encoder_files(run)
    names = [ENCODER] if ENSEMBLE not in about else [f"{FITS}/{k}/{ENCODER}" for k in range(len(encoders))]
    if ENSEMBLE in about:
        about[ENSEMBLE] = {**about[ENSEMBLE], "fits": [f"{FITS}/{k}" for k in range(len(encoders))]}
    _copy(zip(encoders, names, strict=True), aside)
    _copy([(run.folder / name, name) for name in (VOXELS, SPLIT)], aside)
    if run.truth is not None:
        atomic.write_json(aside / TRUTH, without_nan(run.truth))
    atomic.write_json(aside / ABOUT, about)
    atomic.write_json(aside / METRICS, without_nan({**run.metrics, "title": title}))
    if responses:
        kept = [name for name in (RESPONSES, ABOUT_RESPONSES, ROWS) if (run.folder / SCORE / name).is_file()]
        _copy([(run.folder / SCORE / name, f"{SCORE}/{name}") for name in kept], aside)


def write_network(network: Network, spec: CacheSpec, way: str, aside: Path) -> None:
    """Write the spec of the network, and its weights if users cannot get them elsewhere."""
    fields = {name: value for name, value in spec.to_dict().items() if name not in ("parent", "groups")}
    for section in ("backbone", "weights"):
        fields[section] = {name: value for name, value in fields[section].items() if value is not None}
    text = yaml.safe_dump(
        {name: value for name, value in fields.items() if value is not None},
        sort_keys=False,
        allow_unicode=True,
        width=120,
    )
    atomic.write_text(aside / SPEC, f"# The network of this encoder; its weights: {way}.\n{text}")
    if way == "included":
        assert isinstance(network.backbone, Trainable)
        (aside / NETWORK).mkdir()
        state = {name: value.detach().cpu() for name, value in network.backbone.module.state_dict().items()}
        network.backbone.save(aside / NETWORK, state)


def write_descriptions(run: Run, network: Network, title: str, terms: Terms, way: str, name: str, aside: Path) -> None:
    """Write the card, the table of ROIs, the meaning of columns, and the description of a BIDS dataset."""
    table, card = roi_table(run.voxels), facts(run, network, title, terms, way)
    atomic.write_text(aside / "rois.tsv", roi_tsv(table))
    for stem, columns in {"rois": ROI_COLUMNS, "voxels": voxel_columns(run)}.items():
        described = {column: {"Description": words} for column, words in columns.items()}
        atomic.write_json(aside / f"{stem}.json", described)
    atomic.write_json(aside / CARD_JSON, without_nan(_plain(card)))
    atomic.write_json(aside / DESCRIPTION, dataset_description(run, title, terms.lines()))
    there = [path.relative_to(aside).as_posix() for path in aside.rglob("*")]
    others = sorted({path.name + ("/" if path.is_dir() else "") for path in aside.iterdir()} - {DESCRIPTION} | {EXPORT})
    atomic.write_text(aside / IGNORE, "".join(f"{one}\n" for one in others))
    atomic.write_text(aside / CARD, markdown(card, table, name, [*there, EXPORT]))


def write_list(aside: Path, identity: Identity) -> None:
    """Write `export.json`: size and SHA-256 of every other file."""
    paths = sorted(path for path in aside.rglob("*") if path.is_file())
    files = {
        path.relative_to(aside).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in paths
    }
    atomic.write_json(aside / EXPORT, {"format": FORMAT, MADE_OF: dict(identity.parts), "files": files})


def _copy(pairs: Iterable[tuple[Path, str]], aside: Path) -> None:
    for source, name in pairs:
        target = aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        atomic.replace_file(target, partial(shutil.copyfile, source))


def _plain(value: Any) -> Any:
    """Return a value with Python's numbers in place of NumPy's, for JSON."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value.item() if isinstance(value, np.generic) else value
