"""Compute tokens, predicted responses and aligned features of images.

Images go through the network and are rounded as in an extraction. The encoder runs on the CPU.

Shape letters: n images, N voxels, L layers, H rows, W columns, D shared channels.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bddn.encoder.brain_score import PREDICT_IMAGES
from bddn.encoder.factor_topy import FactorTopy
from bddn.errors import MismatchError, RunError
from bddn.extraction.source import TokenSource
from bddn.files.checksum import file_sha256
from bddn.identity import Identity, digest
from bddn.machine.parallel import choose_device, n_threads, single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.predict.network import Network, cache_of
from bddn.predict.pictures import Pictures
from bddn.progress import progress
from bddn.run import Run
from bddn.run.encoders import load_encoders
from bddn.run.folder import VOXELS, check_single, encoder_files
from bddn.run.inputs import environment
from bddn.store.layout import Layout
from bddn.store.precision import TokenRows
from bddn.stream.features import Features


@own_settings()
def tokens_of(run: Run, network: Network, pictures: Pictures) -> Features:
    """Compute the tokens of images in the layers of a run, as `bddn extract` would store them for images in this order.

    Their dtype is that of the stored precision. The last bits depend on the other images of the batch, and with
    precision int8 the rounding depends on the other images of the shard.

    Raises
    ------
    BddnError
        If an image has changed since it was read, or its tokens are not finite in the stored precision.
    """
    layout = Layout.of_spec(network.spec, load_encoders(run)[0].widths, len(pictures))
    source = TokenSource(
        network.spec, network.backbone, pictures.stimuli, pictures.sha256, layout, network.device, n_threads()
    )
    parts = list[Features]()
    with (
        source.prefetch(range(len(pictures))) as images,
        progress("tokens", len(pictures), "images") as advance,
    ):
        for start, stop in layout.shards:
            parts.append(_decode(source.read(start, stop, images, advance), layout))
    return Features.cat(parts)


def prediction_identity(run: Run, pictures: Pictures, device: str) -> Identity:
    """Return the identity of predicted responses and their maps: encoder, cache, voxels and the images in their order.

    Parameters
    ----------
    run : Run
    pictures : Pictures
    device : {'auto', 'cpu', 'cuda'}
        The device of the network.

    Raises
    ------
    RunError
        If the run has no encoder.
    """
    names = [[stimulus, sha256] for stimulus, sha256 in zip(pictures.stimuli.ids, pictures.sha256, strict=True)]
    try:
        encoders = [file_sha256(path) for path in encoder_files(run)]
        voxels = file_sha256(run.folder / VOXELS)
    except OSError as error:
        raise RunError(
            run.folder, expected=f"its encoder and {VOXELS}", got=str(error), fix="Copy the whole run folder again."
        ) from error
    return Identity(
        {
            "encoder_sha256": encoders[0] if len(encoders) == 1 else digest(encoders),
            "voxels_sha256": voxels,
            "cache_digest": cache_of(run)["digest"],
            "pictures_sha256": digest(names),
            "made_with": environment(choose_device(device)),
        }
    )


@own_settings()
def predict(run: Run, features: Features) -> npt.NDArray[np.float32]:
    """Predict responses to images, in the unit of the responses of the fit. For an ensemble, the mean over its fits.

    Parameters
    ----------
    run : Run
    features : Features
        Tokens of n images, from `tokens_of`.

    Returns
    -------
    array of float32, (n, N)
        Voxels in the order of `run.voxels`.

    Raises
    ------
    BddnError
        If the run has no encoder, or the tokens do not match its layers.
    """
    total, encoders = np.zeros((len(features), len(run.voxels))), load_encoders(run)
    for model in encoders:
        _check_shapes(model, features)
        with single_threaded_kernels():
            reading = model.read(PREDICT_IMAGES)
            for batch in _batches(len(features)):
                total[batch] += model.predict(features.at(batch).float(), reading).numpy()
    return (total / len(encoders)).astype(np.float32)


def predict_pictures(run: Run, network: Network, pictures: Pictures) -> npt.NDArray[np.float32]:
    """Predict responses (n, N) float32 to many images. Only the tokens of one shard are in memory at a time."""
    n = network.spec.shard_images
    parts = [pictures.part(start, start + n) for start in range(0, len(pictures), n)]
    return np.concatenate([predict(run, tokens_of(run, network, part)) for part in parts])


@own_settings()
def aligned_local(run: Run, features: Features) -> npt.NDArray[np.float32]:
    """Compute the local features of images in the shared channels, which voxels read with their channel vectors.

    Parameters
    ----------
    run : Run
    features : Features
        Tokens of n images, from `tokens_of`.

    Returns
    -------
    array of float32, (L, n, H, W, D)
        On the grid of the cache.

    Raises
    ------
    BddnError
        The same errors as `predict`; also if the run is an ensemble, whose fits have different channels.
    """
    check_single(run, "shared channels")
    (model,) = load_encoders(run)
    _check_shapes(model, features)
    n_layers, n_channels = len(model.layers), model.channels.shape[1]
    aligned = np.empty((n_layers, len(features), *model.grid.grid, n_channels), np.float32)
    with single_threaded_kernels():
        for batch in _batches(len(features)):
            tokens = model.align(features.at(batch).float())
            aligned[:, batch] = model.grid.local(tokens)[:, 0].permute(0, 3, 1, 2, 4).numpy()
    return aligned


def _decode(filled: Mapping[str, TokenRows], layout: Layout) -> Features:
    """Return the tokens of a shard as they would be read from a cache."""
    kept, names = layout.precision, [layer.name for layer in layout.layers]
    local = [kept.decode(*kept.finish(filled[f"local/{name}"])).flatten(1, 2) for name in names]
    return Features(local, [kept.decode(*kept.finish(filled[f"global/{name}"])) for name in names])


def _check_shapes(model: FactorTopy, features: Features) -> None:
    h, w = model.grid.grid
    expected = [(h * w, channels) for channels in model.widths.values()]
    got = [tuple(values.shape[1:]) for values in features.local]
    if expected != got:
        raise MismatchError(
            "tokens of images",
            expected=f"places and channels {expected} of each layer",
            got=f"{got}",
            fix="Compute the tokens with the network of this run.",
        )


def _batches(n: int) -> list[slice]:
    return [slice(start, start + PREDICT_IMAGES) for start in range(0, n, PREDICT_IMAGES)]
