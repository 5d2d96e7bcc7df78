"""A trace holds the model's own arrays, bit for bit, under known names, and leaves the model alone."""

import functools

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.crosscheck import names, trace
from minizha.crosscheck.names import DROPOUT, without_prefix
from minizha.nezha import embeddings, feed_forward
from tests.support.patching import changed_result
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import CROSS, TINY, TWO_LAYERS, Tiny
from tests.support.traces import model_and_inputs

BARE = {
    "bare": Tiny("NezhaModel", labels=()),
    "bare, dropout": Tiny("NezhaModel", labels=(), train=True, mask="2d"),
    "bare, with an encoder": Tiny("NezhaModel", labels=(), config=CROSS | TWO_LAYERS, S=3),
}
CASES = TINY | HEADS | BARE
HEAD_OF = {
    "NezhaForMaskedLM": "cls.predictions",
    "NezhaForNextSentencePrediction": "cls.seq_relationship",
}
LAST = "embeddings.word_embeddings.weight.grad"


@functools.cache
def traced(name, backend, **options):
    return trace(*model_and_inputs(CASES[name], backend), **options)


def model_and_output(name, backend, **options):
    """A model, and its output in a call like that of a trace: without chunks."""
    model = CASES[name].model(backend).copy_with(chunk_size_feed_forward=0)
    cache = {"use_cache": True} if CASES[name].class_name == "NezhaForMaskedLM" else {}
    if not model.config.is_decoder:
        cache = {}
    wanted = {"output_hidden_states": True, "output_attentions": True, "record": True} | cache
    return model, model(**CASES[name].inputs(), **wanted, **options)


def assert_same_array(found, expected):
    """A NumPy array with the bits of ``expected``."""
    assert type(found) is np.ndarray
    expected = to_host(expected)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


def activations(found):
    return [n for n in found if not names.is_gradient(n)]


# --- the arrays -----------------------------------------------------------------------------------


def outputs(out):
    """``{name in a trace: field of the output}``, for all fields that the output has."""
    found = dict(zip(_layers(out), out.hidden_states, strict=True))
    for field, module in (("attentions", "attention"), ("cross_attentions", "crossattention")):
        for i, array in enumerate(getattr(out, field, None) or ()):
            found[f"encoder.layer.{i}.{module}.weights"] = array
    for field, name in (
        ("loss", "loss"),
        ("pooler_output", "pooler"),
        ("prediction_logits", "cls.predictions"),
        ("seq_relationship_logits", "cls.seq_relationship"),
    ):
        if getattr(out, field, None) is not None:
            found[name] = getattr(out, field)
    return found


def _layers(out):
    return ["embeddings", *(f"encoder.layer.{i}" for i in range(len(out.hidden_states) - 1))]


@pytest.mark.parametrize("name", CASES)
def test_activations_are_the_models_outputs(name, backend):
    found, (_, out) = traced(name, backend), model_and_output(name, backend)
    expected = outputs(out)
    for key, array in expected.items():
        assert_same_array(found[key], array)
    if getattr(out, "logits", None) is not None:
        head = HEAD_OF.get(CASES[name].class_name, "classifier")
        assert_same_array(found[head].reshape(out.logits.shape), out.logits)
    if getattr(out, "start_logits", None) is not None:
        for column, field in enumerate(("start_logits", "end_logits")):
            assert_same_array(found["qa_outputs"][..., column], out[field])
    assert len(expected) >= 2 + CASES[name].model(backend).config.num_hidden_layers
    assert ("loss" in found) == ("loss" in out)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_models(name, backend):
    found, (model, out) = traced(name, backend), model_and_output(name, backend)
    fields = {f: d for f, d in found.inputs.items() if f.startswith(names.UPSTREAM)}
    assert bool(fields) == ("loss" not in out)
    given = out.backward(
        **{f.removeprefix(names.UPSTREAM): model.xp.asarray(d) for f, d in fields.items()}
    )
    parameters = {f"{without_prefix(n)}.grad": d for n, d in model.gradients().items()}
    for key, gradient in parameters.items():
        if key in found:
            assert_same_array(found[key], gradient)
        else:
            assert not to_host(gradient).any(), key
    for field, gradient in given.items():
        if field == "inputs_embeds":
            key = "embeddings.word_embeddings.grad"
            assert_same_array(found[key].reshape(gradient.shape), gradient)
        elif field == "past_key_values":
            for i, layer in enumerate(gradient):
                for j, array in enumerate(layer):
                    assert_same_array(found[f"past_key_values.{i}.{j}.grad"], array)
        elif field != "head_mask":  # whose gradient is in no trace
            assert_same_array(found[f"{field}.grad"], gradient)
    inputs = [n for n in found if n.endswith(".grad") and names.entry(n) is None]
    assert set(inputs) - parameters.keys() == {
        f"{n}.grad" for n in CASES[name].inputs() if n == "encoder_hidden_states"
    } | {f"{n}.grad" for n in found.inputs if n.startswith("past_key_values")}


