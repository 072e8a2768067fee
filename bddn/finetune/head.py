"""The linear head: classes from the global token of a network's last layer.

Shape letters: n images, C channels, K classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST_DEVIATION = 1e-2  # of a channel, relative to the mean over channels; smaller ones hold only rounding errors
MAX_ITERATIONS = 500


class Head(nn.Module):
    """A linear layer on tokens that are centred and scaled by channel.

    Means and deviations are those of the training images before the first step, and stay constant. So tokens of any
    size have the same learning rate. The result is linear in the tokens: see `folded`.

    Parameters
    ----------
    tokens : Tensor, (n, C) float32
        Global tokens of the training images.
    n_classes : int
    seed : int
        Seed of the initial weights, which are uniform in ±1/√C.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, tokens: Tensor, n_classes: int, seed: int) -> None:
        super().__init__()
        deviation = tokens.std(0, correction=0)
        least = LEAST_DEVIATION * deviation.mean()
        self.register_buffer("mean", tokens.mean(0))
        self.register_buffer("deviation", torch.where(deviation > least, deviation, least if least > 0 else 1.0))
        n_channels = tokens.shape[1]
        weight = torch.empty(n_classes, n_channels)
        weight.uniform_(-(n_channels**-0.5), n_channels**-0.5, generator=torch.Generator().manual_seed(seed))
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(n_classes))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (n, K) for global tokens (n, C)."""
        return F.linear((tokens - self.mean) / self.deviation, self.weight, self.bias)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Return `weight` (K, C) and `bias` (K,) of the same head for tokens as they are."""
        weight = self.weight / self.deviation
        return {"weight": weight, "bias": self.bias - weight @ self.mean}

    def solve(self, tokens: Tensor, labels: Tensor) -> None:
        """Replace the weights by those of a logistic regression.

        It minimizes the summed cross-entropy plus half the squared norm of the weights, in float64 by L-BFGS.

        Parameters
        ----------
        tokens : Tensor, (n, C) float32
        labels : Tensor, (n,) int64
        """
        from torch.optim import LBFGS

        x = ((tokens - self.mean) / self.deviation).double()
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
            self.weight.copy_(weight)
            self.bias.copy_(bias)
