"""Bad arguments of a decoder: an error that names the argument, what was found and what was expected.

Each case differs in one argument from ``GOOD``, a call that continues another.
"""

import re

import numpy as np
import pytest

from minizha import MinizhaError, NezhaConfig, NezhaForMaskedLM, NezhaModel
from minizha.backend import to_host
from minizha.errors import ArgumentError, BackendError

V, B, P, L, S, D, N, d, LAYERS = 11, 2, 3, 4, 5, 8, 2, 4, 3
CONFIG = NezhaConfig(
    vocab_size=V,
    hidden_size=D,
    num_hidden_layers=LAYERS,
    num_attention_heads=N,
    intermediate_size=6,
    max_relative_position=2,
    is_decoder=True,
    add_cross_attention=True,
)
ALONE = CONFIG.replace(add_cross_attention=False)
ENCODER = CONFIG.replace(is_decoder=False, add_cross_attention=False)
RNG = np.random.default_rng(0)
OWN, CROSS = (B, N, P, d), (B, N, S, d)


def past(*shapes, layers=LAYERS):
    return [tuple(RNG.standard_normal(shape) for shape in shapes) for _ in range(layers)]


PAST = past(OWN, OWN, CROSS, CROSS)
STATES = RNG.standard_normal((B, S, D))
GOOD = {
    "input_ids": RNG.integers(0, V, (B, L)),
    "attention_mask": np.ones((B, P + L)),
    "encoder_hidden_states": STATES,
    "encoder_attention_mask": np.ones((B, S)),
    "past_key_values": PAST,
    "use_cache": True,
}


def past_with(layer, place, array):
    """The good past with one array replaced."""
    changed = [list(arrays) for arrays in PAST]
    changed[layer][place] = array
    return {"past_key_values": changed}


def layers_with(layer, arrays):
    return {"past_key_values": [arrays if i == layer else good for i, good in enumerate(PAST)]}


