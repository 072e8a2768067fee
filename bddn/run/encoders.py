"""The encoders of a run, compared with its table."""

import torch

from bddn.encoder import checkpoint, saved
from bddn.encoder.factor_topy import FactorTopy
from bddn.run.folder import ENSEMBLE, WEIGHT, Run, encoder_files
from bddn.run.together import FIX, check_encoders, check_settings


def load_encoders(run: Run) -> list[FactorTopy]:
    """Load the encoder of a run; of an ensemble, those of its fits.

    Raises
    ------
    RunError
        If one is missing or damaged, or of another fit than `run.json` or the table of voxels.
    """
    files = encoder_files(run)
    encoders = [checkpoint.load(path) for path in files]
    if ENSEMBLE not in run.about:  # its fits differ in seed and bootstrap
        check_settings(files[0], saved.read(files[0], saved.AN_ENCODER, FIX, [])[1]["spec"], run.about["fit"])
    table = run.voxels[[WEIGHT + layer for layer in run.layers]].to_numpy()
    with torch.no_grad():
        weights = [encoder.select().layer.numpy() for encoder in encoders]
    check_encoders(files, weights, table)
    return encoders
