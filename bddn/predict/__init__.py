"""A fitted brain and new pictures: their tokens, the responses it predicts, and their features in its shared channels.

The network that the run was fitted through is opened again, and must be that very one.
"""

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
    "Network",
    "Pictures",
    "aligned_local",
    "cache_of",
    "check_network",
    "open_network",
    "predict",
    "predict_pictures",
    "prediction_identity",
    "read_pictures",
    "specs_of",
    "tokens_of",
]