COUNTS = r"^past_key_values: expected 3 sequences \(one a layer\) of 2 or 4 arrays each, found "
CASES = {
    f"past_key_values: {what}": ({"past_key_values": value}, COUNTS + found)
    for what, value, found in (
        ("a layer too few", PAST[:-1], r"2 of \[4, 4\]$"),
        ("a layer too many", [*PAST, PAST[0]], r"4 of \[4, 4, 4, 4\]$"),
        ("no layer", [], r"0 of \[\]$"),
        ("three arrays", [layer[:3] for layer in PAST], r"3 of \[3, 3, 3\]$"),
        ("one array", [layer[:1] for layer in PAST], r"3 of \[1, 1, 1\]$"),
        ("no array", [(), (), ()], r"3 of \[0, 0, 0\]$"),
        ("five arrays", [(*layer, layer[0]) for layer in PAST], r"3 of \[5, 5, 5\]$"),
        ("text", "past", "str$"),
        ("three letters", ("a", "b", "c"), r"3 of \['str', 'str', 'str'\]$"),
        ("a number", 1, "int$"),
        ("True", True, "bool$"),
        ("an array", np.zeros((LAYERS, 2, *OWN)), "ndarray$"),
        ("a dictionary", dict(enumerate(PAST)), "dict$"),
        ("arrays for layers", [np.zeros(OWN)] * 3, r"3 of \['ndarray', 'ndarray', 'ndarray'\]$"),
        ("a layer of None", [None, *PAST[1:]], r"3 of \['NoneType', 4, 4\]$"),
        ("very many", [PAST[0]] * 10**5, r"100000 of \[4, 4, .*\]$"),
    )
}
CASES |= {
    "past_key_values: two arrays in one layer, four in the others": (
        layers_with(1, PAST[1][:2]), COUNTS + r"3 of \[4, 2, 4\]$"),
    "past_key_values: one's own of another length in a layer": (
        layers_with(1, past((B, N, P + 1, d), (B, N, P + 1, d), CROSS, CROSS, layers=1)[0]),
        r"^past_key_values\[1\]\[0\]: expected shape \(2, 2, 3, 4\), found \(2, 2, 4, 4\)$"),
    "past_key_values: the encoder's of another length in a layer": (
        layers_with(2, past(OWN, OWN, (B, N, S - 1, d), (B, N, S - 1, d), layers=1)[0]),
        r"^past_key_values\[2\]\[2\]: expected shape \(2, 2, 5, 4\), found \(2, 2, 4, 4\)$"),
}  # fmt: skip
WRONG_SHAPES = {
    "a batch less": (B - 1, N, P, d),
    "a head more": (B, N + 1, P, d),
    "another head size": (B, N, P, d + 2),
    "heads and tokens exchanged": (B, P, N + 1, d),
    "heads merged": (B, P, D),
    "no axis": (),
}
CASES |= {
    f"past_key_values[0][0]: {what}": (
        past_with(0, 0, np.zeros(shape)),
        "^" + re.escape(f"past_key_values[0][0]: expected shape (2, 2, P, 4), found {shape}") + "$",
    )
    for what, shape in WRONG_SHAPES.items()
}
CASES |= {
    f"past_key_values[{i}][{j}]: shape": (
        past_with(i, j, np.zeros((B, N, 7, d))),
        rf"^past_key_values\[{i}\]\[{j}\]: expected shape \(2, 2, {length}, 4\), found "
        r"\(2, 2, 7, 4\)$",
    )
    for i, j, length in ((0, 1, P), (1, 0, P), (2, 1, P), (0, 3, S), (1, 2, S), (2, 3, S))
}
CASES |= {
    f"past_key_values[1][2]: {what}": (
        past_with(1, 2, value),
        rf"^past_key_values\[1\]\[2\]: {text}",
    )
    for what, value, text in (
        ("text", "keys", "expected numbers, found <U4$"),
        ("None", None, "expected numbers, found None$"),
        ("booleans", np.ones(CROSS, dtype=bool), "expected numbers, found bool$"),
        ("objects", np.full(CROSS, "x", dtype=object), "expected numbers, found 'x'$"),
        ("ragged", [[1.0], [1.0, 2.0]], "expected an array or nested lists"),
    )
}
CASES |= {
    f"encoder_hidden_states: {what}": (
        {"encoder_hidden_states": value} | more,
        f"^encoder_hidden_states: {text}$",
    )
    for what, value, more, text in (
        ("another width", STATES[..., :-1], {}, r"expected shape \(2, 5, 8\), found \(2, 5, 7\)"),
        ("another batch", STATES[:1], {}, r"expected shape \(2, 5, 8\), found \(1, 5, 8\)"),
        ("two axes", STATES[0], {}, r"expected shape \(2, 5, 8\), found \(5, 8\)"),
        ("other tokens than are cached", STATES[:, 1:], {},
         r"expected shape \(2, 5, 8\), found \(2, 4, 8\)"),
        ("another width, nothing cached", STATES[..., 1:], {"past_key_values": past(OWN, OWN)},
         r"expected shape \(2, S, 8\), found \(2, 5, 7\)"),
        ("no token", STATES[:, :0], {"past_key_values": past(OWN, OWN), "encoder_attention_mask": None},
         "expected at least one token, found S = 0"),
        ("text", "states", {}, "expected numbers, found <U6"),
        ("booleans", STATES > 0, {}, "expected numbers, found bool"),
        ("objects", [[None]], {}, "expected numbers, found None"),
    )
}  # fmt: skip
CASES |= {
    f"encoder_attention_mask: {what}": (
        {"encoder_attention_mask": value} | more,
        f"^encoder_attention_mask: {text}$",
    )
    for what, value, more, text in (
        *(
            (f"shape {shape}", np.ones(shape), {},
             re.escape(f"expected shape (B, S) = (2, 5) or (B, L, S) = (2, 4, 5), found {shape}"))
            for shape in ((S,), (B, S + 1), (B, L), (B, 1, S), (B, P + L, S), (B, L, L), (B, 1, 1, S))
        ),
        ("nothing to hide", np.ones((B, S)),
         {"encoder_hidden_states": None, "past_key_values": past(OWN, OWN)},
         "expected encoder_hidden_states with it, found None"),
        ("text", "mask", {}, "expected numbers, found <U4"),
        ("complex", np.ones((B, S), dtype=complex), {}, "expected numbers, found complex128"),
        ("2", np.full((B, S), 2), {}, r"expected 1 .* and 0 .*, found 2.0 at \[0, 0\]"),
        ("nan", np.full((B, S), np.nan), {}, r"expected 1 .* and 0 .*, found nan at \[0, 0\]"),
    )
}  # fmt: skip
CASES |= {
    f"attention_mask: shape {shape}": (
        {"attention_mask": np.ones(shape)},
        "^"
        + re.escape(
            "attention_mask: expected shape (B, P+L) = (2, 7) or (B, L, P+L) = (2, 4, 7), found "
            f"{shape}"
        )
        + "$",
    )
    for shape in (
        (B, L),
        (B, P),
        (B, P + L + 1),
        (B, L, L),
        (B, P + L, P + L),
        (P + L,),
        (1, P + L),
    )
}
CASES |= {
    f"use_cache={value!r}": (
        {"use_cache": value},
        "^use_cache: expected True, False or None, found ",
    )
    for value in ("no", 1, 0.0, [], np.array([True, False]))
}
MODEL_CLASSES = (NezhaModel, NezhaForMaskedLM)


