"""The kinds `family: stable_diffusion`, `sdxl`, `sd3` and `flux`: networks of diffusion pipelines."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bddn.backbones.diffusion.families import (
    FAMILIES,
    T5,
    UNET,
    encoders_of,
    names_of,
    outline_of,
    tokenizer_of,
    transformer_blocks,
    unit_of,
)
from bddn.backbones.family_kind import CONFIG, describe_fields
from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.backbones.weights.local import TRANSFORMERS_FILES, whole_or_shards
from bddn.spec import CacheSpec, DiffusionSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

PIPELINE = "model_index.json"
DIFFUSERS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


class DiffusionKind(Kind):
    """Networks of diffusion pipelines, run at steps between an image and noise."""

    spec = DiffusionSpec

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        from bddn.backbones.diffusion.network import DiffusionNetwork

        return DiffusionNetwork(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Missing fields of the architecture have the default values of diffusers."""
        about = spec.section(DiffusionSpec)
        blocks = outline_of(about.family, about.architecture, spec.image_hw)
        chosen = select(about.layers, names_of(blocks, about.n_steps), about.family)
        return {layer: blocks[layer.partition("@")[0]] for layer in chosen}

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """See `Kind.files`: a pipeline folder of diffusers, only with the files of the network, the autoencoder and
        the text encoders that the spec needs."""
        about = spec.section(DiffusionSpec)
        encoders = encoders_of(about)
        found = [PIPELINE] if PIPELINE in names else []
        lacks = []
        folders: dict[str, tuple[str, ...]] = {"scheduler": (".json",)}
        # the empty prompt of T5 follows from its configuration
        folders |= {tokenizer_of(part): (".json", ".txt") for part, kind in encoders.items() if kind != T5}
        for folder, ends in folders.items():
            matching = sorted(name for name in names if name.rpartition("/")[0] == folder and name.endswith(ends))
            found += matching
            lacks += [] if matching else [f"{folder}/*.json"]
        parts = dict.fromkeys((FAMILIES[about.family].network, "vae"), DIFFUSERS_FILES)
        for folder, files in (parts | dict.fromkeys(encoders, TRANSFORMERS_FILES)).items():
            weights = whole_or_shards(names, [f"{folder}/{name}" for name in files])
            config = f"{folder}/{CONFIG}"
            found += [config, *weights]
            there = {config: config in names, f"{folder}/{files[0]}": bool(weights)}
            lacks += [name for name, is_there in there.items() if not is_there]
        return found, ", ".join(lacks)

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        about = spec.section(DiffusionSpec)
        family = FAMILIES[about.family]
        widths = transformer_blocks(about.family, about.architecture.get("transformer", {})) if family.is_flow else {}
        return Description(
            family=family.short,
            network=f"{family.model} of diffusers, family {about.family}",
            outline=self.outline(spec),
            architecture=tuple(f"{part}: {describe_fields(fields)}" for part, fields in about.architecture.items())
            or ("unknown",),
            pixels="scaled to [-1, 1]",
            stored=f"outputs of {'image tokens of transformer' if family.is_flow else 'U-Net'} blocks in "
            f"{_path(about, family.is_flow)}, {_text(about)}, no guidance; "
            f"BLOCK@tK is the block at step K, counted from the clean image (t1) to noise (t{about.n_steps});",
            local="maps",
            blocks=f"{len(widths)}×{next(iter(widths.values()))}" if widths else "-",
            patch=str(unit_of(about.family, about.architecture)) if widths else "",
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """See `Kind.may_match`: it has the same family, steps and latents, and contains the layers."""
        about = spec.section(DiffusionSpec)
        alike = (about.family, about.n_steps, about.latents, about.noise_seed) == (
            _family_of(identity),
            identity.get("n_steps"),
            identity.get("latents", "inverted"),
            identity.get("noise_seed", 0),
        )
        return alike and set(layers) <= set(self.outline(spec))

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> DiffusionSpec | None:
        """See `Kind.section_of`. None if the text came from a file, which the identity does not contain."""
        family, text = _family_of(identity), identity.get("text", "encoded")
        if family is None or not isinstance(text, str):
            return None
        given = {
            "family": family,
            "architecture": {**identity["config"], "scheduler": identity["scheduler"]},
            "n_steps": identity["n_steps"],
            "latents": identity.get("latents", "inverted"),
            "noise_seed": identity.get("noise_seed", 0),
            "text": text,
            "layers": layers,
        }
        return DiffusionSpec.parse(given, "cache")


KIND = DiffusionKind()


def _family_of(identity: Mapping[str, Any]) -> str | None:
    """Return the family of a network; its identity does not name that of Stable Diffusion 1.x and 2.x."""
    named = identity.get("family", "stable_diffusion" if identity.get("class") == UNET else None)
    return named if named in FAMILIES else None


def _path(about: DiffusionSpec, is_flow: bool) -> str:
    if about.latents == "noised":
        return f"latents mixed with noise (seed {about.noise_seed}) at {about.n_steps} levels"
    return f"{'an inversion by Euler steps' if is_flow else 'a DDIM inversion'} of {about.n_steps} steps"


def _text(about: DiffusionSpec) -> str:
    if about.text == "encoded":
        return "empty prompt"
    return {"without_t5": "empty prompt with zeros for T5", "zeros": "zeros as text"}.get(
        about.text, "text embeddings of a file"
    )
