"""A decoder gives the same results for a text in one call and in many."""

from dataclasses import replace

import numpy as np

from minizha import NezhaForMaskedLM, NezhaModel
from minizha.backend import to_backend, to_host
from tests.support import plain_nezha
from tests.support.assertions import assert_close, assert_equal
from tests.support.decoder_cases import (
    LOOKING,
    called,
    called_in_parts,
    decoder_cases,
    joined,
    scaled,
    tokens,
    upstream_of,
)
from tests.support.running import fields, flattened, mapped, on_host
from tests.support.strategies import holds_for

MODEL_CLASSES = (NezhaModel, NezhaModel, NezhaForMaskedLM)


def bare(case, backend):
    """Without a pooler, which reads the first token of each call."""
    return case.model(NezhaModel, backend, add_pooling_layer=False)


def with_logits_or_bare(case, backend):
    model_class = case.pick("class", MODEL_CLASSES)
    return bare(case, backend) if model_class is NezhaModel else case.model(model_class, backend)


# --- one call or many -----------------------------------------------------------------------------


@holds_for(decoder_cases())
def test_a_text_in_many_calls_is_the_text_in_one(case, backend):
    model, inputs = with_logits_or_bare(case, backend), case.inputs()
    seen = case.seen(inputs)
    whole = fields(called(model, inputs))
    parts = joined(case, called_in_parts(model, case, inputs))
    assert_close(scaled(parts, seen), scaled(whole, seen))


@holds_for(decoder_cases())
def test_the_shapes_are_those_of_the_documentation(case, backend):
    """N heads, of which self-attention may have lost some; S tokens of the encoder."""
    c, B, d = case.config, case.B, case.config.head_size
    model, inputs = bare(case, backend), case.inputs()
    for out, (start, stop) in zip(called_in_parts(model, case, inputs), case.calls(), strict=True):
        found = {name: array.shape for name, array in fields(out).items()}
        queries, crosses = stop - start, case.crossing in LOOKING
        for i in range(c.num_hidden_layers):
            N = len(c.unpruned_heads(i))
            assert len(out.past_key_values[i]) == (4 if crosses else 2)
            for j in range(len(out.past_key_values[i])):
                kept = (B, N, stop, d) if j < 2 else (B, c.num_attention_heads, case.S, d)
                assert found[f"past_key_values.{i}.{j}"] == kept
            assert found[f"attentions.{i}"] == (B, N, queries, stop)
            if crosses:
                cross = (B, c.num_attention_heads, queries, case.S)
                assert found[f"cross_attentions.{i}"] == cross
        assert ("cross_attentions" in out) == crosses


def chained(model, case, inputs, upstream):
    """Gradients by the backward passes of the calls, last call first; each passes the gradient of its
    past to the one before. Those of the parameters, the encoder's states and the head mask add up."""
    outs, given = called_in_parts(model, case, inputs), []
    model.zero_grad()
    dpast = upstream["past_key_values"]
    for out, (start, stop) in reversed(list(zip(outs, case.calls(), strict=True))):
        part = {name: d for name, d in upstream.items() if name != "past_key_values"}
        part = mapped(part, lambda name, d, s=start, t=stop: tokens(name, d, s, t))
        # where two arrays of four were passed on, the others get no upstream gradient
        missing = len(out.past_key_values[0]) - len(dpast[0])
        part["past_key_values"] = [(*layer, *(None,) * missing) for layer in dpast]
        found = out.backward(**part)
        dpast = found.pop("past_key_values", None)
        given.insert(0, flattened(found))
    gradients = on_host(model.gradients())
    if "inputs_embeds" in inputs:
        arrays = [found["inputs_embeds"] for found in given]
        gradients["inputs_embeds"] = np.concatenate(arrays, axis=1)
    for name in ("encoder_hidden_states", "head_mask"):
        if name in inputs:
            gradients[name] = sum(found.get(name, 0.0) for found in given)
    return gradients


@holds_for(decoder_cases())
def test_the_gradients_of_many_calls_are_those_of_one(case, backend):
    model, inputs = with_logits_or_bare(case, backend), case.inputs()
    out = called(model, inputs)
    upstream = upstream_of(case, out, inputs)
    given = out.backward(**upstream)
    expected = on_host(model.gradients()) | flattened(given)
    assert_close(chained(model, case, inputs, upstream), expected)


