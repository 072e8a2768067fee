"""Fine-tuning: how a network is trained on an image set, and what a fine-tuned network came from."""

from typing import Annotated, Literal

from pydantic import Field

from bddn.spec.base import NonNegative, Positive, PositiveFloat, Seed, Spec

Method = Literal["full", "head", "lp_ft", "lora"]
Steps = Annotated[int, Field(ge=0, lt=2**31)]


class FinetuneSpec(Spec):
    """How a network is fine-tuned. The defaults are the settings of the paper."""

    seed: Seed = 0
    """Seed of the training images, their order, and the initial weights of the head and of LoRA."""
    method: Method = "full"
    """What is trained. `full`: all weights and a linear head. `head`: the head alone, in closed form, without steps
    (linear probe). `lp_ft`: first the head alone, then all weights. `lora`: the head, and low-rank changes of the
    linear layers, which are added to the weights of every checkpoint."""
    per_class: Positive = 50
    """Number of training images of each class."""
    held_out: Positive | None = None
    """Largest number of other images of each class on which the accuracy of the last step is measured. None: all."""
    steps: Steps = 3000
    """Number of steps; with 0 the network stays as it is."""
    batch_size: Positive = 4
    """Number of images in one step."""
    learning_rate: PositiveFloat = 3e-5
    """Learning rate of AdamW, constant."""
    weight_decay: NonNegative = 0.01
    """Weight decay of AdamW."""
    checkpoint_every: Positive | None = None
    """Number of steps after which a checkpoint is written each time. None: only the last step."""
    evaluate_every: Positive = 500
    """Number of steps after which the accuracy is measured each time. It is also measured before the first step and at
    every checkpoint."""
    evaluate_per_class: Positive = 200
    """Largest number of images of each class for these accuracies, except that of the last step."""
    autocast: Literal["float16", "bfloat16"] | None = None
    """Lower precision of the training's products, by torch.autocast, on a GPU only. None: float32."""
    lora_rank: Positive = 8
    """Rank of the changes by LoRA."""

    @property
    def n_steps(self) -> int:
        """Number of steps that change the network."""
        return 0 if self.method == "head" else self.steps

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """The steps, before the last, after which a checkpoint is written."""
        every = self.checkpoint_every
        return () if every is None else tuple(range(every, self.n_steps, every))

    @property
    def evaluated_steps(self) -> tuple[int, ...]:
        """The steps after which the accuracy is measured, from 0 to the last."""
        regular = range(0, self.n_steps, self.evaluate_every)
        return tuple(sorted({*regular, *self.checkpoint_steps, self.n_steps}))


class ParentSpec(Spec):
    """What a fine-tuned network came from."""

    title: str
    """Title of the network before fine-tuning."""
    weights_sha256: str
    """Hash of its weights, as in the identity of its caches."""
    images: str
    """Name of the image set."""
    images_sha256: str
    """Hash of the ids, classes and files of the image set."""
    method: Method
    """See `FinetuneSpec`."""
    steps: Steps
    """Number of steps."""
    seed: Seed
    """See `FinetuneSpec`."""

    def __str__(self) -> str:
        return (
            f"from {self.title} (weights {self.weights_sha256[:16]}) on {self.images} (images "
            f"{self.images_sha256[:16]}), method {self.method}, {self.steps} steps, seed {self.seed}"
        )
