"""The brain score of an encoder: what its predictions explain of the responses to some images."""

import numpy as np
import numpy.typing as npt
import torch

from bddn.encoder.factor_topy import FactorTopy
from bddn.encoder.targets import Targets, read_ahead
from bddn.stats.evidence import Evidence
from bddn.stats.scores import R2, means_of_images
from bddn.stream.loader import Source, batches
from bddn.stream.order import Rows, by_image, pools_in_order

PREDICT_IMAGES = 32  # images predicted at a time


def score(
    model: FactorTopy,
    source: Source,
    targets: Targets,
    rows: Rows,
    image_of: Rows | None = None,
    evidence: Evidence | None = None,
) -> npt.NDArray[np.float64]:
    """Return the brain score (n_voxels,) over some rows, and add their images to a test of evidence.

    Parameters
    ----------
    model : FactorTopy
    source : Source
    targets : callable
    rows : array of int, (n,)
    image_of : array of int, (n_rows,), optional
        The image of every row, if images have several rows. The score is over all rows, but the test shuffles images,
        each with the mean of its responses: rows of one image are not independent.
    evidence : Evidence, optional
    """
    reading, sums = model.read(PREDICT_IMAGES), R2()
    rows_of = {int(some[0]): some for some in by_image(rows, image_of)} if image_of is not None else None
    pools = pools_in_order(rows if rows_of is None else np.array([*rows_of]), source.chunk_of)
    wanted = [some for some in torch.from_numpy(np.concatenate(pools)).split(PREDICT_IMAGES) if len(some)]
    if rows_of is not None:
        wanted = [torch.from_numpy(np.concatenate([rows_of[row] for row in some.tolist()])) for some in wanted]
    of_batches = zip(batches(source, pools, PREDICT_IMAGES), read_ahead(targets, wanted), strict=True)
    for (at, features), responses in of_batches:
        measured, predicted = (values.cpu().numpy() for values in (responses, model.predict(features, reading)))
        if rows_of is None:
            sums.add(measured, predicted)
        else:
            n = np.array([len(rows_of[row]) for row in at.tolist()])
            sums.add(measured, np.repeat(predicted, n, axis=0))
            measured = means_of_images(measured, n)
        if evidence is not None:
            evidence.add(measured, predicted)
    return sums.score()
