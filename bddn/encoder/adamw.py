"""AdamW with clipped gradient norm, by torch's fused kernel. Its state is plain tensors, which are easy to save.

`torch.optim.AdamW` would load torch's compiler, which takes seconds and 150 MB that a short fit does not need.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from bddn.machine.parallel import each_on

BETAS, EPSILON = (0.9, 0.999), 1e-8
MEAN, SQUARE = "mean.", "square."


class AdamW:
    """AdamW optimizer for the parameters of a module that require a gradient.

    Parameters
    ----------
    module : Module
    weight_decay : float
    """

    def __init__(self, module: nn.Module, weight_decay: float) -> None:
        self._parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self._decay = weight_decay
        self._mean = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._square = {name: torch.zeros_like(p) for name, p in self._parameters.items()}
        self._steps = {name: torch.zeros((), device=p.device) for name, p in self._parameters.items()}

    @torch.no_grad()
    def step(self, rate: float | Tensor, clip: float, loss: Tensor) -> Tensor:
        """Take one step with the stored gradients, unless `loss` or a gradient is not finite.

        The host does not wait for the device.

        Parameters
        ----------
        rate : float, or Tensor on the parameters' device
        clip : float
            Largest norm of the gradient of all parameters together.
        loss : Tensor, ()

        Returns
        -------
        Tensor, ()
            Norm of the gradient before clipping. It is not finite if the step was skipped.
        """
        gradients = {name: _laid_out(g, p) for name, p in self._parameters.items() if (g := p.grad) is not None}
        norm = torch.nn.utils.get_total_norm(list(gradients.values())) + 0 * loss
        scale, is_bad = (norm / clip + 1e-6).clamp_min(1.0).float(), (~torch.isfinite(norm)).float()  # also of float64

        def update(names: Sequence[str]) -> None:
            adamw(
                [self._parameters[name].detach() for name in names],
                [gradients[name] for name in names],
                [self._mean[name] for name in names],
                [self._square[name] for name in names],
                [],
                [self._steps[name] for name in names],
                fused=True,
                grad_scale=scale,  # the kernel divides gradients by it
                found_inf=is_bad,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate,
                weight_decay=self._decay,
                eps=EPSILON,
                maximize=False,
            )

        names = list(gradients)
        each_on(norm.device, update, (names,) if norm.is_cuda else (names[::2], names[1::2]))
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer's tensors by name. Together with the number of steps they are its complete state."""
        return {MEAN + name: v for name, v in self._mean.items()} | {SQUARE + n: v for n, v in self._square.items()}

    def load(self, state: Mapping[str, Tensor], n_steps: int) -> None:
        """Restore the state that was saved after `n_steps` steps."""
        for name in self._parameters:
            self._mean[name].copy_(state[MEAN + name])
            self._square[name].copy_(state[SQUARE + name])
            self._steps[name].fill_(n_steps)


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return a gradient in the memory order of its parameter, as the kernel takes them: number by number.

    Convolutions of images whose channels are last in memory have gradients in that order. The kernel of the CPU would
    mix up their numbers without a word.
    """
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
