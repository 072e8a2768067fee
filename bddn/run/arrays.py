"""The encoder on arrays in memory, in the manner of scikit-learn's estimators.

Shape letters: n images, N voxels, L layers, H rows, W columns, C channels of a layer, D shared channels.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from bddn.encoder.brain_score import PREDICT_IMAGES, score
from bddn.encoder.device_step import repeatable
from bddn.encoder.factor_topy import new_encoder
from bddn.encoder.fit import fit as train_encoder
from bddn.encoder.parts import Parts
from bddn.errors import SpecError
from bddn.machine.parallel import single_threaded_kernels
from bddn.machine.settings import own_settings
from bddn.run.array_checks import Layer, Wrong, check_order, labels_of, layers_of, matrix_of, rows_that_train
from bddn.run.fitting import device_of
from bddn.run.recipes import fit_spec
from bddn.spec import FitSpec
from bddn.stats.hierarchy import confidence, depth
from bddn.stream.features import Features
from bddn.stream.loader import CHUNK_IMAGES, Resident, batches
from bddn.stream.order import pools_in_order

OWN = ("spec", "device", "chunk_images")  # parameters that are no settings
_OWN_SPLIT = "Hold test images out of 'train', and say with 'validation' which rows validate."
NOT_HERE = dict.fromkeys(("split", "split_seed", "split_by"), _OWN_SPLIT)


class FactorTopy:
    """FactorTopy on arrays in memory: which layer, place, scale and channels predict each voxel's response.

    The same arrays, rows, settings and kind of machine give the same encoder, to the last bit. It is also that of
    `bddn.fit` on a cache of these tokens with the same settings, where `train` and `validation` are the rows of the
    run's split and `chunk_images` is that of the cache.

    Parameters
    ----------
    spec : str, Path or FitSpec
        A recipe ('paper' or 'fast'), a YAML file of settings, or settings.
    device : {'auto', 'cpu', 'cuda'}
        Where it is fitted and predicts. A pickled encoder is loaded on the CPU, on any machine.
    chunk_images : int
        Rows that are kept together when the order of images is drawn.
    **settings
        Fields of `bddn.spec.FitSpec` that replace those of `spec`, such as seed=1 or epochs=5. `layers` chooses some of
        the features; those of the split (`split`, `split_seed`, `split_by`) are not used here.

    Attributes
    ----------
    layers_ : tuple of str, L
        Names of the layers, in the order of `features`, early to late.
    layer_weights_ : array of float32, (N, L)
        How much each voxel reads from each layer; sums to 1.
    place_ : array of float32, (N, 2)
        x, y in the image, from -1 to 1, y downwards.
    scale_ : array of float32, (N,)
        0 for the local token at that place, 1 for the global token.
    size_ : array of float32, (N,), or None
        Size of the receptive field: standard deviation of the blur, in tokens. None if the settings have one blur.
    channels_ : array of float32, (N, D)
        Weights of the shared channels.
    depth_ : array of float64, (N,)
        Mean relative depth of the selected layers: 0 for the first, 1 for the last.
    confidence_ : array of float64, (N,)
        1 for a single selected layer, 0 for equal weights.
    r2_val_ : array of float64, (N,)
        R² on the rows that validate. With `polish` they are not held out: they choose the penalty of every voxel.
    history_ : list of dict
        Loss and mean R² on the rows that validate, by epoch.
    encoder_ : torch module
        The fitted encoder.

    Examples
    --------
    >>> features = {"early": (local_0, global_0), "late": (local_1, global_1)}  # (n, H, W, C) and (n, C) each
    >>> encoder = bddn.FactorTopy("fast", seed=1).fit(features, responses, coords_mm)
    >>> encoder.score(test_features, test_responses).mean()
    >>> encoder.depth_, encoder.place_
    """

    def __init__(
        self,
        spec: FitSpec | str | Path = "fast",
        *,
        device: str = "auto",
        chunk_images: int = CHUNK_IMAGES,
        **settings: Any,
    ) -> None:
        self.spec, self.device, self.chunk_images = spec, device, chunk_images
        self._settings: dict[str, Any] = {}
        self.set_params(**settings)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters that were given, by name."""
        return {name: getattr(self, name) for name in OWN} | self._settings

    def set_params(self, **params: Any) -> Self:
        """Change parameters; any field of `FitSpec` can be set.

        Raises
        ------
        SpecError
            If a name is unknown.
        """
        settings = {name: value for name, value in params.items() if name not in OWN}
        known = [name for name in FitSpec.model_fields if name not in NOT_HERE]
        if unknown := sorted(settings.keys() - set(known)):
            raise SpecError(
                "settings of FactorTopy",
                expected=f"some of {', '.join([*OWN, *known])}",
                got=", ".join(unknown),
                fix=" ".join(dict.fromkeys(NOT_HERE.get(name, f"Correct '{name}'.") for name in unknown)),
            )
        for name in params.keys() & set(OWN):
            setattr(self, name, params[name])
        self._settings |= settings
        return self

    def __repr__(self) -> str:
        return f"FactorTopy({', '.join(f'{name}={value!r}' for name, value in self.get_params().items())})"

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle keeps: the encoder in the memory of the host, since others may have no GPU."""
        state = dict(vars(self))
        if "encoder_" in state and state["encoder_"].bias.is_cuda:
            state["encoder_"] = copy.deepcopy(state["encoder_"]).cpu()
        return state

    @own_settings()
    def fit(
        self,
        features: Mapping[str, Layer],
        responses: npt.ArrayLike,
        coords_mm: npt.ArrayLike,
        *,
        validation: float | npt.ArrayLike = 0.1,
        train: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit the encoder, and keep the epoch that predicts the validation rows best.

        Parameters
        ----------
        features : mapping of str to (local, global)
            Tokens of each layer, early to late: local (n, H, W, C) and global (n, C), numpy arrays or torch tensors of
            any float type, used as they are and not copied. Layers share n, H and W; each has a C of its own.
        responses : array, (n, N)
            Used as float32. Arrays are matched by position: voxels that a table of pandas names must be in the same
            order in `coords_mm`.
        coords_mm : array, (N, 3)
            Positions of the voxels, which decide what is smooth; used as float32.
        validation : float or array of int
            Share of the rows in `train`, drawn by the seed, or row numbers.
        train : array of int, optional
            Rows that train, in this order; by default all. Those that validate do not train.

        Returns
        -------
        FactorTopy
            Itself.

        Raises
        ------
        SpecError
            If a setting is wrong.
        DataError
            If arrays or rows do not fit, naming all that is wrong, before any work.
        FitError
            If the loss is no longer finite.
        """
        spec = fit_spec(self.spec, self._settings, "settings of FactorTopy")
        device = device_of(self.device, spec)
        wrong = Wrong("arrays of FactorTopy.fit")
        tokens = layers_of(features, spec.layers, wrong)
        y = matrix_of(responses, "responses", ("n", "N"), (len(tokens) if tokens.local else None, None), wrong)
        coords = matrix_of(coords_mm, "coords_mm", ("N", "3"), (y.shape[1] or None, 3), wrong)
        voxels = labels_of(responses, 1)
        check_order(labels_of(coords_mm, 0), voxels, ("coords_mm: rows", "the columns of responses"), wrong)
        parts = rows_that_train(y, validation, train, spec.seed, wrong)
        if type(self.chunk_images) is bool or not isinstance(self.chunk_images, Integral) or self.chunk_images < 1:
            wrong.add("chunk_images: a whole number from 1", f"{self.chunk_images!r}")
        wrong.refuse()
        names = tuple(spec.layers or features)
        h, w = features[names[0]][0].shape[1:3]
        widths = {name: local.shape[-1] for name, local in zip(names, tokens.local, strict=True)}
        model = new_encoder(torch.from_numpy(coords), widths, (h, w), spec).to(device)
        target = torch.from_numpy(y)
        source = self._source(tokens, device)
        fitted = train_encoder(model, source, lambda rows: target[rows].to(device), Parts(*parts, _NO_ROWS), spec)
        found = fitted.selection
        self.encoder_, self.layers_, self._spec, self._voxels = fitted.model, names, spec, voxels
        self.layer_weights_, self.place_, self.scale_ = (
            values.detach().cpu().numpy() for values in (found.layer, found.place, found.scale)
        )
        self.size_ = found.sizes(spec.blurs)
        self.channels_: npt.NDArray[np.float32] = fitted.model.channels.detach().cpu().numpy()
        self.depth_, self.confidence_ = depth(self.layer_weights_), confidence(self.layer_weights_)
        self.r2_val_, self.history_ = fitted.r2_val, fitted.history
        return self

    @own_settings()
    def predict(self, features: Mapping[str, Layer]) -> npt.NDArray[np.float32]:
        """Predicted responses (n, N), in the unit of those that were fitted.

        Parameters
        ----------
        features : mapping of str to (local, global)
            As of `fit`, with the layers, grid and channels of the fit, for any number n of images.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        DataError
            If arrays do not fit, naming all that is wrong.
        """
        with self._reading("predict"):
            source = self._checked(features, "predict")
            rows = np.arange(len(source.chunk_of))
            found = np.empty((len(rows), len(self.channels_)), np.float32)
            reading = self.encoder_.read(PREDICT_IMAGES)
            for at, batch in batches(source, pools_in_order(rows, source.chunk_of), PREDICT_IMAGES):
                found[at.numpy()] = self.encoder_.predict(batch, reading).cpu().numpy()
        return found

    @own_settings()
    def score(self, features: Mapping[str, Layer], responses: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """R² of every voxel, (N,): 1 - Σ(y - ŷ)² / Σ(y - ȳ)² over images; NaN where its responses do not vary.

        Parameters
        ----------
        features : mapping of str to (local, global)
            As of `predict`.
        responses : array, (n, N)

        Raises
        ------
        sklearn.exceptions.NotFittedError
        DataError
            If arrays do not fit, naming all that is wrong.
        """
        with self._reading("score"):
            source = self._checked(features, "score")
            rows = np.arange(len(source.chunk_of))
            wrong = Wrong("arrays of FactorTopy.score")
            y = matrix_of(responses, "responses", ("n", "N"), (len(rows), len(self.channels_)), wrong)
            check_order(labels_of(responses, 1), self._voxels, ("responses: columns", "those of the fit"), wrong)
            wrong.refuse()
            target = torch.from_numpy(y)
            return score(self.encoder_, source, lambda at: target[at], rows)

    @contextmanager
    def _reading(self, method: str) -> Iterator[None]:
        """Use the settings under which a fitted encoder predicts as in the fit."""
        if not hasattr(self, "encoder_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(
                f"FactorTopy.{method}: expected a fitted encoder; got one that is not. Call fit first."
            )
        with single_threaded_kernels(), repeatable(self.encoder_.bias.device, self._spec.arithmetic):
            yield

    def _source(self, tokens: Features, device: str | torch.device) -> Resident:
        return Resident(tokens.to(torch.device(device)), np.arange(len(tokens)) // self.chunk_images)

    def _checked(self, features: Mapping[str, Layer], method: str) -> Resident:
        wrong = Wrong(f"arrays of FactorTopy.{method}")
        shapes = {name: (*self.encoder_.grid.grid, width) for name, width in self.encoder_.widths.items()}
        tokens = layers_of(features, self.layers_, wrong, shapes)
        wrong.refuse()
        return self._source(tokens, self.encoder_.bias.device)


_NO_ROWS: npt.NDArray[np.intp] = np.array([], np.intp)