def value_of(model, **change):
    return to_host(model(**(GOOD | change))[0]).copy()


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_the_good_arguments_are_good(model_class, backend):
    model = model_class(CONFIG, dtype="float64", backend=backend)
    assert len(model(**GOOD).past_key_values) == LAYERS
    for missing in (
        "attention_mask",
        "encoder_hidden_states",
        "encoder_attention_mask",
        "use_cache",
    ):
        model(**(GOOD | {missing: None}))


@pytest.mark.parametrize("name", CASES)
def test_bad_arguments_are_refused(name, backend):
    change, message = CASES[name]
    for model_class in MODEL_CLASSES:
        model = model_class(CONFIG, dtype="float64", backend=backend)
        expected = value_of(model)
        with pytest.raises(ArgumentError, match=message) as caught:
            model(**(GOOD | change), record=True)
        assert isinstance(caught.value, MinizhaError)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 300
        assert not any(to_host(g).any() for g in model.gradients().values())
        assert np.array_equal(value_of(model), expected)


@pytest.mark.parametrize("model_class", MODEL_CLASSES)
def test_what_an_encoder_or_a_decoder_alone_can_not_use(model_class, backend):
    encoder, alone = (model_class(config, backend=backend) for config in (ENCODER, ALONE))
    ids, states = GOOD["input_ids"], {"encoder_hidden_states": STATES}
    refused = [
        (encoder, {"past_key_values": past(OWN, OWN)}, "past_key_values: expected None, since is_de"),
        (encoder, {"past_key_values": ()}, "past_key_values: expected None, since is_decoder"),
        (encoder, states, "encoder_hidden_states: expected None, since add_cross_attention is Fa"),
        (alone, states, "encoder_hidden_states: expected None, since add_cross_attention is Fa"),
        (alone, {"encoder_attention_mask": np.ones((B, S))}, "encoder_attention_mask: expected enc"),
        (alone, {"past_key_values": PAST},
         r"past_key_values: expected 3 .* of 2 arrays each, found 3 of \[4, 4, 4\]$"),
        (alone, {"past_key_values": [layer[:3] for layer in PAST]}, "of 2 arrays each, found 3 of"),
    ]  # fmt: skip
    for model, change, message in refused:
        with pytest.raises(ArgumentError, match=message):
            model(ids, **change)
    assert "past_key_values" not in encoder(ids, use_cache=True)
    assert len(alone(ids, use_cache=True).past_key_values[0]) == 2
    assert "past_key_values" not in alone(ids, use_cache=False)


