"""Names of other ports: parameters, renamed and transposed as each port stores them, are restored."""

import re

import numpy as np
import pytest

from minizha import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
)
from minizha.backend import to_host
from minizha.checkpoint.names import canonical_names
from minizha.checkpoint.stored import StoredTensor
from minizha.errors import ArgumentError
from tests.support.port_names import (
    CONFIG,
    LAYERS,
    SCHEMES,
    WORDS,
    bare_paddle,
    keras,
    paddle,
    parameters,
    pytorch,
    tensorflow,
)

CLASSES = (NezhaModel, NezhaForPreTraining, NezhaForMaskedLM, NezhaForNextSentencePrediction)
IDS = np.array([[2, 5, 7, 11, 3]])


# --- round trips ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_parameter_comes_back(scheme):
    p = parameters()
    found = canonical_names(SCHEMES[scheme](p), p)
    assert found.keys() == p.keys()
    assert all(np.array_equal(found[name], array) for name, array in p.items())


@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_class_answers_the_same(scheme, model_class, backend):
    p = parameters()
    model, loaded = (model_class(CONFIG, dtype="float64", backend=backend, seed=s) for s in (1, 2))
    model.load_state_dict(p, strict=False)
    info = loaded.load_state_dict(SCHEMES[scheme](p), strict=False)
    assert info.missing == ()
    assert all(name.startswith(("cls.", "nezha.pooler.")) for name in info.unexpected)
    for a, b in zip(model(IDS).to_tuple(), loaded(IDS).to_tuple(), strict=True):
        assert np.array_equal(to_host(a), to_host(b))


def test_a_bare_paddle_model_into_both_kinds():
    p = parameters()
    bare = NezhaModel(CONFIG, dtype="float64")
    bare.load_state_dict(bare_paddle(p))
    headed = NezhaForPreTraining(CONFIG, dtype="float64")
    info = headed.load_state_dict(bare_paddle(p), strict=False)
    assert info.unexpected == ()
    assert all(name.startswith("cls.") for name in info.missing)
    for name, array in bare.state_dict().items():
        assert np.array_equal(array, p[f"nezha.{name}"])
        assert np.array_equal(headed.state_dict()[f"nezha.{name}"], array)


@pytest.mark.parametrize("scheme", ["TensorFlow", "Keras", "Paddle"])
def test_what_lies_in_a_file_is_turned_unread(scheme):
    def unread():
        raise AssertionError("the tensor is read")

    p = parameters()
    stored = {
        name: StoredTensor("float64", array.shape, unread)
        for name, array in SCHEMES[scheme](p).items()
        if isinstance(array, np.ndarray)
    }
    found = canonical_names(stored, p)
    assert {n: t.shape for n, t in found.items()} == {n: a.shape for n, a in p.items()}


# --- heads for fine-tuning, decoders --------------------------------------------------------------

CLASSIFIER = {"classifier.weight", "classifier.bias", WORDS}
QUESTIONS = {"qa_outputs.weight", "qa_outputs.bias", WORDS}
W, B = np.arange(24.0).reshape(3, 8), np.arange(3.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"classifier.weight": W, "classifier.bias": B, "bert.pooler.dense.bias": B}, CLASSIFIER),
        ({"output_weights": W, "output_bias": B, "bert/pooler/dense/bias": B}, CLASSIFIER),
        ({"output_weights:0": W, "output_bias:0": B, "bert/pooler/dense/bias:0": B}, CLASSIFIER),
        (
            {"classifier.weight": W.T, "classifier.bias": B, "embeddings.layer_norm.bias": B},
            CLASSIFIER,
        ),
        ({"qa_outputs.weight": W, "qa_outputs.bias": B, "bert.pooler.dense.bias": B}, QUESTIONS),
        ({"cls/squad/output_weights": W, "cls/squad/output_bias": B}, QUESTIONS),
        (
            {"classifier.weight": W.T, "classifier.bias": B, "embeddings.layer_norm.bias": B},
            QUESTIONS,
        ),
    ],
)
def test_heads(found, expected):
    head = sorted(expected - {WORDS})
    bias, weight = (canonical_names(found, expected)[name] for name in head)
    assert np.array_equal(weight, W)
    assert np.array_equal(bias, B)


