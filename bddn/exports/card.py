"""The card of an exported encoder: what it is, how to use it, under which terms, and how good it is."""

import shlex
from collections.abc import Collection
from typing import Any

import pandas as pd

from bddn import __version__
from bddn.cortex.places import space_of
from bddn.exports.sidecars import BOTH, roi_table
from bddn.exports.terms import Terms
from bddn.figures.methods import methods
from bddn.predict import Network, cache_of
from bddn.run import Run, read_split
from bddn.run.folder import ENSEMBLE, about_data
from bddn.stats.scores import ALL, reported_rois

_LIE = {
    "fsaverage": "vertices of fsaverage7",
    "native surface": "vertices of the subject's own surface, with their places on the sphere registered to fsaverage",
    "points": "points that are known by their coordinates",
}
_HOW = """```
pip install bddn
bddn predict {shell} photos/
```

```python
import bddn

encoder = bddn.load_encoder("{name}")
responses = encoder.predict("photos/")  # (images, {n_voxels}) float32, voxels in the order of encoder.run.voxels
```
"""
_FETCH = "\nThe weights of the network are downloaded once, with `bddn fetch {shell}/spec.yaml`.\n"
_LEFT_OUT = """
The weights of the network are not in this folder. Who has them gives their place:
`bddn predict {shell} photos/ --weights PLACE`.
"""
_OWN = """
The network is code of its author, which is not in this folder. Who has it gives its spec: `--spec FILE`, or
`bddn.load_encoder(…, spec=…)`, which also takes what `bddn.from_module` returned.
"""
WAYS = {"included": "", "public": _FETCH, "left out": _LEFT_OUT, "own code": _OWN}
"""What a user of the folder has to do, by where the weights of the network are."""
FILES = {
    "encoder.safetensors": "the encoder",
    "fits/": "the encoders of an ensemble, whose mean is predicted",
    "spec.yaml": "the network, and how images enter it",
    "network/": "the weights of the network",
    "voxels.parquet": "one row per voxel: place, ROIs, noise ceiling, selection, scores; `voxels.json` has the columns",
    "rois.tsv": "means of ROIs and hemispheres; `rois.json` has the columns",
    "split.json": "ids of the stimuli that trained, validated and tested the encoder",
    "metrics.json": "scores, hierarchy, every epoch",
    "run.json": "what was fitted on what, as hashes and versions",
    "truth.json": "how close the fit came to the planted truth",
    "score/": "measured and predicted responses to the test images",
    "card.json": "the facts of this card",
    "dataset_description.json": "the description of a BIDS dataset (derivatives)",
    "export.json": "size and SHA-256 of every file",
}


def facts(run: Run, network: Network, title: str, terms: Terms, way: str) -> dict[str, Any]:
    """Return the facts of a card, for `card.json`.

    Parameters
    ----------
    run : Run
    network : Network
    title : str
    terms : Terms
    way : str
        A key of `WAYS`.
    """
    about, cache, text = about_data(run), cache_of(run), methods(run)
    split, table = read_split(run), roi_table(run.voxels)
    ceiling = run.voxels["ceiling"].mean() if "ceiling" in run.voxels else float("nan")
    whole = table[(table["roi"] == ALL) & (table["hemi"] == BOTH)].iloc[0]
    return {
        "title": title,
        "bddn": __version__,
        "terms": terms.lines(),
        "data": {
            "kind": about["name"],
            "responses": about["responses"],
            "trials": about["trials"],
            "n_voxels": len(run.voxels),
            "places": _LIE[space_of(run.voxels)],
            **{f"n_{part}": len(ids) for part, ids in split.items()},
        },
        "network": {
            "class": cache["backbone"].get("class"),
            "weights_sha256": cache["backbone"].get("weights_sha256"),
            "title": network.spec.title,
            "weights": way,
            "image_hw": list(network.spec.image_hw),
            "layers": list(run.layers),
        },
        "encoder": {
            "n_fits": len(run.about[ENSEMBLE]["fits"]) if ENSEMBLE in run.about else 1,
            "fit": run.about["fit"],
        },
        "scores": {
            "r2_test": whole["r2_test"],
            "ceiling": ceiling,
            "n_evident": whole["n_evident"],
            "rois": {str(row["roi"]): row["r2_test"] for row in _shown(table, reported_rois(run.voxels))},
        },
        "methods": text.paragraph,
        "references": list(text.references),
    }


