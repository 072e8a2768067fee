"""The linear head: classes from the global token of a network's last layer.

Shape letters: n images, C channels, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_SCALE = 0.1  # of a channel, relative to the root mean square of the tokens
LEAST_DEVIATION = 1e-4  # likewise; smaller ones hold only rounding errors
MAX_ITERATIONS = 500


class Head(nn.Module):
    """A linear layer on tokens that are centred and scaled by channel.

    Means and scales are those of the training images before the first step, and stay constant. So tokens of any size
    have the same learning rate. The scale of a channel is its standard deviation, but at least a tenth of the size of
    the tokens: otherwise the first steps, which move the tokens of all images together, would be much larger than the
    differences of images that hardly differ, as in an untrained network. The result is linear in the tokens: `folded`.

    Parameters
    ----------
    tokens : Tensor, (n, C) float32
        Global tokens of the training images.
    n_classes : int
    seed : int
        Seed of the initial weights, which are uniform in ±1/√C.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tokens: Tensor, n_classes: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean", tokens.mean(0))
        self.register_buffer("scale", _deviations(tokens, LEAST_SCALE))
        n_channels = tokens.shape[1]
        weight = torch.empty(n_classes, n_channels)
        weight.uniform_(-(n_channels**-0.5), n_channels**-0.5, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (n, K) for global tokens (n, C)."""
        return F.linear((tokens - self.mean) / self.scale, self.weight, self.bias)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return `weight` (K, C) and `bias` (K,) of the same head for tokens as they are."""
        weight = self.weight / self.scale
        return {"weight": weight, "bias": self.bias - weight @ self.mean}

    def solve(self, tokens: Tensor, labels: Tensor) -> None:
        """Replace the weights by those of a logistic regression.

        It minimizes the summed cross-entropy plus half the squared norm of the weights, in float64 by L-BFGS, for
        channels that are scaled by their standard deviation.

        Parameters
        ----------
        tokens : Tensor, (n, C) float32
        labels : Tensor, (n,) int64
        """
        from torch.optim import LBFGS

        deviation = _deviations(tokens, LEAST_DEVIATION)
        x = ((tokens - self.mean) / deviation).double()
        weight = torch.zeros_like(self.weight, dtype=torch.float64, requires_grad=True)
        bias = torch.zeros_like(self.bias, dtype=torch.float64, requires_grad=True)
        search = LBFGS([weight, bias], max_iter=MAX_ITERATIONS, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            search.zero_grad()
            loss = (
                F.cross_entropy(F.linear(x, weight, bias), labels, reduction="sum") + weight.square().sum() / 2
            ) / len(x)
            loss.backward()
            return loss

        search.step(objective)
        with torch.no_grad():
            self.weight.copy_(weight * (self.scale / deviation))
            self.bias.copy_(bias)


def _deviations(tokens: Tensor, least: float) -> Tensor:
    """Return the deviation of each channel (C,), but at least this share of the root mean square of tokens (n, C)."""
    size = tokens.square().mean().sqrt()
    return tokens.std(0, correction=0).clamp_min(least * float(size) if size > 0 else 1.0)
