"""Training: the optimizer, the rate's schedule, one step, the evaluation, and pre-training whole."""
