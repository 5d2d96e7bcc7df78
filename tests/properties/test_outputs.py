"""The fields of every output: names, order, shapes, dtypes, and how they relate to each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
)
from minizha.backend import is_array, to_host
from tests.support.assertions import assert_close, assert_equal
from tests.support.plain_nezha import _norm
from tests.support.running import backward, fields, forward, on_host, recorded, run, run_randomly
from tests.support.strategies import CLASSES, cases, holds_for

FLAGS = st.fixed_dictionaries(
    {
        "output_attentions": st.sampled_from((None, False, True)),
        "output_hidden_states": st.sampled_from((None, False, True)),
        "record": st.sampled_from((None, False, True)),
    }
)


def kind_of(case):
    return case.pick("class", CLASSES)


def documented(model_class, case, labels, pooler, hidden_states, attentions):
    """Names, order and shapes of the fields, by the documentation."""
    config, B, L = case.config, case.B, case.L
    D, N, V = config.hidden_size, config.num_attention_heads, config.vocab_size
    shapes = {"loss": ()} if labels else {}
    shapes |= {
        NezhaModel: {"last_hidden_state": (B, L, D)}
        | ({"pooler_output": (B, D)} if pooler else {}),
        NezhaForPreTraining: {"prediction_logits": (B, L, V), "seq_relationship_logits": (B, 2)},
        NezhaForMaskedLM: {"logits": (B, L, V)},
        NezhaForNextSentencePrediction: {"logits": (B, 2)},
    }[model_class]
    layers = config.num_hidden_layers
    if hidden_states:
        shapes |= {f"hidden_states.{i}": (B, L, D) for i in range(layers + 1)}
    if attentions:
        shapes |= {f"attentions.{i}": (B, N, L, L) for i in range(layers)}
    return shapes


@pytest.mark.parametrize("model_class", CLASSES, ids=lambda model_class: model_class.__name__)
@given(case=cases(), flags=FLAGS, defaults=st.tuples(st.booleans(), st.booleans()), data=st.data())
def test_names_order_and_shapes_are_the_documented_ones(
    model_class, case, flags, defaults, data, backend
):
    """For every combination of flags; None stands for the configuration's flag."""
    case = case.with_config(output_attentions=defaults[0], output_hidden_states=defaults[1])
    options, pooler = {}, True
    if model_class is NezhaModel:
        pooler = options["add_pooling_layer"] = data.draw(st.booleans())
    labels = {n: a for n, a in case.labels(model_class).items() if data.draw(st.booleans())}
    out = model_class(case.config, backend=backend, **options)(**case.inputs(), **labels, **flags)
    wanted = [
        default if flags[name] is None else flags[name]
        for name, default in zip(
            ("output_attentions", "output_hidden_states"), defaults, strict=True
        )
    ]
    expected = documented(model_class, case, labels, pooler, wanted[1], wanted[0])
    found = {name: tuple(array.shape) for name, array in fields(out).items()}
    assert list(found.items()) == list(expected.items())
    recorded_by_default = bool(labels)
    keeps = recorded_by_default if flags["record"] is None else flags["record"]
    assert (out.record is not None) == keeps


@holds_for(cases())
def test_the_tuple_has_the_fields_in_order(case, backend):
    model_class = kind_of(case)
    model = case.model(model_class, backend)
    inputs = case.inputs() | (
        case.labels(model_class) if case.pick("labels", (True, True, False)) else {}
    )
    flags = {
        name: case.pick(name, (False, True))
        for name in ("output_attentions", "output_hidden_states")
    }
    out = model(**inputs, **flags)
    as_tuple = model(**inputs, **flags, return_dict=False)
    configured = model_class(
        case.config.replace(return_dict=False), dtype="float64", backend=backend
    )
    configured.load_state_dict(model.state_dict())
    assert isinstance(as_tuple, tuple)
    for other in (as_tuple, configured(**inputs, **flags)):
        assert_equal(flat(other), flat(out.to_tuple()))


def flat(values):
    """The arrays of a nested tuple."""
    found = {}
    for i, value in enumerate(values):
        if isinstance(value, tuple):
            found |= {f"{i}.{j}": to_host(array) for j, array in enumerate(value)}
        else:
            found[str(i)] = to_host(value)
    return found


@holds_for(cases())
def test_a_field_is_the_same_by_name_key_and_place(case, backend):
    model_class = kind_of(case)
    inputs = case.inputs() | case.labels(model_class)
    out = case.model(model_class, backend)(
        **inputs, output_attentions=case.pick("attentions", (False, True))
    )
    names = out.keys()
    assert list(out) == list(names)
    assert len(out) == len(names) == len(out.to_tuple())
    for place, name in enumerate(names):
        assert getattr(out, name) is out[name]
        assert out[place] is out[name]
        assert out.values()[place] is out[name]
        assert out.items()[place] == (name, out[name])
        assert name in out
    for name in set(type(out).fields) - set(names):
        assert getattr(out, name) is None
        assert name not in out
    assert out[:1] == out.to_tuple()[:1]