def test_past_of_pruned_heads(backend):
    """The past of self-attention has the unpruned heads, that of cross-attention all heads."""
    model = NezhaModel(CONFIG.replace(pruned_heads={1: [0]}), backend=backend)
    with pytest.raises(
        ArgumentError,
        match=r"^past_key_values\[1\]\[0\]: expected shape \(2, 1, 3, 4\), found \(2, 2, 3, 4\)$",
    ):
        model(**GOOD)
    kept = np.zeros((B, 1, P, d))
    model(**(GOOD | layers_with(1, (kept, kept, *PAST[1][2:]))))


def test_cross_attention_is_for_decoders():
    with pytest.raises(ArgumentError, match="is_decoder: expected True where add_cross_attention"):
        NezhaConfig(add_cross_attention=True)
    for name in ("is_decoder", "add_cross_attention", "use_cache"):
        with pytest.raises(ArgumentError, match=f"{name}: expected True or False, found 1"):
            NezhaConfig(**{name: 1})


def test_a_float32_decoder_takes_no_complex_numbers(backend):
    model = NezhaModel(CONFIG, backend=backend)
    for change in (past_with(0, 0, PAST[0][0] + 1j), {"encoder_hidden_states": STATES + 1j}):
        with pytest.raises(ArgumentError, match="expected real numbers in a float32 model"):
            model(**(GOOD | change))


def test_integers_and_nested_lists_are_numbers(backend):
    model = NezhaModel(CONFIG, dtype="float64", backend=backend)
    whole = [tuple(np.round(array) for array in layer) for layer in PAST]
    expected = value_of(model, past_key_values=whole)
    for other in (lambda a: a.astype(int), lambda a: a.tolist(), lambda a: a.astype("float16")):
        kept = [tuple(map(other, layer)) for layer in whole]
        assert np.array_equal(value_of(model, past_key_values=kept), expected)


def test_a_past_that_lies_elsewhere(backend):
    """Arrays on the device are for models on the device."""
    if backend == "numpy":
        pytest.skip("there is no device")
    there = NezhaModel(CONFIG, backend=backend)(GOOD["input_ids"], use_cache=True).past_key_values
    with pytest.raises(BackendError, match=r"past_key_values\[0\]\[0\]: .* found a CuPy"):
        NezhaModel(CONFIG)(GOOD["input_ids"], past_key_values=there)


def test_upstream_gradients_of_another_shape(backend):
    model = NezhaModel(CONFIG, dtype="float64", backend=backend)
    out = model(**GOOD, record=True, output_attentions=True)
    zeros = [tuple(np.zeros(a.shape) for a in layer) for layer in out.past_key_values]
    for upstream, message in (
        (zeros[:-1], "past_key_values: expected a sequence of 3 arrays or None"),
        ([zeros[0][:2], *zeros[1:]], r"past_key_values\[0\]: expected a sequence of 4 arrays"),
        ([zeros[0][::-1], *zeros[1:]], r"past_key_values\[0\]\[0\]: expected shape \(2, 2, 7, 4\)"),
        ([zeros[0], np.zeros(3), zeros[2]], r"past_key_values\[1\]: expected a sequence of 4"),
        ("x", "past_key_values: expected a sequence of 3"),
    ):
        with pytest.raises(ArgumentError, match=message):
            out.backward(past_key_values=upstream)
    with pytest.raises(
        ArgumentError, match=r"cross_attentions\[0\]: expected shape \(2, 2, 4, 5\)"
    ):
        out.backward(cross_attentions=[np.zeros((B, N, L, P + L)), None, None])
    assert not any(to_host(g).any() for g in model.gradients().values())
    out.backward(past_key_values=[None, (None, None, None, None), zeros[2]])
    out.backward(past_key_values=zeros, cross_attentions=[None] * LAYERS)
