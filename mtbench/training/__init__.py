"""The stack trainer: R trials of one cell as one batched computation."""

from mtbench.training.stack import train_stack

__all__ = ["train_stack"]
