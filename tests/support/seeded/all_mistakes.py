"""All seeded mistakes that the cross-check must find, each with a model in which it has an effect."""

from tests.support.seeded import blocks as seeded_blocks
from tests.support.seeded import decoders as seeded_decoders
from tests.support.seeded import gradients as seeded_gradients
from tests.support.seeded import losses as seeded_losses
from tests.support.seeded import operations as seeded_operations
from tests.support.seeded import parts as seeded_parts
from tests.support.seeded import scores as seeded_scores
from tests.support.seeded import sums as seeded_sums
from tests.support.seeded import weights as seeded_weights

FORWARD = [
    *seeded_parts.SEEDS,
    *seeded_scores.SEEDS,
    *seeded_weights.SEEDS,
    *seeded_blocks.SEEDS,
    *seeded_losses.SEEDS,
    *seeded_decoders.FORWARD,
]
BACKWARD = [
    *seeded_gradients.SEEDS,
    *seeded_sums.SEEDS,
    *seeded_operations.SEEDS,
    *seeded_decoders.BACKWARD,
]
SEEDS = FORWARD + BACKWARD
