"""What rounding explains: right computations in float32 pass with a margin; mistakes do not."""

import numpy as np
import pytest

import minizha
from minizha import NezhaConfig, crosscheck
from minizha.crosscheck.comparison.precision import rounded, unit_of
from minizha.crosscheck.comparison.rounding import (
    KINDS,
    AsOneReads,
    RulesIn,
    largest_difference,
    model_rounding,
    pass_in,
    table_made_in_float32,
)
from minizha.crosscheck.comparison.verdict import TIMES, UNSURE_TIMES
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import evaluate
from minizha.crosscheck.names import DROPOUT, GRADIENT, made_with
from minizha.crosscheck.tracing import trace
from minizha.ops.relative_position import relative_table
from tests.support.eight_models import CLASS_NAMES, inputs_and_labels_of, perturbed
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import TINY
from tests.support.traces import computed_with, model_and_inputs

LEAST_MARGIN = TIMES / UNSURE_TIMES
"""Errors of right computations could be this many times larger and still pass; with less they are
undecided."""


def pair(model, inputs):
    """The same parameters in float64 and in float32."""
    single = model.astype("float32")
    return trace(single.astype("float64"), inputs), trace(single, inputs)


def smallest_margin(report):
    return min(d.tolerance / d.error for d in report if d.error)


def is_zero(array):
    """Whether an array is 0 in theory, and holds rounding errors only."""
    return np.abs(array).max() < 1e-14


STRIDE = 9
"""Every ninth array of a class, beginning with another one in each."""


def random_case(seed):
    """A model of any class, depth and width, whose weights are small, large or too large."""
    rng = np.random.default_rng(seed)
    model_class = CLASS_NAMES[seed % len(CLASS_NAMES)]
    D, N = ((16, 4), (32, 2), (48, 6), (96, 6))[rng.integers(4)]
    config = NezhaConfig(
        vocab_size=60,
        hidden_size=D,
        num_attention_heads=N,
        intermediate_size=2 * D,
        num_labels=3,
        num_hidden_layers=int(rng.choice([1, 2, 4, 8])),
        max_relative_position=int(rng.choice([2, 64])),
        hidden_act=str(rng.choice(["gelu", "relu", "silu", "tanh"])),
        is_decoder=bool(rng.random() < 0.3 and model_class != "NezhaForMultipleChoice"),
    )
    model = getattr(minizha, model_class)(config, dtype="float64")
    std = rng.choice([0.02, 0.1, 0.3])
    arrays = {
        name: name.endswith("LayerNorm.weight") + std * rng.standard_normal(a.shape)
        for name, a in model.state_dict().items()
    }
    model.load_state_dict(arrays)
    inputs = inputs_and_labels_of(model_class)
    return model, inputs | ({"labels": inputs["labels"] % 3} if "labels" in inputs else {})


@pytest.mark.parametrize("seed", range(24))
def test_float32_passes_with_room(seed):
    model, inputs = random_case(seed)
    found = crosscheck.compare(*pair(model, inputs), diagnose=False)
    assert found.ok, found.divergence
    assert smallest_margin(found) >= LEAST_MARGIN


@pytest.mark.parametrize("name", [*TINY, *HEADS])
def test_tiny_models_in_float32_pass(name):
    model, inputs = model_and_inputs((TINY | HEADS)[name])
    ours, theirs = pair(model, inputs)
    found = crosscheck.compare(ours, theirs, diagnose=False)
    assert found.ok, found.divergence


@pytest.mark.parametrize(
    "selected",
    [
        lambda name: not name.startswith(("encoder", "embeddings")),
        lambda name: name.count(".") <= 2 and not name.endswith(GRADIENT),
        lambda name: name.endswith(("weight.grad", "bias.grad")),
        lambda name: not name.endswith(GRADIENT) or name.endswith(("weight.grad", "bias.grad")),
        lambda name: name.endswith("loss"),
    ],
    ids=["heads", "layers", "gradients of parameters", "and activations", "loss"],
)
@pytest.mark.parametrize("seed", range(1, 16, 3))
def test_a_part_of_a_trace_in_float32_passes(seed, selected):
    ours, theirs = pair(*random_case(seed))
    theirs = {name: a for name, a in theirs.items() if selected(name)}
    if theirs:
        found = crosscheck.compare(ours, theirs, diagnose=False)
        assert found.ok, found.divergence


@pytest.mark.parametrize("model_class", CLASS_NAMES)
def test_tolerances_are_small(model_class):
    """The negative control: the tests above do not pass because tolerances are large."""
    ours, theirs = pair(perturbed(model_class, "numpy"), inputs_and_labels_of(model_class))
    exact = crosscheck.compare(ours, ours)
    assert max(d.tolerance for d in exact if "layer.0" in d.name and GRADIENT not in d.name) < 1e-12
    assert max(d.tolerance for d in exact) < 1e-9
    found = crosscheck.compare(ours, theirs, diagnose=False)
    # the tanh form of GELU is 4.7e-4 off, at values of 3 or so
    assert max(d.tolerance for d in found if d.name.endswith("0.intermediate")) < 1e-4


