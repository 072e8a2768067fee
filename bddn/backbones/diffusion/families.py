"""The pipelines of diffusers that bddn reads: their parts, and the blocks of their networks by name.

Nothing here imports torch or diffusers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bddn.backbones.kind import Outline
from bddn.errors import SpecError
from bddn.spec import DiffusionSpec

CLIP, CLIP_PROJECTED, T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
VAE_LEVELS = 4  # default if the configuration of the autoencoder does not say
PACKED = 2  # rows and columns of the latent in one token of FLUX
STABLE_DIFFUSION_1: dict[str, Any] = {  # default values of diffusers
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
TRANSFORMERS: dict[str, dict[str, int]] = {  # default values of diffusers
    "sd3": {"num_layers": 18, "num_attention_heads": 18, "attention_head_dim": 64, "patch_size": 2},
    "flux": {"num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128},
}
HAS_ATTENTION = {"CrossAttnDownBlock2D": True, "DownBlock2D": False, "CrossAttnUpBlock2D": True, "UpBlock2D": False}


@dataclass(frozen=True)
class Family:
    """A class of pipelines.

    Attributes
    ----------
    network : str
        Folder of the network: 'unet' or 'transformer'.
    model : str
        Its class in diffusers.
    encoders : mapping of str to str
        Folders of the text encoders, and their classes in transformers.
    short : str
        Text of the table of `bddn backbones`.
    title : str
        The network in messages.
    is_flow : bool
        Whether it was trained by flow matching; otherwise by diffusion with the noise levels of DDPM.
    """

    network: str
    model: str
    encoders: Mapping[str, str]
    short: str
    title: str
    is_flow: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders of all models."""
        return (self.network, "vae", *self.encoders)

    def class_of(self, part: str) -> str:
        """Return the class of a part."""
        return {self.network: self.model, "vae": "AutoencoderKL", **self.encoders}[part]


UNET = "UNet2DConditionModel"
FAMILIES = {
    "stable_diffusion": Family("unet", UNET, {"text_encoder": CLIP}, "SD U-Net", "a U-Net of Stable Diffusion 1 or 2"),
    "sdxl": Family(
        "unet",
        UNET,
        {"text_encoder": CLIP, "text_encoder_2": CLIP_PROJECTED},
        "SDXL U-Net",
        "a U-Net of Stable Diffusion XL",
    ),
    "sd3": Family(
        "transformer",
        "SD3Transformer2DModel",
        {"text_encoder": CLIP_PROJECTED, "text_encoder_2": CLIP_PROJECTED, "text_encoder_3": T5},
        "SD3",
        "a transformer of Stable Diffusion 3",
        is_flow=True,
    ),
    "flux": Family(
        "transformer",
        "FluxTransformer2DModel",
        {"text_encoder": CLIP, "text_encoder_2": T5},
        "FLUX",
        "a transformer of FLUX.1",
        is_flow=True,
    ),
}


def encoders_of(about: DiffusionSpec) -> dict[str, str]:
    """Return the folders and classes of the text encoders that a spec needs."""
    every = FAMILIES[about.family].encoders
    if about.text == "encoded":
        return dict(every)
    return {part: kind for part, kind in every.items() if kind != T5} if about.text == "without_t5" else {}


def tokenizer_of(encoder: str) -> str:
    """Return the folder of the tokenizer of a text encoder."""
    return encoder.replace("text_encoder", "tokenizer")


def names_of(blocks: Mapping[str, object], n_steps: int) -> tuple[str, ...]:
    """Return the names of all layers, by step: every block at every step."""
    return tuple(f"{block}@t{k}" for k in range(1, n_steps + 1) for block in blocks)


def unit_of(family: str, architecture: Mapping[str, Mapping[str, Any]]) -> int:
    """Return the factor by which autoencoder and network reduce the image, in their coarsest block."""
    network = architecture.get(FAMILIES[family].network, {})
    autoencoder = 2 ** (len(architecture.get("vae", {}).get("block_out_channels", [0] * VAE_LEVELS)) - 1)
    if FAMILIES[family].network == "unet":
        return int(autoencoder * 2 ** (len({**STABLE_DIFFUSION_1, **network}["block_out_channels"]) - 1))
    return int(autoencoder * (PACKED if family == "flux" else _sizes(family, network)["patch_size"]))


def outline_of(
    family: str, architecture: Mapping[str, Mapping[str, Any]], image_hw: tuple[int, int]
) -> dict[str, Outline]:
    """Return the blocks of the network in the order in which they run.

    Parameters
    ----------
    family : str
    architecture : mapping
        Configurations of the parts. Missing fields have the default values of diffusers.
    image_hw : (int, int)
        Height and width of the image in pixels.
    """
    network, unit = architecture.get(FAMILIES[family].network, {}), unit_of(family, architecture)
    if FAMILIES[family].network == "unet":
        n_levels = len({**STABLE_DIFFUSION_1, **network}["block_out_channels"])
        units = {name: unit >> (n_levels - 1 - _level(name, n_levels)) for name in unet_blocks(network)}
        widths = unet_blocks(network)
    else:
        widths = transformer_blocks(family, network)
        units = dict.fromkeys(widths, unit)
    height, width = image_hw
    return {name: Outline(widths[name], (height // side, width // side)) for name, side in units.items()}


def transformer_blocks(family: str, architecture: Mapping[str, Any]) -> dict[str, int]:
    """Return the number of channels of each block of a transformer by name, in the order in which blocks run."""
    sizes = _sizes(family, architecture)
    width = sizes["num_attention_heads"] * sizes["attention_head_dim"]
    if family == "sd3":
        return {f"block_{i}": width for i in range(sizes["num_layers"])}
    double = {f"double_{i}": width for i in range(sizes["num_layers"])}
    return double | {f"single_{i}": width for i in range(sizes["num_single_layers"])}


def unet_blocks(architecture: Mapping[str, Any]) -> dict[str, int]:
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


def _level(block: str, n_levels: int) -> int:
    """Return how many times the latent is halved before a block of the U-Net: levels go down from 0, and up to 0."""
    side, _, i = block.partition(".")[0].partition("_")
    return int(i) if side == "down" else n_levels - 1 - (int(i) if side == "up" else 0)


def _level_blocks(name: str, depth: int, attention: bool, width: int) -> dict[str, int]:
    kinds = ("resnet", "attention") if attention else ("resnet",)
    return {f"{name}.{kind}_{j}": width for j in range(depth) for kind in kinds}


def _sizes(family: str, architecture: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes of a transformer, which must be whole numbers."""
    sizes = {name: architecture.get(name, default) for name, default in TRANSFORMERS[family].items()}
    wrong = [f"{name} {size!r}" for name, size in sizes.items() if not isinstance(size, int) or size < 1]
    if wrong:
        raise SpecError(
            "backbone.architecture.transformer",
            expected="whole numbers from 1",
            got=", ".join(wrong),
            fix="Correct them in the spec; the specs in cache_specs/ are examples.",
        )
    return sizes


def _wrong_unet(expected: str, got: str) -> SpecError:
    return SpecError("the U-Net", expected=expected, got=got, fix="Use a U-Net of Stable Diffusion 1, 2 or XL.")
