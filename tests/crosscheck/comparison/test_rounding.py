"""What rounding explains: right computations in float32 pass with a margin; mistakes do not."""

import numpy as np
import pytest
from minizha.crosscheck.comparison.noise import LOCAL, MARGIN, Noise

import minizha
from minizha import NezhaConfig, crosscheck
from minizha.crosscheck.names import GRADIENT, made_with
from minizha.crosscheck.tracing import trace
from tests.support.eight_models import CLASS_NAMES, inputs_and_labels_of, perturbed
from tests.support.tiny_models import DECODERS, TINY

LEAST_MARGIN = 3.0
"""Errors of right computations could be this many times larger and still pass."""


def pair(model, inputs):
    """The same parameters in float64 and in float32."""
    single = model.astype("float32")
    return trace(single.astype("float64"), inputs), trace(single, inputs)


def smallest_margin(report):
    return min(d.tolerance / d.error for d in report if d.error)


def is_zero(array):
    """Whether an array is 0 in theory, and holds rounding noise only."""
    return np.abs(array).max() < 1e-14


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


@pytest.mark.parametrize("seed", range(32))
def test_float32_passes_with_room(seed):
    model, inputs = random_case(seed)
    found = crosscheck.compare(*pair(model, inputs), diagnose=False)
    assert found.ok, found.divergence
    assert smallest_margin(found) > LEAST_MARGIN


@pytest.mark.parametrize("name", [*TINY, *DECODERS])
def test_tiny_models_in_float32_pass(name):
    tiny = (TINY | DECODERS)[name]
    ours, theirs = pair(tiny.model("numpy"), tiny.inputs())
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
    for name, array in list(ours.items())[::3]:
        wrong = ours | {name: array * (1 + 1e-11)}
        first = crosscheck.compare(ours, wrong, diagnose=False).first_divergence
        assert first == name or is_zero(array), name
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


def test_errors_that_were_found_right_are_passed_on():
    sizes = {f"encoder.layer.{k}.output.dense": 1.0 for k in range(4)}
    names = list(sizes)
    noise = Noise(names, sizes.__getitem__, lambda name: (1,))
    eps = 2.0**-52
    assert noise.expected(names[0], "float64") == LOCAL * eps
    noise.learn(names[0], 1e-6)  # of 1
    assert noise.expected(names[1], "float64") > 1e-6
    assert noise.expected(names[2], "float64") == LOCAL * eps  # layer 1 was found exact
    gaps = Noise(names, sizes.__getitem__, lambda name: (1,), missing=names[1:2])
    assert gaps.expected(names[2], "float64") > noise.expected(names[2], "float64")
    assert MARGIN > 1