def markdown(card: dict[str, Any], table: pd.DataFrame, name: str, files: list[str]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    card : dict
        From `facts`.
    table : DataFrame
        From `roi_table`.
    name : str
        Name of the folder in the commands.
    files : list of str
        The files of the folder.
    """
    data, network, scores = card["data"], card["network"], card["scores"]
    ceiling = "" if pd.isna(scores["ceiling"]) else f", of a mean noise ceiling of {scores['ceiling']:.3f}"
    tested = (
        ""
        if pd.isna(scores["n_evident"])
        else f" {scores['n_evident']:,} voxels have evidence of a score above chance."
    )
    height, width = network["image_hw"]
    how = _HOW + WAYS[network["weights"]]
    there = [known for known in FILES if any(file == known or file.startswith(known) for file in files)]
    lines = [
        f"# Encoder of {card['title']}",
        f"An encoder that predicts the responses of {data['n_voxels']:,} voxels ({data['places']}) to images. "
        f"{data['responses']} It was made with bddn {card['bddn']}; the method is that of Yang H, Gee J, Shi J (2024), "
        "*Brain Decodes Deep Nets*, CVPR.",
        "## Terms",
        "\n".join(f"- **{what}**: {words}" for what, words in card["terms"].items()),
        "## Use",
        how.format(name=name, shell=shlex.quote(name), n_voxels=data["n_voxels"]).rstrip(),
        "Responses are in the unit of the data. No cache and no data are needed.",
        "## Network",
        f"{network['title'][:1].upper()}{network['title'][1:]}: a {network['class'] or 'network of the user'}, "
        f"weights SHA-256 `{network['weights_sha256'] or 'none'}`. Images have {height} × {width} pixels. "
        f"The encoder reads {len(network['layers'])} layers, {network['layers'][0]} to {network['layers'][-1]}. "
        "Another network is refused.",
        "## How good it is",
        f"Mean R² on {data['n_test']:,} test images: {scores['r2_test']:.3f}{ceiling}.{tested} "
        f"{data['n_train']:,} images trained it and {data['n_val']:,} validated it; `split.json` has their ids. "
        "Do not test it again on images that trained it.",
        _rois(table, scores["rois"]),
        "Scores hold for images like those of the experiment, and for this subject. Images of another kind were not "
        "tested.",
        "## Files",
        "\n".join(["| file | content |", "|---|---|", *(f"| `{known}` | {FILES[known]} |" for known in there)]),
        "## Methods",
        card["methods"],
        "\n".join(f"- {words}" for words in card["references"]),
    ]
    return "\n\n".join(line for line in lines if line) + "\n"


def _shown(table: pd.DataFrame, rois: Collection[str]) -> list[Any]:
    """Return the rows of these ROIs over both hemispheres, as mappings."""
    return table[(table["hemi"] == BOTH) & table["roi"].isin([*rois])].to_dict("records")


def _rois(table: pd.DataFrame, rois: Collection[str]) -> str:
    rows = [
        f"| {row['roi']} | {row['n_voxels']:,} | {_number(row['r2_test'])} | {_number(row['ceiling'])} |"
        for row in _shown(table, rois)
    ]
    return "\n".join(["| ROI | voxels | mean R² | noise ceiling |", "|---|---|---|---|", *rows]) if rows else ""


def _number(value: Any) -> str:
    return "n/a" if pd.isna(value) else f"{value:.3f}"