def test_one_port_s_classifier_is_no_other_s():
    """Only PaddleNLP has one name for both heads; another port's classifier does not answer questions."""
    found = canonical_names({"classifier.weight": W, "classifier.bias": B}, QUESTIONS)
    assert found.keys() == {"classifier.weight", "classifier.bias"}


def test_names_of_a_decoder_pass():
    names = [f"encoder.layer.0.crossattention.self.{n}.weight" for n in ("query", "key", "value")]
    names += [f"encoder.layer.0.crossattention.output.LayerNorm.{n}" for n in ("weight", "bias")]
    names += ["encoder.layer.0.crossattention.output.dense.weight"]
    expected = {f"nezha.{name}": i for i, name in enumerate(names)}
    assert (
        canonical_names({f"bert.{name}": i for i, name in enumerate(names)}, expected) == expected
    )
    buffer = "encoder.layer.0.crossattention.self.relative_positions_encoding.positions_encoding"
    assert canonical_names({buffer: 0}, expected) == {}


@pytest.mark.parametrize(
    "buffer",
    [
        "bert.embeddings.position_ids",
        "nezha.encoder.layer.0.attention.self.relative_positions_encoding.positions_encoding",
        "nezha.encoder.layer.0.attention.relative_positions_embeddings",
    ],
)
def test_buffers_are_dropped(buffer):
    assert canonical_names({buffer: 0, WORDS: 1}, {WORDS}) == {WORDS: 1}


# --- controls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["TensorFlow", "Keras", "Paddle"])
def test_a_matrix_that_was_not_turned_is_seen(scheme):
    """A square one fits, but the outputs differ. Any other is refused."""
    p = parameters()
    value = f"nezha.encoder.layer.{LAYERS - 1}.attention.self.value.weight"
    found = SCHEMES[scheme](p | {value: p[value].T})
    model, transposed = (NezhaModel(CONFIG, dtype="float64") for _ in range(2))
    model.load_state_dict(SCHEMES[scheme](p), strict=False)
    transposed.load_state_dict(found, strict=False)
    a, b = (m(IDS).last_hidden_state for m in (model, transposed))
    assert np.abs(a - b).max() > 1e-3
    up = "nezha.encoder.layer.3.intermediate.dense.weight"
    with pytest.raises(
        ArgumentError, match=r"by its name a matrix \(in, out\), but found shape \(10, 8\)"
    ):
        model.load_state_dict(SCHEMES[scheme](p | {up: p[up].T}), strict=False)


def test_a_matrix_of_pytorch_s_that_was_turned_is_refused():
    p = parameters()
    up = "nezha.encoder.layer.3.intermediate.dense.weight"
    model = NezhaModel(CONFIG, dtype="float64")
    with pytest.raises(ArgumentError, match=r"expected shape \(10, 8\), found \(8, 10\)"):
        model.load_state_dict(pytorch(p | {up: p[up].T}), strict=False)


@pytest.mark.parametrize(
    ("scheme", "second", "first"),
    [
        ("PyTorch", "embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.weight"),
        ("PyTorch", "module.bert.pooler.dense.bias", "bert.pooler.dense.bias"),
        ("TensorFlow", "bert/pooler/dense/bias:0", "bert/pooler/dense/bias"),
        ("TensorFlow", "bert.pooler.dense.bias", "bert/pooler/dense/bias"),
        ("Keras", "Pooler-Dense/Pooler-Dense/bias:0", "Pooler-Dense/bias:0"),
        ("Paddle", "pooler.dense.bias", "nezha.pooler.dense.bias"),
    ],
)
def test_two_spellings_of_one_name_are_refused(scheme, second, first):
    p = parameters()
    with pytest.raises(ArgumentError, match=f"{first} and {second} are both nezha."):
        canonical_names(SCHEMES[scheme](p) | {second: p["nezha.pooler.dense.bias"]}, p)


