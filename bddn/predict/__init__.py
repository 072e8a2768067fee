"""Predict responses of a fitted encoder to new images, and compute their aligned features.

The network of the run is opened again. It must be identical to the network that filled the cache.
"""

from bddn.predict.loaded import Encoder, load_encoder, network_of
from bddn.predict.network import Network, cache_of, check_network, open_network, specs_of
from bddn.predict.pictures import Pictures, read_pictures
from bddn.predict.responses import (
    aligned_local,
    predict,
    predict_pictures,
    prediction_identity,
    tokens_of,
)

__all__ = [
    "Encoder",
    "Network",
    "Pictures",
    "aligned_local",
    "cache_of",
    "check_network",
    "load_encoder",
    "network_of",
    "open_network",
    "predict",
    "predict_pictures",
    "prediction_identity",
    "read_pictures",
    "specs_of",
    "tokens_of",
]
