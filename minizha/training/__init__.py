"""Training: optimizer, learning-rate schedule, one step, evaluation, and a pre-training run."""
