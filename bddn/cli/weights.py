"""The option --weights."""

from pathlib import Path
from typing import Literal

from bddn.backbones.kind import kind_of
from bddn.backbones.weights.convert import FORMATS
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec import CacheSpec, WeightsSpec


def with_weights(spec: CacheSpec, text: str) -> CacheSpec:
    """Return the spec with the weights of the option --weights.

    Raises
    ------
    SpecError
        If the option is not valid, or the spec's network brings its weights.
    """
    if spec.backbone is not None and spec.backbone.brings_weights:
        raise SpecError(
            "--weights",
            expected="a backbone whose weights are named in the spec",
            got=f"a spec of which {kind_of(spec).describe(spec).weights}",
            fix="Remove --weights.",
        )
    path = Path(expand_home(text))
    there: Literal["file", "folder"] | None = "file" if path.is_file() else "folder" if path.is_dir() else None
    weights = weights_of(text, there, None if spec.weights is None else spec.weights.format)
    return spec.model_copy(update={"weights": weights})


def weights_of(text: str, there: Literal["file", "folder"] | None, own_format: str | None) -> WeightsSpec:
    """Return the weights of an option.

    Parameters
    ----------
    text : str
        A folder; a file; FORMAT:FILE; random or random:SEED.
    there : {'file', 'folder'}, optional
        What exists at this path.
    own_format : str, optional
        Format of the spec's own weights, if they are a checkpoint of another library.

    Raises
    ------
    SpecError
        If it is a file of unknown format, or an invalid seed.
    """
    before, colon, after = text.partition(":")
    if before == "random":
        seed = after if colon else "0"
        if not (seed.isascii() and seed.isdecimal()):
            raise _wrong("random:SEED, SEED a whole number from 0", text, "Correct it; a folder is ./random.")
        return WeightsSpec(random=int(seed))
    if before in FORMATS and colon:
        if not after:
            raise _wrong(f"a file after {before}:", "nothing", "Add its path.")
        return WeightsSpec.parse({"file": after, "format": before}, "--weights")
    if there == "folder" or (there is None and own_format is None):
        return WeightsSpec(folder=text)
    if own_format is None:
        choices = " or ".join(f"{name}:{text}" for name in FORMATS)
        raise _wrong(
            "a format for this file, because the spec has none", f"'{text}'", f"Add the format: --weights {choices}."
        )
    return WeightsSpec.parse({"file": text, "format": own_format}, "--weights")


def _wrong(expected: str, got: str, fix: str) -> SpecError:
    return SpecError("--weights", expected=expected, got=got, fix=fix)
