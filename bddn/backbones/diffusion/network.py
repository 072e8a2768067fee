"""Networks of diffusion pipelines as backbones: outputs of their blocks at steps between an image and noise.

The latent z₀ of an image is the mode of the autoencoder's posterior (not a sample), shifted and scaled as the
autoencoder says. `n_steps` steps then lead to noise, with the empty prompt and without guidance; `noise_levels`
describes them. Each step calls the network once. With 50 steps and the scheduler of Stable Diffusion 1.x, inverted:

==========================  =======  ========  ===  ============  ===  =======
step k                      1        2         …    k             …    50
timestep input of U-Net     1        21        …    1 + 20(k−1)   …    981
latent input of U-Net       z₀       z₁        …    z₍ₖ₋₁₎        …    z₄₉
noise level of that latent  (clean)  ᾱ(1)      …    ᾱ(20k − 39)   …    ᾱ(961)
==========================  =======  ========  ===  ============  ===  =======

So `@t1` is close to the clean image and `@t50` close to noise.

Diffusion Hyperfeatures counts from noise, s = n_steps − k, so its 49 is our t1 and its 0 our t50. Its code also differs
in three points: the U-Net gets the timestep of its latent (−1, 0, 20, …, 960), the latent is a sample, and features are
read before the shortcut of a residual block is added. The paper on maps of the brain does not say from which end its
time steps T count. `cache_specs/sd_t20`, `sd_t25` and `sd_t40` take them from noise: t30, t25 and t10.

Layers are complete outputs of residual blocks and of transformers: `down_0.resnet_0`, `down_0.attention_0`, …,
`mid.resnet_0`, `mid.attention_0`, `mid.resnet_1`, `up_0.resnet_0`, …, each at a step. Hyperfeatures numbers the
12 residual blocks of the decoder from 0; its layer L is `up_{L // 3}.resnet_{L % 3}`: layer 6 is `up_2.resnet_0`.
Blocks of transformers are `block_0`, … (Stable Diffusion 3), and `double_0`, …, `single_0`, … (FLUX.1).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from bddn.backbones.diffusion.denoisers import Denoiser, Flux, StableDiffusion3, UNet
from bddn.backbones.diffusion.families import FAMILIES, names_of, unit_of
from bddn.backbones.diffusion.identity import identity_of
from bddn.backbones.diffusion.noise_levels import DdimLevels, FlowLevels, Levels, fixed_noise
from bddn.backbones.diffusion.pipeline import Pipeline, load
from bddn.backbones.hooks import LayerHooks, Reduce, compile_blocks, frozen, pooling
from bddn.backbones.layers import select
from bddn.backbones.preprocess import HALF, squash
from bddn.backbones.weights.loading import refuse_cls
from bddn.errors import SpecError
from bddn.spec import CacheSpec, DiffusionSpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image


class DiffusionNetwork:
    """The frozen network of a diffusion pipeline, a `Backbone` whose layers are its blocks at each step, by step.

    Parameters
    ----------
    spec : CacheSpec
        With a backbone of a family of `diffusion_families`, `preprocess: native` and `global_token: mean`.
    device : str
        'cpu' or 'cuda'. The prompt is always encoded on the CPU.

    Raises
    ------
    BackboneError
        If parts or weights are missing or do not fit.
    SpecError
        If this model does not support the spec.
    """

    def __init__(self, spec: CacheSpec, device: str = "cpu") -> None:
        about = spec.section(DiffusionSpec)
        assert spec.weights is not None
        _check(spec)
        parts = load(spec)
        self._spec, self._device = spec, device
        self._vae = parts.vae
        _check_size(spec, parts)
        factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
        latent_hw = (spec.image_hw[0] // factor, spec.image_hw[1] // factor)
        self._denoiser = _denoiser(about.family, parts, spec.image_hw, latent_hw, device)
        self._levels = _levels(about, parts, latent_hw)
        self._noise: Tensor | None = None
        if about.latents == "noised":
            self._noise = fixed_noise((parts.vae.config.latent_channels, *latent_hw), about.noise_seed).to(device)
        blocks = self._denoiser.blocks
        self.layers = select(about.layers, names_of(blocks, about.n_steps), spec.weights.place)
        self._at = _by_step(self.layers)
        self.identity: dict[str, Any] = identity_of(about, parts, self._levels, self._at)
        self._denoiser.network.to(device)
        self._vae.to(device)
        if spec.compile:
            compile_blocks(blocks)
        wanted = {name for names in self._at for name in names}
        self._hooks = LayerHooks({name: block for name, block in blocks.items() if name in wanted}, self._read)

    def preprocess(self, image: "Image") -> Tensor:
        return squash(image, self._spec.image_hw, HALF, HALF)

    def __call__(self, pixels: Tensor) -> Tokens:
        clean = self._latent(pixels)
        latent, reduce = clean, pooling(self._spec)
        found: dict[str, LayerTokens] = {}
        with frozen(self._device, self._spec.autocast):
            for k, names in enumerate(self._at):
                if self._noise is None:
                    tokens, latent = self._step(k, latent, names, reduce, k == len(self._at) - 1)
                elif names:
                    tokens, _ = self._step(k, self._levels.noised(k, clean, self._noise), names, reduce, last=True)
                else:
                    continue
                found |= {f"{name}@t{k + 1}": layer for name, layer in tokens.items()}
        return Tokens(found)

    def each_layer(self, pixels: Tensor, reduce: Reduce) -> dict[str, Any]:
        """See `ShowsFullSize.each_layer`. Blocks run at step 1, because all steps run the same blocks."""
        wanted = list(dict.fromkeys(name for names in self._at for name in names))
        latent = self._latent(pixels)
        with frozen(self._device, self._spec.autocast):
            first = latent if self._noise is None else self._levels.noised(0, latent, self._noise)
            return self._step(0, first, wanted, reduce, last=True)[0]

    def _latent(self, pixels: Tensor) -> Tensor:
        with frozen(self._device, None):  # always full precision, because all steps start from this latent
            latent = self._vae.encode(pixels.to(self._device)).latent_dist.mode()
        return (latent - (self._vae.config.shift_factor or 0.0)) * self._vae.config.scaling_factor  # type: ignore[no-any-return]

    def _step(
        self, k: int, latent: Tensor, names: Sequence[str], reduce: Reduce, last: bool
    ) -> tuple[dict[str, Any], Tensor]:
        """Return reduced tokens of blocks at step k (from 0), and the next latent (the same after the last step)."""
        outputs: list[Tensor] = []
        timestep = self._levels.timesteps[k]
        tokens = self._hooks.run(
            lambda: outputs.append(self._denoiser(latent, timestep)),
            names,
            reduce,
            stop=last,
        )
        return tokens, latent if last else self._levels.next(k, latent, outputs[0].float())

    def _read(self, name: str, output: Any) -> LayerTokens:
        return self._denoiser.tokens(output)


def _denoiser(
    family: str, parts: Pipeline, image_hw: tuple[int, int], latent_hw: tuple[int, int], device: str
) -> Denoiser:
    if family == "sd3":
        return StableDiffusion3(parts.network, parts.text, latent_hw, device)
    if family == "flux":
        return Flux(parts.network, parts.text, latent_hw, device)
    return UNet(parts.network, parts.text, image_hw, device)


def _levels(about: DiffusionSpec, parts: Pipeline, latent_hw: tuple[int, int]) -> Levels:
    if not FAMILIES[about.family].is_flow:
        return DdimLevels(parts.scheduler, about.n_steps, about.latents == "noised")
    unit = unit_of(about.family, parts.configs) // 2 ** (len(parts.vae.config.block_out_channels) - 1)
    return FlowLevels(parts.scheduler, about.n_steps, (latent_hw[0] // unit) * (latent_hw[1] // unit))


def _by_step(layers: Sequence[str]) -> list[list[str]]:
    """Return the selected blocks of each step, up to the last step that has one."""
    pairs = [(block, int(k)) for block, _, k in (layer.partition("@t") for layer in layers)]
    return [[block for block, k in pairs if k == step] for step in range(1, pairs[-1][1] + 1)]


def _check(spec: CacheSpec) -> None:
    if spec.preprocess == "paper":
        raise SpecError(
            f"spec '{spec.title}'",
            expected="pixels in [-1, 1], as the autoencoder needs",
            got="preprocess: paper",
            fix="Set preprocess: native in the spec.",
        )
    refuse_cls(spec)


def _check_size(spec: CacheSpec, parts: Pipeline) -> None:
    """Check that autoencoder and network can reduce the image, and that a transformer knows all its places."""
    about = spec.section(DiffusionSpec)
    (height, width), unit = spec.image_hw, unit_of(about.family, parts.configs)
    if height % unit or width % unit:
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"image_size to be a multiple of {unit}, because autoencoder and network reduce it by this factor",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
    most = parts.network.config.get("pos_embed_max_size")
    if most is not None and max(height, width) > most * unit:
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"image_size up to {most * unit}, because the network knows {most} × {most} places",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
