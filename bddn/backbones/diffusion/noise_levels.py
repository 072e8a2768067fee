"""Noise levels between an image and noise, and the latents at them.

*Inverted* latents are made by the network: each step adds the noise that the network predicts. *Noised* latents are the
latent of the image mixed with fixed noise, as in training.

Diffusion (Stable Diffusion 1.x, 2.x, XL) mixes √ᾱ z₀ + √(1 - ᾱ) ε; `DDIMInverseScheduler` inverts. Its step reads the
timestep of a step as the level after it: the U-Net gets that timestep, with the latent of the level before. At step 1
the latent is clean, and the scheduler treats it as one of level 0 (ᾱ = 0.999), because of `set_alpha_to_one: false`.
Noised latents have the level of their timestep.

Flow matching (Stable Diffusion 3, FLUX.1) mixes (1 - σ) z₀ + σ ε, and the network predicts dz/dσ. The levels are those
of the scheduler in sampling, in the opposite order: 0 = σ₀ < σ₁ < … < σₙ = 1. Step k has the level σ₍ₖ₋₁₎, which is
also the timestep of the network, for inverted and for noised latents: step 1 is the image. Inversion takes Euler steps,
z(σₖ) = z(σ₍ₖ₋₁₎) + (σₖ - σ₍ₖ₋₁₎) v.

Shape letters: B images, C channels, H rows, W columns of a latent. Steps count from 0 here, and from 1 in names.
"""

from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bddn.errors import SpecError


class Levels(Protocol):
    """The steps of a spec; `timesteps` are what the network is told at each."""

    timesteps: list[float]

    def noised(self, k: int, clean: Tensor, noise: Tensor) -> Tensor:
        """Return the clean latents (B, C, H, W) mixed with noise (1, C, H, W) at the level of step k."""

    def next(self, k: int, latent: Tensor, prediction: Tensor) -> Tensor:
        """Return the inverted latents of step k + 1 from those of step k and the network's prediction."""

    def describe(self, k: int) -> dict[str, int | float]:
        """Return the level of the latents at step k, rounded."""


class DdimLevels(Levels):
    """The levels of a `DDIMInverseScheduler`, whose timesteps are set here. Afterwards `step` does not change it.

    Raises
    ------
    SpecError
        If there are more steps than noise levels.
    """

    def __init__(self, scheduler: Any, n_steps: int, is_noised: bool) -> None:
        n_train = scheduler.config.num_train_timesteps
        if n_steps <= n_train:
            scheduler.set_timesteps(n_steps)
        if n_steps > n_train or scheduler.timesteps[-1] >= n_train:
            raise SpecError(
                "backbone.n_steps",
                expected=f"fewer steps than the {n_train} noise levels of the network",
                got=str(n_steps),
                fix="Correct n_steps in the spec.",
            )
        self._scheduler, self._is_noised = scheduler, is_noised
        self.timesteps: list[float] = scheduler.timesteps.tolist()

    def noised(self, k: int, clean: Tensor, noise: Tensor) -> Tensor:
        alpha = float(self._scheduler.alphas_cumprod[self.timesteps[k]])
        return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise  # type: ignore[no-any-return]

    def next(self, k: int, latent: Tensor, prediction: Tensor) -> Tensor:
        return self._scheduler.step(prediction, self.timesteps[k], latent).prev_sample  # type: ignore[no-any-return]

    def describe(self, k: int) -> dict[str, int | float]:
        """See `Levels.describe`; ᾱ is the scheduler's."""
        level = self.timesteps[k]
        if not self._is_noised:
            level -= self._scheduler.config.num_train_timesteps // len(self.timesteps)
        alpha = self._scheduler.alphas_cumprod[level] if level >= 0 else self._scheduler.initial_alpha_cumprod
        return {"step": k + 1, "timestep": self.timesteps[k], "alpha_bar": round(float(alpha), 6)}


class FlowLevels(Levels):
    """The levels of a `FlowMatchEulerDiscreteScheduler`, for images of `n_tokens` tokens.

    Raises
    ------
    SpecError
        If the scheduler does not go from noise to the image.
    """

    def __init__(self, scheduler: Any, n_steps: int, n_tokens: int) -> None:
        config = scheduler.config
        share = (n_tokens - config.base_image_seq_len) / (config.max_image_seq_len - config.base_image_seq_len)
        shift = config.base_shift + share * (config.max_shift - config.base_shift)  # used with dynamic shifting only
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / n_steps, n_steps), mu=shift)
        sigmas = scheduler.sigmas.flip(0).tolist()
        if sigmas[0] != 0 or any(low >= high for low, high in pairwise(sigmas)):
            raise SpecError(
                "the scheduler of the pipeline",
                expected="noise levels that rise from 0",
                got=f"{sigmas[0]:g} … {sigmas[-1]:g}",
                fix="Use the scheduler of Stable Diffusion 3 or FLUX.1.",
            )
        self._sigmas: list[float] = sigmas
        self.timesteps: list[float] = [sigma * config.num_train_timesteps for sigma in sigmas[:-1]]

    def noised(self, k: int, clean: Tensor, noise: Tensor) -> Tensor:
        return (1 - self._sigmas[k]) * clean + self._sigmas[k] * noise

    def next(self, k: int, latent: Tensor, prediction: Tensor) -> Tensor:
        return latent + (self._sigmas[k + 1] - self._sigmas[k]) * prediction

    def describe(self, k: int) -> dict[str, int | float]:
        """See `Levels.describe`; σ is the share of noise."""
        return {"step": k + 1, "sigma": round(self._sigmas[k], 6)}


def fixed_noise(shape: tuple[int, int, int], seed: int) -> Tensor:
    """Return normal noise (1, C, H, W) float32, the same on every device.

    It is the same for all images: their latents then differ as the images do, and never by their noise.
    """
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
