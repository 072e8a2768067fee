"""The networks of diffusion pipelines behind one interface: a latent and a timestep in, a prediction out.

Transformers have two streams of tokens, of the image and of the text, and their blocks return both. Only the stream of
the image is read: text tokens have no place in the image, and the text is the same for all images.

Shape letters: B images, C channels, H rows, W columns of a latent, T tokens.
"""

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bddn.backbones.diffusion.families import PACKED, transformer_blocks, unet_blocks
from bddn.backbones.diffusion.prompt import Text
from bddn.errors import BackboneError
from bddn.tokens import LayerTokens

GUIDANCE = 1.0  # of FLUX.1 dev: none, as the prompt is empty


class Denoiser(Protocol):
    """A network with a fixed text; its `blocks` by name, in the order in which they run."""

    network: Any
    blocks: dict[str, nn.Module]

    def __call__(self, latent: Tensor, timestep: float) -> Tensor:
        """Return the prediction (B, C, H, W) for latents (B, C, H, W)."""

    def tokens(self, output: Any) -> LayerTokens:
        """Return the tokens in the output of a block."""


class UNet(Denoiser):
    """A U-Net of Stable Diffusion 1.x, 2.x, or XL, which also gets the size of the image."""

    def __init__(self, network: Any, text: Text, image_hw: tuple[int, int], device: str) -> None:
        self.network = network
        self.blocks: dict[str, nn.Module] = {name: _unet_module(network, name) for name in unet_blocks(network.config)}
        self._text = text.embeds.to(device)
        sizes = torch.tensor([[*image_hw, 0, 0, *image_hw]], device=device)  # before a crop, its corner, after it
        self._added = None if text.pooled is None else (text.pooled.to(device), sizes)

    def __call__(self, latent: Tensor, timestep: float) -> Tensor:
        n = len(latent)
        added: dict[str, Any] = {}
        if self._added is not None:
            pooled, sizes = self._added
            added = {"added_cond_kwargs": {"text_embeds": pooled.expand(n, -1), "time_ids": sizes.expand(n, -1)}}
        out = self.network(latent, timestep, encoder_hidden_states=self._text.expand(n, -1, -1), **added)
        return out.sample  # type: ignore[no-any-return]

    def tokens(self, output: Any) -> LayerTokens:
        return LayerTokens(output[0] if isinstance(output, tuple) else output)


class StableDiffusion3(Denoiser):
    """A transformer of Stable Diffusion 3.x, whose tokens are 2 × 2 places of the latent."""

    def __init__(self, network: Any, text: Text, latent_hw: tuple[int, int], device: str) -> None:
        assert text.pooled is not None
        self.network = network
        self.blocks: dict[str, nn.Module] = dict(
            zip(transformer_blocks("sd3", network.config), network.transformer_blocks, strict=True)
        )
        self._text, self._pooled = text.embeds.to(device), text.pooled.to(device)
        side = network.config.patch_size
        self._places = (latent_hw[0] // side, latent_hw[1] // side)

    def __call__(self, latent: Tensor, timestep: float) -> Tensor:
        n = len(latent)
        out = self.network(
            hidden_states=latent,
            timestep=torch.full((n,), timestep, device=latent.device),
            encoder_hidden_states=self._text.expand(n, -1, -1),
            pooled_projections=self._pooled.expand(n, -1),
        )
        return out.sample  # type: ignore[no-any-return]

    def tokens(self, output: Any) -> LayerTokens:
        return _image_stream(output, self._places)


class Flux(Denoiser):
    """A transformer of FLUX.1, which gets latents packed as tokens of 2 × 2 places, and the row and column of each."""

    def __init__(self, network: Any, text: Text, latent_hw: tuple[int, int], device: str) -> None:
        assert text.pooled is not None
        self.network = network
        modules = [*network.transformer_blocks, *network.single_transformer_blocks]
        self.blocks: dict[str, nn.Module] = dict(zip(transformer_blocks("flux", network.config), modules, strict=True))
        self._text, self._pooled = text.embeds.to(device), text.pooled.to(device)
        self._places = rows, columns = latent_hw[0] // PACKED, latent_hw[1] // PACKED
        at = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        self._image_ids = torch.stack([torch.zeros(rows, columns), *at], -1).flatten(0, 1).to(device)
        self._text_ids = torch.zeros(self._text.shape[1], 3, device=device)

    def __call__(self, latent: Tensor, timestep: float) -> Tensor:
        n, device, guidance = len(latent), latent.device, None
        if self.network.config.guidance_embeds:
            guidance = torch.full((n,), GUIDANCE, device=device)
        out = self.network(
            hidden_states=self._packed(latent),
            timestep=torch.full((n,), timestep / 1000, device=device),
            guidance=guidance,
            encoder_hidden_states=self._text.expand(n, -1, -1),
            pooled_projections=self._pooled.expand(n, -1),
            txt_ids=self._text_ids,
            img_ids=self._image_ids,
        )
        return self._unpacked(out.sample)

    def tokens(self, output: Any) -> LayerTokens:
        return _image_stream(output, self._places)

    def _packed(self, latent: Tensor) -> Tensor:
        """Return (B, T, 4·C) of latents (B, C, H, W), row by row."""
        blocks: Tensor = latent.unflatten(3, (-1, PACKED)).unflatten(2, (-1, PACKED))  # (B, C, H/2, 2, W/2, 2)
        return blocks.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def _unpacked(self, tokens: Tensor) -> Tensor:
        """Return (B, C, H, W) of tokens (B, T, 4·C)."""
        blocks: Tensor = tokens.unflatten(2, (-1, PACKED, PACKED)).unflatten(1, self._places)  # (B, H/2, W/2, C, 2, 2)
        return blocks.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _image_stream(output: Any, places: tuple[int, int]) -> LayerTokens:
    """Return the image's tokens of a block that returns (text or None, image).

    Raises
    ------
    BackboneError
        If the output has another form, as in other versions of diffusers.
    """
    pair = isinstance(output, tuple) and len(output) == 2
    if not pair or output[1].ndim != 3 or output[1].shape[1] != places[0] * places[1]:
        raise BackboneError(
            "a block of the transformer",
            expected=f"the streams of text and image, the latter of {places[0] * places[1]} tokens",
            got=f"a tuple of {len(output)}" if isinstance(output, tuple) else type(output).__name__,
            fix="Install the version of diffusers in constraints.txt.",
        )
    return LayerTokens(output[1].transpose(1, 2).unflatten(2, places))


def _unet_module(unet: Any, name: str) -> nn.Module:
    """Return a submodule by the name of its block."""
    level, _, part = name.partition(".")
    side, _, i = level.partition("_")
    kind, _, j = part.partition("_")
    block = unet.mid_block if side == "mid" else getattr(unet, f"{side}_blocks")[int(i)]
    found: nn.Module = getattr(block, f"{kind}s")[int(j)]
    return found
