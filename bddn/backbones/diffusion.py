"""Stable Diffusion as a backbone: outputs of its U-Net while an image is inverted to noise.

The latent z₀ of an image is the mode of the autoencoder's posterior (not a sample), times its scaling factor. DDIM
inversion then increases the noise level in `n_steps` steps, with the empty prompt and without guidance. Each step calls
the U-Net once. With 50 steps and the scheduler of Stable Diffusion 1.x:

==========================  =======  ========  ===  ============  ===  =======
step k                      1        2         …    k             …    50
timestep input of U-Net     1        21        …    1 + 20(k−1)   …    981
latent input of U-Net       z₀       z₁        …    z₍ₖ₋₁₎        …    z₄₉
noise level of that latent  (clean)  ᾱ(1)      …    ᾱ(20k − 39)   …    ᾱ(961)
==========================  =======  ========  ===  ============  ===  =======

So `@t1` is close to the clean image and `@t50` close to noise. `DDIMInverseScheduler.step` reads the timestep of a step
as the level after it: the U-Net gets that timestep, with the latent of the level before. At step 1 the latent is clean,
and the scheduler treats it as one of level 0 (ᾱ = 0.999), because of `set_alpha_to_one: false`.

Diffusion Hyperfeatures counts from noise, s = n_steps − k, so its 49 is our t1 and its 0 our t50. Its code also differs
in three points: the U-Net gets the timestep of its latent (−1, 0, 20, …, 960), the latent is a sample, and features are
read before the shortcut of a residual block is added. The paper on maps of the brain does not say from which end its
time steps T count. `cache_specs/sd_t20`, `sd_t25` and `sd_t40` take them from noise: t30, t25 and t10.

Layers are complete outputs of residual blocks and of transformers: `down_0.resnet_0`, `down_0.attention_0`, …,
`mid.resnet_0`, `mid.attention_0`, `mid.resnet_1`, `up_0.resnet_0`, …, each at a step. Hyperfeatures numbers the
12 residual blocks of the decoder from 0; its layer L is `up_{L // 3}.resnet_{L % 3}`: layer 6 is `up_2.resnet_0`.
"""

import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bddn.backbones.backbone import weights_sha256
from bddn.backbones.diffusion_kind import blocks_of, names_of
from bddn.backbones.hooks import LayerHooks, Reduce, compile_blocks, frozen, pooling
from bddn.backbones.layers import select
from bddn.backbones.loading import refuse_cls
from bddn.backbones.pipeline import Pipeline, load, set_steps
from bddn.backbones.preprocess import HALF, squash
from bddn.errors import SpecError
from bddn.spec import CacheSpec, DiffusionSpec
from bddn.tokens import LayerTokens, Tokens

if TYPE_CHECKING:
    from PIL.Image import Image

TEXT_FIELDS = (
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
)
CONVENTIONS = (
    "latent: mode of the posterior, scaled; empty prompt, no guidance; DDIM inversion; step k counts from the image: "
    "the U-Net is told timestep k and sees the latent of alpha_bar"
)