@holds_for(cases())
def test_asking_for_more_outputs_changes_none_of_the_others(case, backend):
    model_class = kind_of(case)
    model, inputs = case.model(model_class, backend), case.inputs() | case.labels(model_class)
    everything = forward(model, inputs)
    few = fields(model(**inputs))
    # but for rounding: the plain attention makes the weights, a kernel those outputs alone
    assert_close(few, {name: everything[name] for name in few}, 1e-14)


@holds_for(cases())
def test_hidden_states_run_from_the_embeddings_to_the_last_one(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    out = model(**inputs, output_hidden_states=True)
    assert len(out.hidden_states) == case.config.num_hidden_layers + 1
    assert_equal(to_host(out.hidden_states[-1]), to_host(out.last_hidden_state))
    p = on_host(model.state_dict())
    words = p["embeddings.word_embeddings.weight"][inputs["input_ids"]]
    types = p["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    embedded = _norm(p, "embeddings.", case.config, words + types)
    assert_close(to_host(out.hidden_states[0]), embedded)


@holds_for(cases())
def test_the_pooler_reads_the_first_token_alone(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    out = model(**inputs)
    p = on_host(model.state_dict())
    first = to_host(out.last_hidden_state)[:, 0]
    pooled = np.tanh(first @ p["pooler.dense.weight"].T + p["pooler.dense.bias"])
    assert_close(to_host(out.pooler_output), pooled)
    bare = case.model(NezhaModel, backend, add_pooling_layer=False)
    bare.load_state_dict(model.state_dict(), strict=False)
    without = bare(**inputs)
    assert without.pooler_output is None
    assert_equal(to_host(without.last_hidden_state), to_host(out.last_hidden_state))


@holds_for(cases(head_masks=("none",)))
def test_attention_is_a_distribution_over_the_keys(case, backend):
    for name, array in forward(case.model(NezhaModel, backend), case.inputs()).items():
        if name.startswith("attentions"):
            assert (array >= 0).all()
            assert_close(array.sum(axis=-1), np.ones(array.shape[:-1]), 1e-14)


@holds_for(cases())
def test_a_class_with_one_head_is_that_half_of_the_class_with_both(case, backend):
    """One set of weights: the same logits, loss and gradients."""
    whole, inputs = case.model(NezhaForPreTraining, backend), case.inputs()
    model_class, field, label = case.pick(
        "half",
        (
            (NezhaForMaskedLM, "prediction_logits", "labels"),
            (NezhaForNextSentencePrediction, "seq_relationship_logits", "next_sentence_label"),
        ),
    )
    labels = case.labels(NezhaForPreTraining)[label]
    model = model_class(case.config, dtype="float64", backend=backend)
    assert model.load_state_dict(whole.state_dict(), strict=False).missing == ()
    expected = run(whole, inputs | {label: labels})
    expected["logits"] = expected[field]
    found = run(model, inputs | {"labels": labels})
    assert_equal(found, {name: expected[name] for name in found})
    left = [name for name in expected if name.startswith("∂") and name not in found]
    assert all((expected[name] == 0).all() for name in left)


@holds_for(cases())
def test_the_model_without_head_is_the_body_of_those_with_one(case, backend):
    model_class = case.pick("headed", CLASSES[1:])
    headed, inputs = case.model(model_class, backend), case.inputs()
    pooler = model_class is not NezhaForMaskedLM
    body = NezhaModel(case.config, dtype="float64", backend=backend, add_pooling_layer=pooler)
    assert body.load_state_dict(headed.state_dict(), strict=False).missing == ()
    found, expected = forward(body, inputs), forward(headed, inputs)
    indexed = [name for name in found if "." in name]
    assert_equal({n: found[n] for n in indexed}, {n: expected[n] for n in indexed})


def arrays_of(record):
    """Every array in a record, at any depth."""
    if is_array(record):
        yield record
    elif isinstance(record, tuple):
        for part in record:
            yield from arrays_of(part)


@holds_for(cases())
def test_each_float_dtype_stays_what_it_is(case, backend):
    """Outputs, the whole record and the gradients."""
    dtype = case.pick("dtype", ("float32", "float64"))
    model_class = kind_of(case)
    model = case.model(model_class, backend, dtype)
    inputs = case.inputs() | case.labels(model_class)
    embeds = case.rng("embeds").standard_normal((case.B, case.L, case.config.hidden_size))
    if case.pick("embeds", (True, False, False)):
        del inputs["input_ids"]
        inputs["inputs_embeds"] = embeds
    if case.pick("train", (True, False)):
        model.train(seed=1)
    out = recorded(model, inputs)
    found, _ = run_randomly(model, inputs, case.rng("upstream"))
    found |= backward(model, out) if "loss" in out else {}
    found |= {f"record {i}": a for i, a in enumerate(arrays_of(out.record)) if a.dtype.kind == "f"}
    assert len(found) > 20
    assert {name: str(array.dtype) for name, array in found.items()} == dict.fromkeys(found, dtype)