@pytest.mark.parametrize("model_class", CLASS_NAMES)
def test_a_factor_next_to_one_is_found(model_class):
    """In float64 an array that is off by 1e-11 of itself differs."""
    ours = trace(perturbed(model_class, "numpy"), inputs_and_labels_of(model_class))
    start = CLASS_NAMES.index(model_class) % STRIDE
    for name, array in list(ours.items())[start::STRIDE]:
        report = crosscheck.compare(ours, ours | {name: array * (1 + 1e-11)}, diagnose=False)
        assert report.first_divergence == name or is_zero(array), name
    assert sum(map(is_zero, ours.values())) < len(ours) / 10


def test_a_mistake_excuses_nothing_behind_it():
    ours, theirs = pair(perturbed("NezhaModel", "numpy"), inputs_and_labels_of("NezhaModel"))
    names = list(ours)
    wrong = {n: a * 1.01 if k >= 10 else a for k, (n, a) in enumerate(theirs.items())}
    found = crosscheck.compare(ours, wrong, diagnose=False)
    assert found.first_divergence == names[10]
    alike = [d for d in found if d.ok and not d.name.endswith("key.bias.grad")]
    assert [d.name for d in alike] == names[:10]


@pytest.mark.parametrize("model_class", CLASS_NAMES)
def test_each_parameter_has_an_activation_that_its_step_makes(model_class):
    model = perturbed(model_class, "numpy", tie_word_embeddings=False)
    found = trace(model, inputs_and_labels_of(model_class))
    for name in found:
        if name.endswith(("weight.grad", "bias.grad")):
            made = made_with(name.removesuffix(GRADIENT))
            assert made in found, name
            # parameter gradients follow that of their step's activation, but the word embeddings' is last
            if name != "embeddings.word_embeddings.weight.grad":
                order = list(found)
                assert 0 < order.index(name) - order.index(made + GRADIENT) <= 2


# --- the passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["dropout and everything", "decoder and everything", "choice"])
def test_no_step_of_a_float32_pass_computes_in_float64(kind, name):
    found = trace(*model_and_inputs((TINY | HEADS)[name]))
    steps, memory = pass_in(found, "float32", kind), {}
    computed = [name for name in found if name in steps]
    for array in computed:
        assert evaluate(steps, array, {}, memory, "float32").dtype == np.float32, array
    assert {a.dtype.name for a in memory.values() if np.ndim(a)} == {"float32"}
    assert len(computed) == sum(not name.endswith(DROPOUT) for name in found)


@pytest.mark.parametrize("name", ["plain", "mask 3-D", "past of both", "dropout and everything"])
def test_as_one_reads_is_right(name, monkeypatch):
    """In float64 and with the exact table, sums one term after another give the same arrays."""
    monkeypatch.setattr(AsOneReads, "table", RulesIn.table)
    found = trace(*model_and_inputs(TINY[name]))
    for array, value in computed_with(found, AsOneReads("float64")).items():
        assert np.abs(value - found[array]).max(initial=0) < 1e-12, array


def test_a_table_made_in_float32():
    """Its error is that of angles up to 2K, rounded: the larger K, the larger it is."""
    for K, least in ((4, 1e-8), (512, 1e-6)):
        facts = attention_facts(K)
        exact, single = relative_table(K, 8), table_made_in_float32(facts)
        assert single.dtype == np.float32
        error = np.abs(exact - single).max()
        assert least < error < (4 * K + 4) * 2.0**-24


def attention_facts(K):
    config = {"max_relative_position": K, "hidden_size": 16}
    model = perturbed("NezhaModel", "numpy", **config, num_attention_heads=2)
    found = trace(model, inputs_and_labels_of("NezhaModel"), gradients=False)
    return Facts(found).attention(0, is_cross=False)


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "float32", "float64"])
def test_rounding_is_that_of_the_precision(precision):
    """Each array is off by at least one rounding, and in a small model by no more than a few hundred."""
    found = trace(perturbed("NezhaModel", "numpy"), inputs_and_labels_of("NezhaModel"))
    errors = model_rounding(found, precision)
    assert list(errors) == list(found)
    for name, array in found.items():
        size = np.abs(array).max()
        assert errors[name] >= unit_of(precision) * size, name
        if GRADIENT not in name and "scores" not in name:
            assert errors[name] <= 300 * unit_of(precision) * max(size, 0.1), name


def test_what_can_not_be_computed_is_left_out():
    found = trace(perturbed("NezhaModel", "numpy"), inputs_and_labels_of("NezhaModel"))
    everything = set(model_rounding(found, "float32"))
    found.parameters = {n: p for n, p in found.parameters.items() if "pooler" not in n}
    left_out = everything - set(model_rounding(found, "float32"))
    assert {"pooler", "pooler.dense"} <= left_out
    assert "encoder.layer.1" not in left_out


def test_the_largest_difference():
    a, b = np.array([[1.0, np.nan], [np.inf, 2.0]]), np.array([[1.5, np.nan], [np.inf, 9.0]])
    assert largest_difference(a, b) == 7
    assert largest_difference(a, b, np.array([[True, True], [True, False]])) == 0.5
    assert largest_difference(a, np.nan_to_num(b)) == np.inf
    assert largest_difference(a, b[:1]) == np.inf
    assert largest_difference(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    large = rounded(np.array([6e4]), "float16")
    assert largest_difference(large, -large) == 2 * large[0]
