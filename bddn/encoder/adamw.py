"""AdamW with the gradient's norm clipped, by torch's fused kernel; its state is plain tensors, easy to save.

`torch.optim.AdamW` would load torch's compiler, which takes seconds and 150 MB that a short fit has no use for.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

BETAS, EPSILON = (0.9, 0.999), 1e-8
MEAN, SQUARE = "mean.", "square."


class AdamW:
    """The state of AdamW for the parameters of a module.

    Parameters
    ----------
    module : Module
    weight_decay : float
    """

    def __init__(self, module: nn.Module, weight_decay: float) -> None:
        self._parameters = dict(module.named_parameters())
        self._decay = weight_decay
        self._mean = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._square = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._steps = {name: torch.zeros((), device=p.device) for name, p in self._parameters.items()}

    @torch.no_grad()
    def step(self, rate: float | Tensor, clip: float, loss: Tensor) -> Tensor:
        """Take one step with the gradients that the parameters hold, unless `loss` or one of them is not finite.

        Nothing here waits for the device.

        Parameters
        ----------
        rate : float, or Tensor on the parameters' device
        clip : float
            Largest norm of the whole gradient.
        loss : Tensor, ()

        Returns
        -------
        Tensor, ()
            The norm of the gradient before it was clipped, not finite where the step was not taken.
        """
        names = [name for name, p in self._parameters.items() if p.grad is not None]
        gradients = [g for name in names if (g := self._parameters[name].grad) is not None]
        norm = torch.nn.utils.get_total_norm(gradients) + 0 * loss
        adamw(
            [self._parameters[name].detach() for name in names],
            gradients,
            [self._mean[name] for name in names],
            [self._square[name] for name in names],
            [],
            [self._steps[name] for name in names],
            fused=True,
            grad_scale=(norm / clip + 1e-6).clamp_min(1.0),  # the kernel divides by it
            found_inf=(~torch.isfinite(norm)).float(),
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self._decay,
            eps=EPSILON,
            maximize=False,
        )
        return norm

    def state(self) -> dict[str, Tensor]:
        """Its tensors by name; with the number of steps they are all there is to know."""
        return {MEAN + name: v for name, v in self._mean.items()} | {SQUARE + n: v for n, v in self._square.items()}

    def load(self, state: Mapping[str, Tensor], n_steps: int) -> None:
        """Go on from a state, taken after a number of steps."""
        for name in self._parameters:
            self._mean[name].copy_(state[MEAN + name])
            self._square[name].copy_(state[SQUARE + name])
            self._steps[name].fill_(n_steps)