@pytest.mark.parametrize("name", CASES)
def test_embeddings_that_are_brought_along(name, backend):
    case = CASES[name]
    found, inputs = traced(name, backend)["embeddings.word_embeddings"], case.inputs()
    if case.embeds:
        assert_same_array(found, inputs["inputs_embeds"].reshape(found.shape))
    else:
        table = to_host(dict(case.model(backend).state_dict())[_words(case, backend)])
        assert_same_array(found, table[inputs["input_ids"].reshape(found.shape[:2])])


def _words(case, backend):
    keys = case.model(backend).state_dict()
    return next(k for k in keys if k.endswith("word_embeddings.weight"))


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_every_name_is_in_the_table_and_every_axis_has_its_letter(name, backend):
    found, sizes = traced(name, backend), {}
    parameters = {f"{without_prefix(n)}.grad" for n in found.parameters}
    handed_in = {f"{n}.grad" for n in found.inputs}
    for key, array in found.items():
        known = names.entry(key)
        assert known or key in parameters | handed_in or key.endswith(DROPOUT), key
        letters = names.axes(key, array.ndim)
        assert len(letters) == array.ndim
        if known is None:
            continue
        assert len(known.axes) == array.ndim or "…" in known.axes, key
        for letter, size in zip(letters, array.shape, strict=True):
            if letter in "BLDFV":
                assert sizes.setdefault(letter, size) == size, (key, letter)
            assert letter in "BLNJSDAFVC"
    config = found.config
    assert sizes["D"] == config.hidden_size
    assert sizes["F"] == config.intermediate_size


def test_what_the_table_does_not_know():
    """The control: a name that is slightly off is no entry, and has letters of no meaning."""
    assert names.entry("encoder.layer.0.attention.score") is None
    assert names.entry("encoder.layer.x.attention.scores") is None
    assert names.axes("encoder.layer.0.attention.score", 4) == ("a", "b", "c", "d")
    assert names.axes("encoder.layer.0.attention.scores", 3) == ("a", "b", "c")
    assert names.axes("encoder.layer.0.attention.scores", 4) == ("B", "N", "L", "J")
    assert names.axes("classifier", 2) == ("B", "C")
    assert names.axes("classifier.grad", 3) == ("B", "L", "C")
    assert names.axes("pooler.dense.weight.grad", 2) == ("O", "I")
    assert names.layer_of("encoder.layer.11") == 11
    assert names.layer_of("embeddings.LayerNorm") is None


def _attention(prefix, dropout):
    yield from (prefix + n for n in ("self.query", "self.key", "self.value", "scores", "probs"))
    yield from (prefix + n for n in dropout * ("dropout",))
    yield from (prefix + n for n in ("weights", "context", "output.dense"))
    yield from (prefix + n for n in dropout * ("output.dropout",))
    yield f"{prefix}output"


def _forward(layers, crosses=False, dropout=False):
    yield from (
        f"embeddings.{n}" for n in ("word_embeddings", "token_type_embeddings", "LayerNorm")
    )
    yield from dropout * ("embeddings.dropout",)
    yield "embeddings"
    for prefix in (f"encoder.layer.{i}" for i in range(layers)):
        yield from _attention(f"{prefix}.attention.", dropout)
        yield from _attention(f"{prefix}.crossattention.", dropout) if crosses else ()
        yield from (f"{prefix}.{n}" for n in ("intermediate.dense", "intermediate", "output.dense"))
        yield from (f"{prefix}.{n}" for n in dropout * ("output.dropout",))
        yield prefix


