"""All mistakes that the cross-check has to find, each in a model in which it changes something."""

import seeded_blocks
import seeded_decoders
import seeded_gradients
import seeded_losses
import seeded_operations
import seeded_parts
import seeded_scores
import seeded_sums
import seeded_weights

FORWARD = [
    *seeded_parts.SEEDS, *seeded_scores.SEEDS, *seeded_weights.SEEDS, *seeded_blocks.SEEDS,
    *seeded_losses.SEEDS, *seeded_decoders.FORWARD,
]  # fmt: skip
BACKWARD = [
    *seeded_gradients.SEEDS, *seeded_sums.SEEDS, *seeded_operations.SEEDS,
    *seeded_decoders.BACKWARD,
]  # fmt: skip
SEEDS = FORWARD + BACKWARD
