"""What the option --weights means."""

from pathlib import Path
from typing import Literal

from bddn.backbones.convert import FORMATS
from bddn.backbones.kind import kind_of
from bddn.errors import SpecError
from bddn.files.paths import expand_home
from bddn.spec import CacheSpec, WeightsSpec


def with_weights(spec: CacheSpec, text: str) -> CacheSpec:
    """The spec with the weights of the option --weights.

    Raises
    ------
    SpecError
        Where the option cannot be read, or the spec's network brings its weights.
    """
    if spec.backbone is not None and spec.backbone.brings_weights:
        raise SpecError(
            "--weights",
            expected="a backbone whose weights the spec names",
            got=f"one of which {kind_of(spec).describe(spec).weights}",
            fix="Leave it out.",
        )
    path = Path(expand_home(text))
    there: Literal["file", "folder"] | None = "file" if path.is_file() else "folder" if path.is_dir() else None
    weights = weights_of(text, there, None if spec.weights is None else spec.weights.format)
    return spec.model_copy(update={"weights": weights})


def weights_of(text: str, there: Literal["file", "folder"] | None, own_format: str | None) -> WeightsSpec:
    """The weights that an option asks for.

    Parameters
    ----------
    text : str
        A folder; a file; FORMAT:FILE; random or random:SEED.
    there : {'file', 'folder'}, optional
        What is on this machine under that path.
    own_format : str, optional
        Of the spec's own weights, where they are a foreign checkpoint.

    Raises
    ------
    SpecError
        Where it is a file of which no format is known, or a seed that is none.
    """
    before, colon, after = text.partition(":")
    if before == "random":
        seed = after if colon else "0"
        if not (seed.isascii() and seed.isdecimal()):
            raise _wrong("random:SEED, with a whole number from 0", text, "Correct it; for a folder, say ./random.")
        return WeightsSpec(random=int(seed))
    if before in FORMATS and colon:
        if not after:
            raise _wrong(f"a file after {before}:", "none", "Add its path.")
        return WeightsSpec.parse({"file": after, "format": before}, "--weights")
    if there == "folder" or (there is None and own_format is None):
        return WeightsSpec(folder=text)
    if own_format is None:
        choices = " or ".join(f"{name}:{text}" for name in FORMATS)
        raise _wrong(
            "a format for this file, since the spec names none", f"'{text}'", f"Say whose it is: --weights {choices}."
        )
    return WeightsSpec.parse({"file": text, "format": own_format}, "--weights")


def _wrong(expected: str, got: str, fix: str) -> SpecError:
    return SpecError("--weights", expected=expected, got=got, fix=fix)
