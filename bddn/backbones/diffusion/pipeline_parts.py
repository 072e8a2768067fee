"""Where the parts of a diffusion pipeline come from: a folder of diffusers, or random weights."""

import json
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from bddn.backbones.diffusion.families import FAMILIES, T5, Family, tokenizer_of
from bddn.backbones.weights.loading import UNREADABLE, first_line, keep_transformers_quiet, refuse_misfits
from bddn.errors import BackboneError, BddnError, SpecError
from bddn.files.filekind import explain, explain_folder
from bddn.machine.settings import seeded
from bddn.spec import DiffusionSpec

SCHEDULER = Path("scheduler") / "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model"  # stem of the file of a model of diffusers
WEIGHTS_OF_ENCODER = "pytorch_model"  # stem of a pickle of transformers


class Source(Protocol):
    """Where the parts come from."""

    def config(self, part: str) -> Mapping[str, Any]:
        """Return the configuration of a part; fields may be missing."""

    def model(self, part: str, dtype: torch.dtype) -> Any:
        """Return a model, if possible in this precision. It can be asked for once."""

    def clip_prompt(self, encoder: str, model: Any) -> Tensor:
        """Return the ids (1, T) of the empty prompt for a text encoder of CLIP."""

    def scheduler(self) -> tuple[Mapping[str, Any], object]:
        """Return the configuration of the scheduler, and its place for messages."""


class Folder(Source):
    """A pipeline folder of diffusers."""

    def __init__(self, folder: Path, family: Family, parts: tuple[str, ...]) -> None:
        self._folder, self._family = folder, family
        clip = [part for part in parts if part in family.encoders and family.encoders[part] != T5]
        names = (*parts, *map(tokenizer_of, clip), "scheduler")
        gone = [name for name in names if not (folder / name).is_dir()]
        if gone:
            raise BackboneError(
                folder,
                expected=f"a pipeline folder of diffusers, with {', '.join(names)}",
                got=f"a folder without {', '.join(gone)}",
                fix="Correct weights in the spec, or give --weights.",
            )

    def config(self, part: str) -> Mapping[str, Any]:
        place = self._folder / part / "config.json"
        return _json(place, f"the configuration of a {self._family.class_of(part)}")

    def model(self, part: str, dtype: torch.dtype) -> Any:
        folder, kind, is_encoder = self._folder / part, self._family.class_of(part), part in self._family.encoders
        # Pickles are read only if there is nothing else; both libraries read them as plain tensors (weights_only).
        pickled = folder / f"{WEIGHTS_OF_ENCODER if is_encoder else WEIGHTS}.bin"
        safetensors = any(folder.glob("*.safetensors")) or not pickled.is_file()
        options: dict[str, Any] = {"dtype": dtype} if is_encoder else {"torch_dtype": dtype, "low_cpu_mem_usage": False}
        try:
            named = json.loads((folder / "config.json").read_bytes()).get("_class_name", kind)
            if named != kind:
                raise ValueError(f"a {named} in config.json")
            model, info = _class(kind).from_pretrained(
                folder,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # listed below
                local_files_only=True,
                use_safetensors=safetensors,
                **options,
            )
        except Exception as error:
            raise not_readable(folder, f"weights of a {kind}", error) from error
        misfits = {
            "missing": sorted(info["missing_keys"]),
            "of another shape": sorted(str(key) for key in info["mismatched_keys"]),
            "unknown": sorted(info["unexpected_keys"]),
        }
        expected = f"the weights of a {kind}, all and only those"
        refuse_misfits(folder, expected, misfits, "Use weights that fit config.json.")
        return model

    def clip_prompt(self, encoder: str, model: Any) -> Tensor:
        from transformers import CLIPTokenizer

        folder = self._folder / tokenizer_of(encoder)
        length, size = model.config.max_position_embeddings, model.config.vocab_size
        try:
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            padding: dict[str, Any] = {"padding": "max_length", "max_length": length, "truncation": True}
            ids = tokenizer("", return_tensors="pt", **padding)["input_ids"]
            if int(ids.max()) >= size:
                raise ValueError(f"id {int(ids.max())}, where the text encoder knows {size}")
        except Exception as error:
            raise not_readable(folder, "a CLIP tokenizer", error) from error
        return torch.as_tensor(ids)

    def scheduler(self) -> tuple[Mapping[str, Any], object]:
        return _json(self._folder / SCHEDULER, "the configuration of a scheduler"), self._folder / SCHEDULER