@holds_for(decoder_cases(pad_token_id=None))  # whose lookup has gradient 0 by convention
def test_upstream_gradients_are_those_of_the_complex_step(case, backend):
    """For every field, keys and values and cross-attention included, along one direction of all
    parameters and float inputs, the past included; with dropout and without."""
    model, inputs = with_logits_or_bare(case, backend), case.inputs()
    (_, first), *_ = case.calls()
    if first < case.L:
        past = called(model, case.part(inputs, 0, first)).past_key_values
        past = mapped(case.passed_on(past), lambda _, array: to_host(array))
        inputs = case.part(inputs, first, case.L) | {"past_key_values": past}
    training = case.pick("mode", (True, False))

    def run(model, inputs):
        return called(model.train(case.seed) if training else model, inputs)

    out, rng, step = run(model, inputs), case.rng("direction"), 1e-30
    upstream = upstream_of(case, out)
    given = out.backward(**upstream)
    gradients = on_host(model.gradients()) | flattened(given)
    along = {name: rng.standard_normal(array.shape) for name, array in gradients.items()}
    stepped = model.astype("complex128")
    for name, array in stepped.state_dict().items():
        array += to_backend(1j * step * along[name], stepped.xp)
    floats = {name: inputs[name] for name in given}
    floats = mapped(floats, lambda name, array: array + 1j * step * along[name])
    found, above = fields(run(stepped, inputs | floats)), flattened(upstream)
    expected = sum((above[name] * found[name].imag).sum() / step for name in above)
    terms = np.concatenate([(d * along[name]).ravel() for name, d in gradients.items()])
    assert abs(terms.sum() - expected) <= 1e-12 * max(1.0, np.abs(terms).sum())


# --- the reference --------------------------------------------------------------------------------


def assert_plain(found, case, inputs, states, read):
    """``found`` holds the reference's hidden states, and its keys and values."""
    plain = {f"hidden_states.{i}": state for i, state in enumerate(states)}
    for i, pair in enumerate(read):
        for j, arrays in enumerate(pair):
            plain[f"past_key_values.{i}.{j}"] = np.concatenate(arrays, axis=1).swapaxes(1, 2)
    seen = case.seen(inputs)
    assert_close(scaled({name: found[name] for name in plain}, seen), scaled(plain, seen))


@holds_for(decoder_cases())
def test_a_decoder_is_that_of_the_plain_reference(case, backend):
    model, inputs = bare(case, backend), case.inputs()
    plain = plain_nezha.continued(on_host(model.state_dict()), case.config, inputs)
    assert_plain(fields(called(model, inputs)), case, inputs, *plain)


@holds_for(decoder_cases(lengths=range(1, 6)))
def test_so_it_is_one_token_at_a_time(case, backend):
    """The reference in one call, and in calls that are cut elsewhere."""
    model, inputs = bare(case, backend), case.inputs()
    tokenwise, p = replace(case, cuts=-1), on_host(model.state_dict())
    found = joined(case, called_in_parts(model, tokenwise, inputs))
    assert_plain(found, case, inputs, *plain_nezha.continued(p, case.config, inputs))
    states, past = [], None
    for start, stop in case.calls():
        part = replace(case, crossing="again").part(inputs, start, stop)
        state, past = plain_nezha.continued(p, case.config, part, past)
        states.append(state)
    states = [np.concatenate(each, axis=1) for each in zip(*states, strict=True)]
    assert_plain(found, case, inputs, states, past)


# --- what is not seen -----------------------------------------------------------------------------


def other_tokens(inputs, case, place):
    """The same inputs with other tokens from one position on."""
    rng, others = case.rng("others"), dict(inputs)
    for name in inputs.keys() & {"input_ids", "inputs_embeds", "token_type_ids"}:
        others[name] = inputs[name].copy()
        others[name][:, place:] = rng.permuted(inputs[name], axis=1)[:, place:]
    return others


