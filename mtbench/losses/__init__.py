"""The loss of each label, by kind of task: what training minimises, and what metrics and reports read.

Squared error for regression, logistic loss for binary and multilabel tasks, cross-entropy for multiclass tasks; outputs
are values or logits.

It stands here twice, once for each library. Training needs torch's own kernels, which have gradients, map over trials
and run on GPUs; metrics are computed where torch must not be imported (reports, plans of a store), in float64 whatever
the recipe's dtype. Neither can call the other, and one text over both would be none of the fused kernels, so that every
stored number would move in its last bits. `tests/losses` holds the two equal.
"""
