"""The kind `family: stable_diffusion`: U-Nets of Stable Diffusion, and the names of their blocks."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bddn.backbones.family_kind import CONFIG, describe_fields
from bddn.backbones.kind import Description, Kind, Outline
from bddn.backbones.layers import select
from bddn.backbones.weights import TRANSFORMERS_FILES, whole_or_shards
from bddn.errors import SpecError
from bddn.spec import CacheSpec, DiffusionSpec

if TYPE_CHECKING:
    from bddn.backbones.backbone import Backbone

UNET = "UNet2DConditionModel"
PIPELINE = "model_index.json"
DIFFUSERS_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
PARTS = {"unet": DIFFUSERS_FILES, "vae": DIFFUSERS_FILES, "text_encoder": TRANSFORMERS_FILES}
VAE_LEVELS = 4  # default if the configuration of the autoencoder does not say
STABLE_DIFFUSION_1: dict[str, Any] = {  # default values of diffusers
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
HAS_ATTENTION = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}


class DiffusionKind(Kind):
    """U-Nets of Stable Diffusion, run while an image is inverted."""

    spec = DiffusionSpec

    def open(self, spec: CacheSpec, device: str) -> "Backbone":
        """See `Kind.open`."""
        from bddn.backbones.diffusion import StableDiffusion

        return StableDiffusion(spec, device)

    def outline(self, spec: CacheSpec) -> dict[str, Outline]:
        """See `Kind.outline`. Missing fields of the architecture are those of Stable Diffusion 1.x."""
        about = spec.section(DiffusionSpec)
        unet, vae = (about.architecture.get(part, {}) for part in ("unet", "vae"))
        n_levels = len({**STABLE_DIFFUSION_1, **unet}["block_out_channels"])
        widths = vae.get("block_out_channels", [0] * VAE_LEVELS)
        assert isinstance(widths, list)
        blocks = blocks_of(unet)
        found = {}
        for layer in select(about.layers, names_of(blocks, about.n_steps), "stable_diffusion"):
            unit = 2 ** (len(widths) - 1 + _level(layer, n_levels))
            height, width = spec.image_hw
            found[layer] = Outline(blocks[layer.partition("@")[0]], (height // unit, width // unit))
        return found

    def files(self, spec: CacheSpec, names: Collection[str]) -> tuple[list[str], str]:
        """See `Kind.files`: a pipeline folder of diffusers, only with the files of U-Net, autoencoder and prompt."""
        found = [PIPELINE] if PIPELINE in names else []
        lacks = []
        for folder, ends in (("scheduler", (".json",)), ("tokenizer", (".json", ".txt"))):
            matching = sorted(name for name in names if name.rpartition("/")[0] == folder and name.endswith(ends))
            found += matching
            lacks += [] if matching else [f"{folder}/*.json"]
        for folder, files in PARTS.items():
            weights = whole_or_shards(names, [f"{folder}/{name}" for name in files])
            config = f"{folder}/{CONFIG}"
            found += [config, *weights]
            there = {config: config in names, f"{folder}/{files[0]}": bool(weights)}
            lacks += [name for name, is_there in there.items() if not is_there]
        return found, ", ".join(lacks)

    def describe(self, spec: CacheSpec, network: "Backbone | None" = None) -> Description:
        """See `Kind.describe`."""
        about = spec.section(DiffusionSpec)
        return Description(
            family="SD U-Net",
            network=f"{UNET} of diffusers, family stable_diffusion",
            outline=self.outline(spec),
            architecture=tuple(f"{part}: {describe_fields(fields)}" for part, fields in about.architecture.items())
            or ("unknown",),
            pixels="scaled to [-1, 1]",
            stored=f"outputs of U-Net blocks in a DDIM inversion of {about.n_steps} steps, empty prompt, no guidance; "
            f"BLOCK@tK is the block at step K, counted from the clean image (t1) to noise (t{about.n_steps});",
            local="maps",
        )

    def may_match(self, spec: CacheSpec, layers: Sequence[str], identity: Mapping[str, Any]) -> bool:
        """See `Kind.may_match`: it has the same number of steps and contains the layers."""
        return identity.get("n_steps") == spec.section(DiffusionSpec).n_steps and set(layers) <= set(self.outline(spec))

    def section_of(self, identity: Mapping[str, Any], layers: Sequence[str]) -> DiffusionSpec | None:
        """See `Kind.section_of`."""
        if identity.get("class") != UNET:
            return None
        parts = {**identity["config"], "scheduler": identity["scheduler"]}
        given = {"family": "stable_diffusion", "architecture": parts, "n_steps": identity["n_steps"], "layers": layers}
        return DiffusionSpec.parse(given, "cache")


KIND = DiffusionKind()


def blocks_of(architecture: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of channels of each block of a U-Net by name, in the order in which blocks run.

    Parameters
    ----------
    architecture : mapping
        Configuration of the U-Net. Missing fields are those of Stable Diffusion 1.x.
    """
    fields = {name: architecture.get(name, default) for name, default in STABLE_DIFFUSION_1.items()}
    widths, down, up = (fields[name] for name in ("block_out_channels", "down_block_types", "up_block_types"))
    depths = fields["layers_per_block"]
    depths = [depths] * len(widths) if isinstance(depths, int) else list(depths)
    kinds = [*down, *up]
    middle = {"UNetMidBlock2DCrossAttn": True, None: False}
    if not (set(kinds) <= HAS_ATTENTION.keys() and fields["mid_block_type"] in middle):
        raise _wrong_unet(f"blocks of {', '.join(HAS_ATTENTION)}", f"{kinds}, {fields['mid_block_type']}")
    if not len(widths) == len(depths) == len(down) == len(up):
        raise _wrong_unet("one type, depth and width for each level", f"{kinds}, {depths}, {list(widths)}")
    blocks: dict[str, int] = {}
    for i, (kind, depth, width) in enumerate(zip(down, depths, widths, strict=True)):
        blocks |= _level_blocks(f"down_{i}", depth, HAS_ATTENTION[kind], width)
    if middle[fields["mid_block_type"]]:
        blocks |= {f"mid.{name}": widths[-1] for name in ("resnet_0", "attention_0", "resnet_1")}
    for i, (kind, depth, width) in enumerate(zip(up, depths[::-1], widths[::-1], strict=True)):
        blocks |= _level_blocks(f"up_{i}", depth + 1, HAS_ATTENTION[kind], width)
    return blocks


def names_of(blocks: Mapping[str, object], n_steps: int) -> tuple[str, ...]:
    """Return the names of all layers, by step: every block at every step."""
    return tuple(f"{block}@t{k}" for k in range(1, n_steps + 1) for block in blocks)


def _level(layer: str, n_levels: int) -> int:
    """Return how many times the latent is halved before a block of the U-Net: levels go down from 0, and up to 0."""
    side, _, i = layer.partition(".")[0].partition("_")
    return int(i) if side == "down" else n_levels - 1 - (int(i) if side == "up" else 0)


def _level_blocks(name: str, depth: int, attention: bool, width: int) -> dict[str, int]:
    kinds = ("resnet", "attention") if attention else ("resnet",)
    return {f"{name}.{kind}_{j}": width for j in range(depth) for kind in kinds}


def _wrong_unet(expected: str, got: str) -> SpecError:
    return SpecError("the U-Net", expected=expected, got=got, fix="Use a U-Net of Stable Diffusion 1 or 2.")