class StableDiffusion:
    """A frozen U-Net of Stable Diffusion 1.x or 2.x. Its layers are its blocks at steps of the inversion, by step.

    Parameters
    ----------
    spec : CacheSpec
        With a backbone of the family stable_diffusion, `preprocess: native` and `global_token: mean`.
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
        self._unet, self._vae = parts.unet, parts.vae
        _check_size(spec, parts)
        n_steps, place = about.n_steps, spec.weights.place
        self._scheduler = parts.scheduler
        set_steps(self._scheduler, n_steps)
        self._timesteps: list[int] = self._scheduler.timesteps.tolist()
        blocks = _modules(self._unet, blocks_of(self._unet.config))
        self.layers = select(about.layers, names_of(blocks, n_steps), place)
        self._at = _by_step(self.layers)
        configs = _configs(parts)
        self.identity: dict[str, Any] = {
            "class": type(self._unet).__name__,
            "weights_sha256": _hash(parts),
            "config": {part: fields for part, fields in configs.items() if part != "scheduler"},
            "scheduler": configs["scheduler"],
            "prompt": parts.prompt[0].tolist(),
            "n_steps": n_steps,
            "steps": [self._level(k) for k, names in enumerate(self._at) if names],
            "conventions": CONVENTIONS,
            "made_with": {name: version(name) for name in ("torch", "diffusers", "transformers", "pillow")},
        }
        with torch.no_grad():
            self._text: Tensor = parts.text_encoder(parts.prompt).last_hidden_state.to(device)
        self._unet.to(device)
        self._vae.to(device)
        if spec.compile:
            compile_blocks(blocks)
        wanted = {name for names in self._at for name in names}
        self._hooks = LayerHooks({name: block for name, block in blocks.items() if name in wanted}, self._read)

    def preprocess(self, image: "Image") -> Tensor:
        """See `Backbone.preprocess`."""
        return squash(image, self._spec.image_hw, HALF, HALF)

    def __call__(self, pixels: Tensor) -> Tokens:
        """See `Backbone.__call__`."""
        latent = self._latent(pixels)
        found: dict[str, LayerTokens] = {}
        with frozen(self._device, self._spec.autocast):
            for k, names in enumerate(self._at):
                last = k == len(self._at) - 1
                tokens, latent = self._step(k, latent, names, pooling(self._spec.grid, "mean"), last)
                found |= {f"{name}@t{k + 1}": layer for name, layer in tokens.items()}
        return Tokens(found)

    def each_layer(self, pixels: Tensor, reduce: Reduce) -> dict[str, Any]:
        """See `ShowsFullSize.each_layer`. Blocks run at step 1, because all steps run the same blocks."""
        wanted = list(dict.fromkeys(name for names in self._at for name in names))
        with frozen(self._device, self._spec.autocast):
            return self._step(0, self._latent(pixels), wanted, reduce, last=True)[0]

    def _latent(self, pixels: Tensor) -> Tensor:
        with frozen(self._device, None):  # always full precision, because all steps start from this latent
            latent = self._vae.encode(pixels.to(self._device)).latent_dist.mode()
        return latent * self._vae.config.scaling_factor  # type: ignore[no-any-return]

    def _step(
        self, k: int, latent: Tensor, names: Sequence[str], reduce: Reduce, last: bool
    ) -> tuple[dict[str, Any], Tensor]:
        """Return reduced tokens of blocks at step k (from 0), and the next latent (the same after the last step)."""
        outputs: list[Tensor] = []
        text = self._text.expand(len(latent), -1, -1)
        tokens = self._hooks.run(
            lambda: outputs.append(self._unet(latent, self._timesteps[k], encoder_hidden_states=text).sample),
            names,
            reduce,
            stop=last,
        )
        if last:
            return tokens, latent
        return tokens, self._scheduler.step(outputs[0].float(), self._timesteps[k], latent).prev_sample

    def _read(self, name: str, output: Any) -> LayerTokens:
        return LayerTokens(output[0] if isinstance(output, tuple) else output)

    def _level(self, k: int) -> dict[str, int | float]:
        """Return the inputs of the U-Net at step k (from 0); ᾱ is the scheduler's, rounded."""
        before = self._timesteps[k] - self._scheduler.config.num_train_timesteps // len(self._timesteps)
        alpha = self._scheduler.alphas_cumprod[before] if before >= 0 else self._scheduler.initial_alpha_cumprod
        return {"step": k + 1, "timestep": self._timesteps[k], "alpha_bar": round(float(alpha), 6)}


def _by_step(layers: Sequence[str]) -> list[list[str]]:
    """Return the selected blocks of each step, up to the last step that has one."""
    pairs = [(block, int(k)) for block, _, k in (layer.partition("@t") for layer in layers)]
    return [[block for block, k in pairs if k == step] for step in range(1, pairs[-1][1] + 1)]


def _modules(unet: Any, names: Mapping[str, int]) -> dict[str, nn.Module]:
    """Return the submodules by the names of blocks."""

    def one(name: str) -> Any:
        level, _, part = name.partition(".")
        side, _, i = level.partition("_")
        kind, _, j = part.partition("_")
        block = unet.mid_block if side == "mid" else getattr(unet, f"{side}_blocks")[int(i)]
        return getattr(block, f"{kind}s")[int(j)]

    return {name: one(name) for name in names}


def _hash(parts: Pipeline) -> str:
    models = {"unet": parts.unet, "vae": parts.vae, "text_encoder": parts.text_encoder}
    return weights_sha256({f"{part}.{k}": v for part, model in models.items() for k, v in model.state_dict().items()})


def _configs(parts: Pipeline) -> dict[str, dict[str, Any]]:
    """Return what determines the tokens besides the weights; of large configurations, fields with other values."""
    found = parts.configs()
    for part, model in (("unet", parts.unet), ("vae", parts.vae)):
        defaults = {k: list(v) if isinstance(v, tuple) else v for k, v in _parameters(model).items()}
        found[part] = {k: v for k, v in found[part].items() if k in defaults and v != defaults[k]}
        found[part].pop("sample_size", None)  # the size of training images
    found["text_encoder"] = {k: found["text_encoder"][k] for k in TEXT_FIELDS}
    found["scheduler"] = {k: v for k, v in found["scheduler"].items() if k in _parameters(parts.scheduler)}
    return found


def _parameters(made: Any) -> dict[str, Any]:
    """Return the parameters of the constructor with their defaults."""
    return {k: p.default for k, p in inspect.signature(type(made).__init__).parameters.items() if k != "kwargs"}


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
    """Check that each level can halve the latent; otherwise sizes do not match on the way up."""
    halvings = len(parts.vae.config.block_out_channels) + len(parts.unet.config.block_out_channels) - 2
    (height, width), unit = spec.image_hw, 2**halvings
    if height % unit or width % unit:
        raise SpecError(
            f"spec '{spec.title}'",
            expected=f"image_size to be a multiple of {unit}, because autoencoder and U-Net reduce it by this factor",
            got=f"{height} × {width}",
            fix="Correct image_size in the spec.",
        )
