"""A small decoder that generates varied words, for the tests of ``generate``."""

import numpy as np

from minizha import NezhaConfig, NezhaForMaskedLM
from minizha.backend import to_host
from tests.support.strategies import weights

V, B, L, S, D, NEW = 17, 6, 4, 5, 16, 9
# tanh, since with gelu one word is often the likeliest after any text
CONFIG = NezhaConfig(
    vocab_size=V,
    hidden_size=D,
    num_hidden_layers=2,
    num_attention_heads=4,
    intermediate_size=6,
    max_relative_position=3,
    is_decoder=True,
    pad_token_id=0,
    eos_token_id=None,
    hidden_act="tanh",
)
IDS = np.random.default_rng(1).integers(1, V, (B, L))
ENCODER = {"encoder_hidden_states": np.random.default_rng(2).standard_normal((B, S, D))}
CROSS = {"add_cross_attention": True}


def model_of(backend, dtype="float64", **changes):
    """Without biases, for the same reason."""
    model = NezhaForMaskedLM(CONFIG.replace(**changes), dtype=dtype, backend=backend)
    arrays = weights(model, np.random.default_rng(5), std=0.7)
    for name, array in arrays.items():
        if array.ndim == 1:
            array[...] = float(name.endswith("LayerNorm.weight"))
    model.load_state_dict(arrays)
    return model


def generated(model, ids=IDS, *arguments, **options):
    options = {"max_new_tokens": NEW} | options
    return to_host(model.generate(ids, *arguments, **options))


def by_hand(model, ids, new=NEW, **encoder):
    """The likeliest token, row by row, by a pass over the whole text for each."""
    rows = []
    for i, row in enumerate(ids):
        row = list(row)
        for _ in range(new):
            states = {name: array[i : i + 1] for name, array in encoder.items()}
            row.append(int(to_host(model([row], **states).logits)[0, -1].argmax()))
        rows.append(row)
    return np.array(rows)
