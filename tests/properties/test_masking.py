"""What an attention mask hides, and that it hides nothing else."""

from dataclasses import replace

import numpy as np

from minizha import NezhaForMaskedLM, NezhaModel
from minizha.backend import to_host
from tests.support.assertions import assert_close, assert_equal
from tests.support.running import forward, mapped, random_upstream, recorded, run, run_randomly
from tests.support.strategies import MASKS, VISIBLE, cases, holds_for

HIDING = tuple(mask for mask in VISIBLE if mask != "none")
FLAT = ("right", "left", "holes")


def dtype_of(case):
    """float32 has another lowest number, with the same effect."""
    return case.pick("dtype", ("float32", "float64"))


def widened(inputs, case, before, after):
    """The inputs with masked tokens added before and after them."""
    rng, L = case.rng("padding"), case.L
    mask = inputs.get("attention_mask", np.ones((case.B, L), dtype=np.int64))
    square = mask.ndim == 3
    if square:  # as queries, the new tokens may see any key
        rows = ((0, 0), (before, after), (0, 0))
        mask = np.pad(mask, rows, constant_values=1)
    keys = ((0, 0),) * (mask.ndim - 1) + ((before, after),)

    def more(ids, below):
        new = rng.integers(0, below, (case.B, before + L + after))
        new[:, before : before + L] = ids
        return new

    return inputs | {
        "attention_mask": np.pad(mask, keys),
        "input_ids": more(inputs["input_ids"], case.config.vocab_size),
        "token_type_ids": more(inputs["token_type_ids"], case.config.type_vocab_size),
    }


def narrowed(found, case, before):
    """The entries of each output for the tokens without the padding."""
    real = slice(before, before + case.L)
    cut = {}
    for name, array in found.items():
        if name.startswith("attentions"):
            cut[name] = array[:, :, real, real]
        elif array.ndim == 3 and not name.startswith("∂"):
            cut[name] = array[:, real]
        else:
            cut[name] = array
    return cut


def padded_upstream(upstream, case, before, after):
    """The same upstream gradient for the real tokens, 0 for masked queries, and random numbers for the
    attention of real tokens to masked keys, which cannot change."""
    rng = case.rng("keys")

    def pad(name, array):
        if name.startswith("attentions"):
            B, N, L, _ = array.shape
            wide = np.zeros((B, N, before + L + after, before + L + after))
            wide[:, :, before : before + L] = rng.standard_normal((B, N, L, before + L + after))
            wide[:, :, before : before + L, before : before + L] = array
            return wide
        if name == "pooler_output":
            return array
        return np.pad(array, ((0, 0), (before, after), (0, 0)))

    return mapped(upstream, pad)


def check_padding(case, backend, before, after):
    """With a prefix there is no pooler, since that reads the first token."""
    model = case.model(NezhaModel, backend, add_pooling_layer=before == 0)
    inputs = case.inputs()
    alone, upstream = run_randomly(model, inputs, case.rng("upstream"))
    padded = run(
        model,
        widened(inputs, case, before, after),
        padded_upstream(upstream, case, before, after),
    )
    assert_close(narrowed(padded, case, before), alone)


@holds_for(cases(masks=VISIBLE))
def test_padding_changes_nothing_for_the_other_tokens_nor_the_gradients(case, backend):
    check_padding(case, backend, 0, case.pick("after", (1, 2, 3)))


@holds_for(cases(masks=VISIBLE))
def test_a_masked_prefix_shifts_all_tokens_and_changes_none(case, backend):
    check_padding(case, backend, case.pick("before", (1, 2, 3)), case.pick("after", (0, 1)))


def others_under_the_mask(inputs, case):
    """Other ids and types where the mask hides a token."""
    rng, hidden = case.rng("others"), inputs["attention_mask"] == 0
    ids = rng.integers(0, case.config.vocab_size, hidden.shape)
    types = rng.integers(0, case.config.type_vocab_size, hidden.shape)
    return inputs | {
        "input_ids": np.where(hidden, ids, inputs["input_ids"]),
        "token_type_ids": np.where(hidden, types, inputs["token_type_ids"]),
    }


@holds_for(cases(masks=FLAT))
def test_the_ids_under_the_mask_do_not_matter(case, backend):
    model, inputs = case.model(NezhaForMaskedLM, backend), case.inputs()
    seen = inputs["attention_mask"] == 1
    labels = np.where(seen, case.labels(NezhaForMaskedLM)["labels"], -100)
    first = run(model, inputs | {"labels": labels})
    second = run(model, others_under_the_mask(inputs, case) | {"labels": labels})
    # masked queries may differ: their own input reaches them through the residual
    for found in (first, second):
        for name, array in found.items():
            if name == "logits" or name.startswith("hidden_states"):
                found[name] = array[seen]
            elif name.startswith("attentions"):
                found[name] = array.swapaxes(1, 2)[seen]
    assert_close(second, first)


