"""The stack trainer: R trials of one cell as one batched computation."""

from mtbench.training.calibrate import predicted_bytes
from mtbench.training.checkpoints import Checkpoint
from mtbench.training.stack import train_stack

__all__ = ["Checkpoint", "predicted_bytes", "train_stack"]
