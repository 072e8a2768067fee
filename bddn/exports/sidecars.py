"""Files that describe the others: the ROI table, the meaning of every column, and the description of a BIDS dataset.

Format: BIDS 1.10 (bids-specification.readthedocs.io), derivatives. BIDS knows no encoders, so `.bidsignore` lists those
files, and `dataset_description.json`, README and the table of ROIs with its sidecar are as BIDS has them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bddn import __version__
from bddn.cortex.places import place_words, sides
from bddn.run import Run
from bddn.run.folder import WEIGHT, about_data
from bddn.stats.evidence import evident, is_tested
from bddn.stats.scores import ALL, in_roi, named_rois, robust_mean

BOTH = "both"
ROI_COLUMNS = {
    "roi": "union of an ROI's labels of all atlases, or a label; 'all' for all voxels. ROIs of two atlases may overlap",
    "hemi": "hemisphere: lh, rh or both",
    "n_voxels": "number of voxels",
    "n_evident": "voxels with evidence of a score above chance; n/a if this was not tested",
    "r2_test": "mean R² on the test images, over all voxels; scores below -1 count as -1",
    "ceiling": "mean noise ceiling: explainable share of the variance, 0 to 1; n/a if unknown",
    "depth": "mean relative depth of the selected layers, 0 (first) to 1 (last), of voxels with evidence",
    "confidence": "mean confidence of the layer selection, 0 to 1, of voxels with evidence",
}
VOXEL_COLUMNS = {
    "hemi": "hemisphere: lh or rh; empty if unknown",
    "vertex": "number of the vertex on fsaverage7; -1 for points",
    "roi": "ROI: the first label of the atlases, or empty",
    "ceiling": "noise ceiling: explainable share of the variance, 0 to 1; NaN if unknown",
    "r2_val": "R² on the validation images",
    "r2_test": "R² on the test images: 1 - Σ(y - ŷ)² / Σ(y - ȳ)²; NaN for constant responses",
    "p_test": "p-value of a score above chance on the test images",
    "q_test": "false discovery rate at which the voxel has evidence",
    "layer_argmax": "layer with the largest weight",
    "depth": "mean relative depth of the selected layers, 0 (first) to 1 (last)",
    "confidence": "1 - entropy / log L of the layer weights: 1 for one layer alone, 0 for equal weights",
    "x": "selected place, from -1 (left) to 1 (right) of the image",
    "y": "selected place, from -1 (top) to 1 (bottom) of the image",
    "scale": "0: local tokens only; 1: the global token only",
    "size": "selected size of the receptive field: blur of the local tokens, in tokens",
    "response_mean": "mean response to the training images, in the unit of the data",
    "response_sd": "standard deviation of these responses",
    "agreement": "share of pairs of fits that select the same layer",
    "depth_spread": "standard deviation of relative depth under the layer weights",
    "r2_test_single": "mean R² of the single fits on the test images",
}
_ENDS = {"_sd": "standard deviation over fits of", "_low": "lower end of the interval over fits of"}
_ENDS |= {"_high": "upper end of the interval over fits of"}


def roi_table(voxels: pd.DataFrame) -> pd.DataFrame:
    """Return a table with `ROI_COLUMNS`: one row per ROI and hemisphere that has voxels, first that of all voxels."""
    known = evident(voxels)
    hemispheres = {BOTH: np.ones(len(voxels), np.bool_), **sides(voxels)}
    rows = []
    for roi in (ALL, *named_rois(voxels)):
        inside = hemispheres[BOTH] if roi == ALL else in_roi(voxels, roi)
        for hemi, side in hemispheres.items():
            mask = inside & side
            if not mask.any():
                continue
            here, sure = voxels[mask], voxels[mask & known]
            row = {"roi": roi, "hemi": hemi, "n_voxels": len(here), "r2_test": robust_mean(here["r2_test"].to_numpy())}
            row["n_evident"] = len(sure) if is_tested(voxels) else None
            row["ceiling"] = here["ceiling"].mean() if "ceiling" in here else None
            rows.append(row | {name: sure[name].mean() for name in ("depth", "confidence")})
    return pd.DataFrame(rows)[list(ROI_COLUMNS)]


def roi_tsv(table: pd.DataFrame) -> str:
    """Return the table of ROIs as text with tabs, as in BIDS; a missing number is n/a."""
    whole = table.astype({"n_evident": "Int64"})
    return whole.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n")


def voxel_columns(run: Run) -> dict[str, str]:
    """Return what each column of the table of voxels means."""
    known = {**VOXEL_COLUMNS, **place_words(run.voxels)}
    return {str(name): _meaning(str(name), known) for name in run.voxels}


def _meaning(name: str, known: Mapping[str, str]) -> str:
    if name in known:
        return known[name]
    if name.startswith(WEIGHT):
        return f"weight of layer '{name.removeprefix(WEIGHT)}' in the selection; the weights of a voxel sum to 1"
    for end, words in _ENDS.items():
        if name.endswith(end):
            return f"{words} {name.removesuffix(end)}"
    return f"atlas '{name}' of the dataset: its label of the voxel, or empty"


def dataset_description(run: Run, title: str, terms: Mapping[str, str]) -> dict[str, Any]:
    """Return `dataset_description.json` of BIDS derivatives."""
    about = about_data(run)
    return {
        "Name": title,
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "License": " ".join(f"{name}: {words}" for name, words in terms.items()),
        "ReferencesAndLinks": list(about["references"]),
        "GeneratedBy": [
            {
                "Name": "bddn",
                "Version": __version__,
                "Description": "FactorTopy encoder that predicts responses of voxels to images",
            }
        ],
        "SourceDatasets": [{"Description": f"{about['responses']} Kind of dataset: {about['name']}."}],
    }