@holds_for(cases(masks=HIDING))
def test_a_masked_key_gets_exactly_no_attention(case, backend):
    inputs = case.inputs()
    found = forward(case.model(NezhaModel, backend, dtype_of(case)), inputs)
    mask = inputs["attention_mask"]
    hidden = (mask if mask.ndim == 3 else mask[:, None, :])[:, None] == 0
    for name, weights in found.items():
        if name.startswith("attentions"):
            assert (weights[np.broadcast_to(hidden, weights.shape)] == 0).all(), name


@holds_for(cases(masks=HIDING, head_masks=("none",)))
def test_a_visible_key_gets_some_attention(case, backend):
    """The converse: a key that is not masked is seen."""
    inputs = case.inputs()
    found = forward(case.model(NezhaModel, backend), inputs)
    mask = inputs["attention_mask"]
    seen = (mask if mask.ndim == 3 else mask[:, None, :])[:, None] == 1
    for name, weights in found.items():
        if name.startswith("attentions"):
            assert (weights[np.broadcast_to(seen, weights.shape)] > 0).all(), name


@holds_for(cases(masks=FLAT))
def test_a_masked_token_gets_no_gradient_from_the_others(case, backend):
    model, inputs = case.model(NezhaModel, backend, add_pooling_layer=False), case.inputs()
    hidden = inputs["attention_mask"] == 0
    size = (case.B, case.L, case.config.hidden_size)
    inputs["inputs_embeds"] = case.rng("embeds").standard_normal(size)
    del inputs["input_ids"]
    out = recorded(model, inputs)
    upstream = random_upstream(out, case.rng("upstream"))

    def only_visible(name, array):
        array = array.swapaxes(1, 2) if name.startswith("attentions") else array
        array[hidden] = 0.0
        return array.swapaxes(1, 2) if name.startswith("attentions") else array

    gradient = to_host(out.backward(**mapped(upstream, only_visible))["inputs_embeds"])
    assert (gradient[hidden] == 0).all()
    assert not hidden.all(axis=1).any()
    assert (gradient[~hidden] != 0).any()


@holds_for(cases(masks=("empty", "empty square"), head_masks=("none",)))
def test_a_fully_masked_row_attends_to_all_keys_alike(case, backend):
    inputs = case.inputs()
    mask = inputs["attention_mask"]
    empty = ~mask.astype(bool).any(axis=-1)
    empty = empty if mask.ndim == 3 else np.repeat(empty[:, None], case.L, axis=1)
    found = forward(case.model(NezhaModel, backend, dtype_of(case)), inputs)
    for name, weights in found.items():
        if name.startswith("attentions"):
            assert (weights.swapaxes(1, 2)[empty] == 1.0 / case.L).all(), name


@holds_for(cases(masks=("none",)))
def test_no_mask_is_a_mask_of_ones_in_either_shape(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    expected = forward(model, inputs)
    for shape in ((case.B, case.L), (case.B, case.L, case.L)):
        assert_equal(forward(model, inputs | {"attention_mask": np.ones(shape)}), expected)


@holds_for(cases(masks=("right", "left", "holes", "empty")))
def test_a_flat_mask_is_a_square_one_with_equal_rows(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    flat, upstream = run_randomly(model, inputs, case.rng("upstream"))
    square = np.repeat(inputs["attention_mask"][:, None, :], case.L, axis=1)
    assert_equal(run(model, inputs | {"attention_mask": square}, upstream), flat)


@holds_for(cases(masks=tuple(mask for mask in MASKS if mask != "none")))
def test_a_mask_may_be_of_booleans_integers_or_floats(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    mask = inputs["attention_mask"]
    expected = forward(model, inputs)
    dtype = case.pick("dtype", (np.uint8, np.int8, np.int32, np.float16, np.float32, np.float64))
    for other in (mask.astype(bool), mask.astype(dtype), mask.tolist()):
        assert_equal(forward(model, inputs | {"attention_mask": other}), expected)


@holds_for(cases(masks=("none",), head_masks=("none",), lengths=range(2, 8)))
def test_under_a_triangular_mask_no_token_sees_a_later_one(case, backend):
    model, inputs = case.model(NezhaModel, backend, add_pooling_layer=False), case.inputs()
    triangle = np.tril(np.ones((case.L, case.L)))
    inputs["attention_mask"] = np.repeat(triangle[None], case.B, axis=0)
    keep = case.pick("keep", range(1, case.L))
    prefix = {
        "input_ids": inputs["input_ids"][:, :keep],
        "token_type_ids": inputs["token_type_ids"][:, :keep],
        "attention_mask": inputs["attention_mask"][:, :keep, :keep],
    }
    whole, part = forward(model, inputs), forward(model, prefix)
    assert_close(narrowed(whole, replace(case, L=keep), 0), part)