class Untrained(Source):
    """Parts with random weights of a seed."""

    def __init__(self, about: DiffusionSpec, parts: tuple[str, ...], seed: int) -> None:
        from transformers import CLIPTextConfig, T5Config

        family, self._given = FAMILIES[about.family], about.architecture
        gone = sorted({*parts, "scheduler"} - self._given.keys())
        known = {  # constructors of the other parts check their fields
            part: (T5Config if kind == T5 else CLIPTextConfig)().to_dict().keys()
            for part, kind in family.encoders.items()
        }
        known["scheduler"] = {name for kind in _schedulers(family) for name in signature(kind).parameters}
        unknown = [f"{part}.{name}" for part in known for name in self._given.get(part, {}) if name not in known[part]]
        if gone or unknown:
            raise SpecError(
                "backbone.architecture",
                expected=f"{', '.join(parts)} and scheduler, from which the network is built",
                got=f"no {', '.join(gone)}" if gone else f"unknown: {', '.join(unknown)}",
                fix="Correct it in the spec.",
            )
        try:
            with seeded(seed):
                self._models = {part: self._build(family.class_of(part), part) for part in parts}
        except Exception as error:
            raise SpecError(
                "backbone.architecture",
                expected=family.title,
                got=first_line(error),
                fix="Correct these fields in the spec.",
            ) from error

    def config(self, part: str) -> Mapping[str, Any]:
        return self._given[part]

    def model(self, part: str, dtype: torch.dtype) -> Any:
        return self._models.pop(part)

    def clip_prompt(self, encoder: str, model: Any) -> Tensor:
        """See `Source.clip_prompt`: the last two ids are begin and end of a text."""
        size = model.config.vocab_size
        return torch.tensor([[size - 2] + [size - 1] * (model.config.max_position_embeddings - 1)])

    def scheduler(self) -> tuple[Mapping[str, Any], object]:
        return self._given["scheduler"], "backbone.architecture.scheduler"

    def _build(self, kind: str, part: str) -> Any:
        import transformers

        if part.startswith("text_encoder"):
            config = transformers.T5Config if kind == T5 else transformers.CLIPTextConfig
            return _class(kind)(config(**self._given[part]))
        return _class(kind)(**self._given[part])


def _class(kind: str) -> Any:
    import diffusers
    import transformers

    return getattr(diffusers, kind, None) or getattr(transformers, kind)


def _schedulers(family: Family) -> tuple[Any, ...]:
    """Return the classes of schedulers whose fields a configuration may have."""
    from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, PNDMScheduler

    return (FlowMatchEulerDiscreteScheduler,) if family.is_flow else (DDIMScheduler, PNDMScheduler)


def _json(place: Path, what: str) -> dict[str, Any]:
    try:
        return dict(json.loads(place.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise not_readable(place, what, error) from error


def not_readable(place: object, what: str, error: Exception) -> BddnError:
    """Return the error about a folder or file that cannot be read."""
    got, fix = first_line(error), UNREADABLE
    if isinstance(place, Path) and place.is_dir():
        names = sorted(path.name for path in place.iterdir() if path.suffix in (".json", ".safetensors", ".bin"))
        got, fix = explain_folder(place, names, got, fix)
    elif isinstance(place, Path):
        got, fix = explain(place, got, fix)
    return BackboneError(place, expected=what, got=got, fix=fix)


def keep_quiet() -> None:
    """Turn off progress bars and warnings of both libraries."""
    from diffusers.utils import logging

    keep_transformers_quiet()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
