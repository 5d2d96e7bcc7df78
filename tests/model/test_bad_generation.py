"""Bad arguments of ``generate``: one ArgumentError that says what was found and what was expected."""

import numpy as np
import pytest

from minizha import MinizhaError
from minizha.errors import ArgumentError
from tests.support.generating_decoder import (
    CROSS,
    ENCODER,
    IDS,
    NEW,
    B,
    D,
    L,
    S,
    V,
    generated,
    model_of,
)

BAD = {
    "max_new_tokens": ([0, -1, 1.0, "3", None, True, [1]], "an integer of at least 1"),
    "temperature": (
        [0, 0.0, -1.0, np.inf, np.nan, "1", None, True, [1.0], 10**400],
        "a finite number",
    ),
    "top_k": ([0, -1, 1.5, "3", True, [1]], "an integer of at least 1 or None"),
    "top_p": ([0, 0.0, -0.1, 1.1, np.nan, "1", True, [0.5]], r"a number in \(0, 1\] or None"),
    "eos_token_id": ([-2, V, 2.0, "3", True, [1]], r"an integer in \[-1, 16\] or None"),
    "seed": ([-1, 1.5, "1", None, True], "an integer of at least 0"),
    "do_sample": (["yes", 1, []], "True, False or None"),
    "use_cache": (["yes", 0, []], "True, False or None"),
    "input_ids": ([[[1.0]], [1, 2], "一", [[-1]], [[V]], None], "(integers|shape|values in)"),
}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [(name, value, text) for name, (values, text) in BAD.items() for value in values],
)
def test_bad_arguments_are_refused(name, value, text, backend):
    model = model_of(backend)
    with pytest.raises(ArgumentError, match=f"^{name}: expected {text}.*, found ") as caught:
        model.generate(**({"input_ids": IDS} | {name: value}))
    assert len(str(caught.value)) < 200
    assert generated(model).shape == (B, L + NEW)


MASK = np.ones((B, L))
REFUSED = {
    "padding on the right": (
        {"attention_mask": 1 - np.eye(B, L, L - 1)},
        "^attention_mask: expected 1 for the last token",
    ),
    "half a token": ({"attention_mask": MASK * 0.5}, "^attention_mask: expected 1 for the last"),
    "another length": (
        {"attention_mask": np.ones((B, L + 1))},
        r"^attention_mask: expected shape \(B, L\) = \(6, 4\), found \(6, 5\)$",
    ),
    "a square mask": (
        {"attention_mask": np.ones((B, L, L))},
        r"^attention_mask: expected shape \(B, L\) = \(6, 4\), found \(6, 4, 4\)$",
    ),
    "no text": ({"input_ids": np.zeros((B, 0), dtype=int)}, "at least one token"),
    "no text, with a mask": (
        {"input_ids": np.zeros((B, 0), dtype=int), "attention_mask": np.ones((B, 0))},
        "at least one token",
    ),
    "an encoder's mask alone": (
        {"encoder_attention_mask": np.ones((B, S))},
        "^encoder_attention_mask: expected encoder_hidden_states with it",
    ),
    "an encoder's mask for each query": (
        ENCODER | {"encoder_attention_mask": np.ones((B, L, S))},
        r"^encoder_attention_mask: expected shape \(B, S\), found \(6, 4, 5\)$",
    ),
    "an encoder of another batch": (
        {"encoder_hidden_states": np.ones((B + 1, S, D))},
        r"^encoder_hidden_states: expected shape \(6, S, 16\), found \(7, 5, 16\)$",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused(name, backend):
    change, text = REFUSED[name]
    with pytest.raises(ArgumentError, match=text) as caught:
        model_of(backend, **CROSS).generate(**({"input_ids": IDS} | change))
    assert isinstance(caught.value, MinizhaError)


def test_an_encoder_does_not_generate(backend):
    with pytest.raises(ArgumentError, match=r"^generate: expected a decoder .* found an encoder"):
        model_of(backend, is_decoder=False).generate(IDS)
    with pytest.raises(ArgumentError, match=r"^encoder_hidden_states: expected None"):
        model_of(backend).generate(IDS, **ENCODER)
