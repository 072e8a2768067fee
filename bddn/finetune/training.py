"""The steps of a fine-tuning: gradients of a batch, AdamW, and a state from which another process resumes.

On a CPU a batch is divided into four parts, each with its own forward and backward pass, and gradients are summed in
order. So the result does not depend on the number of threads.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bddn.encoder.adamw import AdamW
from bddn.encoder.checkpoint import load_checked, save_checked
from bddn.errors import BackboneError, BddnError, FitError, RunError
from bddn.finetune import low_rank
from bddn.finetune.head import Head
from bddn.finetune.image_batches import Inputs, Rows
from bddn.machine.parallel import ahead, error_text, is_out_of_memory, n_threads
from bddn.machine.shared_setting import SharedSetting
from bddn.progress import say
from bddn.spec import FinetuneSpec

CPU_PARTS = 4  # of a batch; more parts would let more cores work, but small networks take longer for small parts
LOSS_SCALE = {None: 1.0, "bfloat16": 1.0, "float16": 1024.0}  # keeps small gradients in the range of float16
LOSSES = "losses"


class Training:
    """A network and its head during training.

    Parameters
    ----------
    inputs : Inputs
    head : Head
        On the CPU.
    rows : array of int, (n,)
        The training images.
    settings : FinetuneSpec

    Attributes
    ----------
    losses : list of float
        Mean cross-entropy of the batch of each step that was made.
    """

    def __init__(self, inputs: Inputs, head: Head, rows: Rows, settings: FinetuneSpec) -> None:
        self._inputs, self._rows, self._settings = inputs, rows, settings
        self.head = head.to(inputs.device)
        network = inputs.network.module
        if settings.method == "lora":
            low_rank.add(network, settings.lora_rank, settings.seed)
        else:
            for weight in network.parameters():
                weight.requires_grad_(weight.is_floating_point() and settings.method != "head")
        self._module = nn.ModuleDict({"network": network, "head": self.head})
        self._trained = {name: p for name, p in self._module.named_parameters() if p.requires_grad}
        self._optimizer = AdamW(self._module, settings.weight_decay)
        self.losses: list[float] = []

    @property
    def step(self) -> int:
        """Number of steps that were made."""
        return len(self.losses)

    def state(self) -> dict[str, Tensor]:
        """Return the weights and buffers of the network by name, with the changes of LoRA added."""
        network = self._inputs.network.module
        return low_rank.plain_state(network) if self._settings.method == "lora" else network.state_dict()

    @property
    def n_bytes(self) -> int:
        """Size of the saved state."""
        return 3 * sum(weight.nbytes for weight in self._trained.values())

    def steps(self) -> Iterator[int]:
        """Make the missing steps, and yield the number of each.

        Raises
        ------
        FitError
            If loss or gradient are not finite. The weights are then those of the step before.
        """
        for pixels, labels in self._inputs.batches(self._order(self.step, self._settings.n_steps)):
            loss = self._gradients(pixels, labels)
            norm = self._optimizer.step(self._settings.learning_rate, float("inf"), loss)
            if not torch.isfinite(norm):
                raise FitError(
                    f"step {self.step + 1} of {self._settings.n_steps}",
                    expected="a finite loss and gradient",
                    got=f"loss {float(loss)}, norm of the gradient {float(norm)}",
                    fix="Use a smaller --learning-rate, or no --autocast.",
                )
            self.losses.append(float(loss))
            yield self.step

    def save(self, about: Mapping[str, Any], path: Path) -> None:
        """Write everything that `resume` needs, and JSON values."""
        losses = torch.tensor(self.losses, dtype=torch.float64)
        save_checked({**self._trained, **self._optimizer.state(), **self._constants(), LOSSES: losses}, about, path)

    def resume(self, path: Path) -> dict[str, Any]:
        """Continue after the step at which the file was written, and return its JSON values.

        A damaged file is not used, with a note; there are no values then.
        """
        try:
            saved, about = load_checked(path, "the state of a fine-tuning", "")
        except RunError as error:
            say(f"note: starting again from the first step, because {path.name} is damaged ({error.got})")
            return {}
        with torch.no_grad():
            for name, value in {**self._trained, **self._constants()}.items():
                value.copy_(saved[name])
        self.losses = saved[LOSSES].tolist()
        self._optimizer.load(saved, self.step)
        return about

    def _constants(self) -> Mapping[str, Tensor]:
        return {f"constant.{name}": value for name, value in self.head.named_buffers()}

    def _order(self, start: int, stop: int) -> Iterator[Rows]:
        """Yield the rows of each batch from step `start`: random permutations of all images, one after the other."""
        size, n = self._settings.batch_size, len(self._rows)
        permutations: dict[int, Rows] = {}
        for step in range(start, stop):
            at = range(step * size, (step + 1) * size)
            for epoch in range(at[0] // n, at[-1] // n + 1):
                if epoch not in permutations:
                    permutations[epoch] = np.random.default_rng([self._settings.seed, 12, epoch]).permutation(n)
            yield self._rows[[permutations[i // n][i % n] for i in at]]
            permutations = {epoch: order for epoch, order in permutations.items() if epoch >= at[-1] // n}

    def _gradients(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Set the gradient of every trained weight, and return the mean loss of the batch."""
        n = len(labels)
        size = -(-n // CPU_PARTS) if self._inputs.device == "cpu" else n
        parts = zip(pixels.split(size), labels.split(size), strict=True)

        def of_part(part: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            return self._gradient(*part, n)

        found = ahead(of_part, parts, n_threads() + 1) if self._inputs.device == "cpu" else map(of_part, parts)
        total: Tensor | None = None
        for weight in self._trained.values():
            weight.grad = None
        for loss, gradients in found:
            total = loss if total is None else total + loss
            for weight, gradient in zip(self._trained.values(), gradients, strict=True):
                if gradient is not None:
                    weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
        assert total is not None
        if not self.losses:
            self._refuse_detached()
        return total

    def _gradient(self, pixels: Tensor, labels: Tensor, n: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        scale = LOSS_SCALE[self._inputs.autocast]
        try:
            logits = self.head(self._inputs.forward(pixels))
            loss = F.cross_entropy(logits, labels.to(logits.device), reduction="sum") / n
            gradients = torch.autograd.grad(loss * scale, list(self._trained.values()), allow_unused=True)
        except BddnError:
            raise
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise BackboneError(
                type(self._inputs.network.module).__name__,
                expected="a network through which gradients can be computed",
                got=error_text(error),
                fix="Correct its forward, for instance operations that change a tensor in place; or use method head.",
            ) from error
        if scale != 1:
            gradients = tuple(None if g is None else g / scale for g in gradients)
        return loss.detach(), gradients

    def _refuse_detached(self) -> None:
        network = [name for name in self._trained if name.startswith("network.")]
        if network and all(self._trained[name].grad is None for name in network):
            raise BackboneError(
                type(self._inputs.network.module).__name__,
                expected="a network through which gradients can be computed",
                got="no gradient of any of its weights: its forward detaches the tokens from them",
                fix="Remove torch.no_grad, inference_mode or detach from its forward; or use method head.",
            )


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Use only kernels that give the same bits in every run, as `own_settings` does, and the same code with gradients
    as without."""
    with ExitStack() as stack:
        stack.enter_context(_without_fast_attention())
        if device == "cuda":
            from torch.nn.attention import SDPBackend, sdpa_kernel

            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield


@SharedSetting
@contextmanager
def _without_fast_attention() -> Iterator[None]:
    """Let torch's attention read the weights of its layers through their modules, and so with the changes of LoRA."""
    mha = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)
