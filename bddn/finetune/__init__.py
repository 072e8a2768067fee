"""Fine-tuning: train the weights of a backbone on an image set, and write checkpoints that are backbones themselves."""

from bddn.finetune.finetuning import finetune
from bddn.finetune.tuned_folder import Finetuned, read_finetuned

__all__ = ["Finetuned", "finetune", "read_finetuned"]