@pytest.mark.parametrize(
    "name", ["nezha.embeddings.layer_norm.weight", "cls.predictions.decoder_bias"]
)
def test_names_of_paddle_and_pytorch_at_once_are_refused(name):
    p = parameters()
    with pytest.raises(ArgumentError, match=rf"found {name} \(PaddleNLP's.*beside bert\.\S+ \(Py"):
        canonical_names(pytorch(p) | {name: B}, p)


@pytest.mark.parametrize(
    "name",
    [
        "nezha.embeddings.LayerNorm.gamma",
        "nezha.encoder.layer.0.attention.self.key.weight",
        "nezha.encoder.layer.0.attention.output.dense.weight",
        "nezha.encoder.layer.0.intermediate.dense.weight",
        "nezha.encoder.layer.0.output.dense.weight",
        "cls.predictions.transform.dense.weight",
    ],
)
def test_one_name_of_pytorch_among_paddle_s_is_refused(name):
    p = parameters()
    found = re.escape(f"beside {name} (PyTorch's")
    with pytest.raises(ArgumentError, match=found):
        canonical_names(paddle(p) | {name: B}, p)


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        ("PyTorch", "bert.encoder.layer.0.ffn.kernel"),
        ("TensorFlow", "bert/encoder/embedding_hidden_mapping_in/kernel"),
        ("Keras", "Embedding-Mapping/kernel:0"),
        ("Keras", "Transformer-MultiHeadSelfAttention/dense/kernel:0"),
        ("Keras", "Transformer-12-MultiHeadSelfAttention/dense_9/kernel:0"),
        ("Keras", "optimizer/learning_rate:0"),
        ("Paddle", "nezha.encoder.layer.0.gate.bias"),
        ("Paddle", "lonely"),
    ],
)
def test_a_name_that_nobody_knows_is_left_over(scheme, name):
    p = parameters()
    known = SCHEMES[scheme](p)
    left = canonical_names(known | {name: B}, p).keys() - p.keys()
    assert len(left) == 1
    model = NezhaForPreTraining(CONFIG, dtype="float64")
    with pytest.raises(ArgumentError, match=f"{re.escape(*left)}: not a parameter of NezhaForPre"):
        model.load_state_dict(known | {name: B})


def test_a_layer_with_more_dense_layers_than_known_is_left_over():
    """A gated feed-forward network has three, and nothing tells which is which."""
    p = parameters()
    found = keras(p)
    found["Transformer-2-FeedForward/dense_2/kernel:0"] = np.ones((8, 10))
    names = canonical_names(found, p).keys()
    assert sorted(p.keys() - names) == sorted(
        f"nezha.encoder.layer.2.{name}.dense.{leaf}"
        for name in ("intermediate", "output")
        for leaf in ("weight", "bias")
    )
    assert sum(name.startswith("Transformer-2-FeedForward/") for name in names) == 5


@pytest.mark.parametrize("found", [None, 3, ["a"], {1: B}, {("a",): B}])
def test_what_is_no_mapping_of_names_is_refused(found):
    with pytest.raises(ArgumentError, match="expected a mapping of names to arrays, found"):
        canonical_names(found, {WORDS})


@pytest.mark.parametrize("value", [None, 3.0, [[1.0]], "text", np.float64(2.0)])
def test_what_is_no_array_is_handed_on_to_be_refused(value):
    found = tensorflow(parameters()) | {"bert/pooler/dense/kernel": value}
    with pytest.raises(ArgumentError, match=r"nezha\.pooler\.dense\.weight: expected"):
        NezhaForPreTraining(CONFIG, dtype="float64").load_state_dict(found)