HEAD = "cls.predictions.transform"
PREDICTIONS = [f"{HEAD}.dense", f"{HEAD}.activation", HEAD, "cls.predictions"]
POOLER = ["pooler.dense", "pooler"]
PRETRAINING_END = ["cls.seq_relationship", "masked_lm_loss", "next_sentence_loss", "loss"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "two layers",
            [*_forward(2), *POOLER, *PREDICTIONS, *PRETRAINING_END],
        ),
        (
            "dropout",
            [*_forward(1, dropout=True), *POOLER, *PREDICTIONS, *PRETRAINING_END],
        ),
        (
            "cross-attention, dropout",
            [*_forward(2, crosses=True, dropout=True), *PREDICTIONS, "masked_lm_loss", "loss"],
        ),
        ("bare", [*_forward(1), *POOLER]),
        ("answer", [*_forward(1), "qa_outputs", "loss"]),
        (
            "multi label, dropout",
            [*_forward(1, dropout=True), *POOLER, "classifier.dropout", "classifier", "loss"],
        ),
        (
            "next sentence",
            [*_forward(1), *POOLER, "cls.seq_relationship", "next_sentence_loss", "loss"],
        ),
    ],
)
def test_the_order_of_execution(name, expected, backend):
    assert activations(traced(name, backend)) == expected


@pytest.mark.parametrize("name", CASES)
def test_the_way_back_is_the_reverse_with_each_steps_parameters_behind_it(name, backend):
    found = traced(name, backend)
    order, expected = [n for n in found if names.is_gradient(n)], []
    for key in reversed(activations(found)):
        known = names.entry(key)
        if f"{key}.grad" in found:
            expected.append(f"{key}.grad")
        if known is not None:
            stem = f"{key}.".removesuffix(f"{known.name}." if known.name else "")
            expected += [f"{stem}{p}.grad" for p in known.parameters if f"{stem}{p}.grad" in found]
    assert list(found) == activations(found) + order
    assert order[: len(expected)] == expected
    assert expected[-1] == LAST
    assert all(n.startswith(("encoder_hidden", "past_key")) for n in order[len(expected) :])
    assert "embeddings.LayerNorm.weight.grad" in expected


# --- a mistake is recorded ------------------------------------------------------------------------


def scaled_by(k):
    return lambda result, *_: (k * result[0], *result[1:])


def test_a_wrong_operation_is_heard_with_what_it_returned(monkeypatch, backend):
    right = traced("plain", backend)
    changed_result(monkeypatch, embeddings, "layer_norm", scaled_by(2.0))
    wrong, (_, out) = (
        trace(*model_and_inputs(CASES["plain"], backend)),
        model_and_output("plain", backend),
    )
    assert_same_array(wrong["embeddings.LayerNorm"], 2.0 * right["embeddings.LayerNorm"])
    for key, array in outputs(out).items():
        assert_same_array(wrong[key], array)
    differing = [n for n in activations(right) if not np.array_equal(right[n], wrong[n])]
    assert differing[:2] == ["embeddings.LayerNorm", "embeddings"]
    assert len(differing) > 20


def test_so_is_one_whose_cache_is_another_operations(monkeypatch, backend):
    """The same operation in another module is not confused with it."""
    right = traced("plain", backend)
    changed_result(monkeypatch, feed_forward, "linear", scaled_by(3.0))
    wrong = trace(*model_and_inputs(CASES["plain"], backend))
    key = "encoder.layer.0.intermediate.dense"
    assert_same_array(wrong[key], 3.0 * right[key])
    assert_same_array(
        wrong["encoder.layer.0.attention.output.dense"],
        right["encoder.layer.0.attention.output.dense"],
    )


def test_a_wrong_backward_is_heard(monkeypatch, backend):
    right = traced("plain", backend)
    changed_result(monkeypatch, embeddings, "layer_norm_backward", scaled_by(2.0))
    wrong = trace(*model_and_inputs(CASES["plain"], backend))
    assert [n for n in right if not np.array_equal(right[n], wrong[n])] == [
        "embeddings.token_type_embeddings.grad",
        "embeddings.token_type_embeddings.weight.grad",
        "embeddings.word_embeddings.grad",
        LAST,
    ]
    key = "embeddings.word_embeddings.grad"
    assert_same_array(wrong[key], 2.0 * right[key])


@pytest.mark.parametrize("name", CASES)
def test_which_activations_have_no_gradient(name, backend):
    """All but those of the heads, where this depends on the labels."""
    found = traced(name, backend)
    known = [n for n in activations(found) if names.part_of(n) != "heads"]
    without = [n for n in known if n.endswith((*names.WITHOUT_GRADIENT, DROPOUT))]
    assert [n for n in known if n + names.GRADIENT not in found] == without != []