@holds_for(decoder_cases(lengths=range(2, 8), embeds=(True,)))
def test_a_later_token_changes_nothing_earlier(case, backend):
    """Exactly, for tokens that see a key; those that see none take the mean over all keys, later ones
    included."""
    model, inputs = bare(case, backend), case.inputs()
    place, seen = case.pick("place", range(1, case.L)), case.seen(inputs)
    first = scaled(fields(called(model, inputs)), seen)
    second = scaled(fields(called(model, other_tokens(inputs, case, place))), seen)

    def earlier(found):
        return mapped(found, lambda name, array: tokens(name, array, 0, place))

    assert_equal(earlier(second), earlier(first))


@holds_for(decoder_cases(lengths=range(2, 8), embeds=(True,)))
def test_nothing_earlier_asks_anything_of_a_later_token(case, backend):
    model, inputs = bare(case, backend), case.inputs()
    out, place = called(model, inputs), case.pick("place", range(1, case.L))
    earlier = np.broadcast_to(np.arange(case.L) < place, (case.B, case.L))
    upstream = scaled(upstream_of(case, out, inputs), earlier)
    gradient = to_host(out.backward(**upstream)["inputs_embeds"])
    assert (gradient[:, place:] == 0).all()
    assert (gradient != 0).any() == case.seen(inputs)[:, :place].any()


@holds_for(decoder_cases(masks=("left", "holes", "empty", "empty square"), head_masks=("none",)))
def test_a_token_that_sees_no_key_attends_to_all_there_are_alike(case, backend):
    """All keys of its own call and of those before; in one call, as in Transformers, later ones too."""
    model, inputs = bare(case, backend), case.inputs()
    empty = ~case.seen(inputs)
    for cut in (replace(case, cuts=0), case):
        outs = called_in_parts(model, cut, inputs)
        for out, (start, stop) in zip(outs, cut.calls(), strict=True):
            for weights in out.attentions:
                rows = to_host(weights).swapaxes(1, 2)[empty[:, start:stop]]
                assert (rows == 1.0 / stop).all()


@holds_for(decoder_cases(masks=("none", "right", "holes"), crossing=("none", "unused")))
def test_a_hidden_past_changes_nothing(case, backend):
    """P masked keys and values only shift all tokens by P positions. (There is no cross-attention: the
    encoder's tokens are not shifted.)"""
    model, inputs, config = bare(case, backend), case.inputs(), case.config
    P, rng, seen = case.pick("P", (1, 2, 5)), case.rng("past"), case.seen(inputs)
    past = []
    for i in range(config.num_hidden_layers):
        size = (2, case.B, len(config.unpruned_heads(i)), P, config.head_size)
        past.append(tuple(rng.standard_normal(size)))
    mask = inputs.get("attention_mask", np.ones((case.B, case.L)))
    more = inputs | {"attention_mask": np.pad(mask, ((0, 0), (P, 0)))}
    found = fields(called(model, more, past_key_values=past))
    for name, array in found.items():
        if name.startswith("attentions"):
            found[name] = array[..., P:]
        elif name.startswith("past_key_values"):
            found[name] = array[:, :, P:]
    assert_close(scaled(found, seen), scaled(fields(called(model, inputs)), seen))


@holds_for(decoder_cases(crossing=LOOKING))
def test_an_empty_past_is_a_past_of_no_tokens(case, backend):
    """It may hold the encoder's keys and values besides."""
    model, inputs = bare(case, backend), case.inputs()
    out = called(model, inputs)
    past = mapped(out.past_key_values, lambda name, a: a[:, :, :0] if name[-1] in "01" else a)
    given = {name: a for name, a in inputs.items() if name != "encoder_hidden_states"}
    again = called(model, given, past_key_values=past)
    assert_close(fields(again), fields(out))
    # the encoder's keys and values are returned unchanged, and so is their upstream gradient
    dcross = [layer[2:] for layer in upstream_of(case, again)["past_key_values"]]
    found = again.backward(past_key_values=[(None, None, *pair) for pair in dcross])
    for d, layer, pair in zip(found["past_key_values"], past, dcross, strict=True):
        assert [a.shape for a in d] == [a.shape for a in layer]
        assert_equal(flattened(d[2:]), flattened(pair))
