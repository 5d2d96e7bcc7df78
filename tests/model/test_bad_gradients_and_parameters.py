"""Bad upstream gradients and bad state dicts: one error each, and nothing is changed."""

import numpy as np
import pytest

from minizha import NezhaForPreTraining
from minizha.backend import to_host
from minizha.errors import ArgumentError, MinizhaError
from tests.support.bad_input_cases import CONFIG, GOOD, IDS, LAYERS, B, D, L, N, V

BIAS = "cls.seq_relationship.bias"
WORDS = "nezha.embeddings.word_embeddings.weight"


@pytest.fixture
def model(backend):
    return NezhaForPreTraining(CONFIG, dtype="float64", backend=backend, seed=1)


@pytest.mark.parametrize(
    ("upstream", "message"),
    [
        ({"loss": np.ones(2)}, r"backward: loss: expected shape \(\), found \(2,\)"),
        ({"loss": "1"}, "backward: loss: expected numbers, found <U1"),
        ({"loss": [None]}, "backward: loss: expected numbers, found None"),
        ({"logits": np.ones(1)}, "'logits' is no field of this output, which has loss, pred"),
        ({"last_hidden_state": np.ones((B, L, D))}, "'last_hidden_state' is no field of this"),
        (
            {"prediction_logits": np.ones((B, L, V - 1))},
            r"backward: prediction_logits: expected shape \(2, 5, 11\), found \(2, 5, 10\)",
        ),
        ({"prediction_logits": np.ones((B, L, V), dtype=bool)}, "expected numbers, found bool"),
        ({"seq_relationship_logits": [[1.0], [1.0, 2.0]]}, "expected an array or nested lists"),
        ({"hidden_states": [None]}, "hidden_states: expected a sequence of 4 arrays or None"),
        ({"hidden_states": np.ones((4, B, L, D))}, "expected a sequence of 4 arrays or None"),
        (
            {"hidden_states": [None] * LAYERS + [np.ones((B, L, D + 1))]},
            r"hidden_states\[3\]: expected shape \(2, 5, 8\), found \(2, 5, 9\)",
        ),
        (
            {"attentions": [None, np.ones((B, N, L, 1)), None]},
            r"attentions\[1\]: expected shape \(2, 2, 5, 5\), found \(2, 2, 5, 1\)",
        ),
        ({"attentions": 1.0}, "attentions: expected a sequence of 3 arrays or None"),
    ],
)
def test_bad_upstream_gradients(upstream, message, model):
    out = model(**GOOD, output_attentions=True, output_hidden_states=True)
    with pytest.raises(ArgumentError, match=message):
        out.backward(**upstream)
    assert not any(to_host(g).any() for g in model.gradients().values())
    out.backward()
    assert any(to_host(g).any() for g in model.gradients().values())


def test_backward_from_nothing(model):
    labelled = {"input_ids": IDS, "labels": IDS}
    for out in (model(IDS), model(**labelled, record=False)):
        for upstream in ({}, {"prediction_logits": np.ones((B, L, V))}):
            with pytest.raises(MinizhaError, match="nothing was recorded; call the model with"):
                out.backward(**upstream)
    with pytest.raises(MinizhaError, match="there is no loss to start from; pass labels"):
        model(IDS, record=True).backward()
    with pytest.raises(TypeError, match="positional"):
        model(**labelled).backward(1.0)
    assert not any(to_host(g).any() for g in model.gradients().values())


def test_fields_that_are_not_there(model):
    out = model(IDS)
    assert out.loss is None
    for read, error in (
        (lambda: out["loss"], KeyError),
        (lambda: out["logits"], KeyError),
        (lambda: out[2], IndexError),
        (lambda: out.logits, AttributeError),
    ):
        with pytest.raises(error):
            read()


def state(model, **changes):
    arrays = {name: to_host(array).copy() for name, array in model.state_dict().items()}
    return {n: a for n, a in (arrays | changes).items() if a is not None}


NO_REAL_NUMBERS = "expected an array of real numbers in floating point"
BIAS_VALUES = {
    "shape": (np.ones(3), r"expected shape \(2,\), found \(3,\)"),
    "rank": (np.ones((2, 1)), r"expected shape \(2,\), found \(2, 1\)"),
    "integers": (np.ones(2, dtype=np.int64), f"{NO_REAL_NUMBERS}, found int64"),
    "booleans": (np.ones(2, dtype=bool), f"{NO_REAL_NUMBERS}, found bool"),
    "complex": (np.ones(2) + 1j, f"{NO_REAL_NUMBERS}, found complex128"),
    "objects": (np.ones(2, dtype=object), f"{NO_REAL_NUMBERS}, found object"),
    "text": (np.array(["a", "b"]), f"{NO_REAL_NUMBERS}, found <U1"),
    "a list": ([1.0, 2.0], "expected an array, found list"),
    "a ragged list": ([[1.0], [1.0, 2.0]], "expected an array, found list"),
    "a number": (1.0, "expected an array, found float"),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("what", BIAS_VALUES)
def test_a_state_dict_with_a_bad_array_replaces_nothing(what, strict, model):
    value, message = BIAS_VALUES[what]
    before = state(model)
    # all the others are good, and come first
    arrays = {name: array + 1.0 for name, array in before.items()} | {BIAS: value}
    with pytest.raises(ArgumentError, match=f"{BIAS}: {message}"):
        model.load_state_dict(arrays, strict=strict)
    assert_unchanged(model, before)
    model.load_state_dict(arrays | {BIAS: before[BIAS]}, strict=strict)
    assert not np.array_equal(to_host(model.state_dict()[WORDS]), before[WORDS])


def test_a_state_dict_with_other_names(model):
    before = state(model)
    changed = {name: array + 1.0 for name, array in before.items()}
    del changed[BIAS]
    changed["decoder"] = np.ones(1)
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict(changed)
    assert str(caught.value) == (
        f"state dict: {BIAS}: missing; decoder: not a parameter of NezhaForPreTraining"
    )
    assert_unchanged(model, before)
    info = model.load_state_dict(changed, strict=False)
    assert info == ((BIAS,), ("decoder",))


def test_two_spellings_of_one_name(model):
    before = state(model)
    arrays = state(model, **{"bert.embeddings.LayerNorm.gamma": np.ones(D)})
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict(arrays)
    name = "nezha.embeddings.LayerNorm.weight"
    assert str(caught.value) == (
        f"state dict: {name} and bert.embeddings.LayerNorm.gamma are both {name}"
    )
    assert_unchanged(model, before)


@pytest.mark.parametrize("arrays", [None, [], "x", [("a", 1)], {1: np.ones(1)}, {None: 1}])
def test_no_state_dict_at_all(arrays, model):
    for strict in (True, False):
        with pytest.raises(ArgumentError, match="state dict: expected a mapping of names to arr"):
            model.load_state_dict(arrays, strict=strict)


def test_many_faults_stay_one_readable_line(model):
    with pytest.raises(ArgumentError) as caught:
        model.load_state_dict({})
    text = str(caught.value)
    assert text.startswith("state dict: nezha.embeddings.word_embeddings.weight: missing; ")
    assert text.endswith(f"; and {len(model.state_dict()) - 20} more")
    assert len(text) < 2000


def assert_unchanged(model, before):
    after = state(model)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_what_is_loaded_is_copied(model):
    arrays = state(model)
    model.load_state_dict(arrays)
    arrays[WORDS] += 1.0
    assert not np.array_equal(to_host(model.state_dict()[WORDS]), arrays[WORDS])
