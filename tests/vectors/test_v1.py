"""The test vectors in vectors/v1: minizha computes each number, each gradient is the derivative of the
forward pass, and every feature is covered."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file

import minizha
from minizha import crosscheck
from minizha.crosscheck.vectors import read_case, weight_beside
from tests.support.paths import ROOT

FOLDER = ROOT / "vectors" / "v1"

import make_v1
import v1_cases

TOLERANCE = 1e-12


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


MANIFEST = read("manifest.json")
NAMES = MANIFEST["cases"]
CASES = {case.name: case for case in v1_cases.CASES}


def rebuilt(case):
    """The model of a case from its files alone, and the arguments of its call."""
    about = case.description
    model = getattr(minizha, about["class"])(
        case.config, dtype="float64", **about["class_arguments"]
    )
    prefix = "parameters/"
    model.load_state_dict(
        {n.removeprefix(prefix): t.read() for n, t in case.stored.items() if n.startswith(prefix)}
    )
    if about["training"]:
        model.train(about["dropout_seed"])
    upstream = {
        n.removeprefix("upstream."): a for n, a in case.inputs.items() if n.startswith("upstream.")
    }
    inputs = {n: a for n, a in case.inputs.items() if not n.startswith("upstream.")}
    return model, inputs, upstream


def trace_of(model, inputs, upstream):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*max_position_embeddings")
        return crosscheck.trace(model, make_v1.nested(inputs), upstream=upstream or None)


def largest_error(found, expected):
    """The largest error, relative to each array's largest number or, for a bias, to its weight's."""
    worst = 0.0
    for name, array in expected.items():
        beside = expected.get(weight_beside(name), array)
        scale = max(np.abs(array).max(), np.abs(beside).max()) or 1.0
        worst = max(worst, float(np.abs(found[name] - array).max() / scale))
    return worst


# --- the numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_minizha_gives_every_number_of_a_case(name):
    case = read_case(FOLDER, name)
    trace = trace_of(*rebuilt(case))
    expected = {n: case.expected(n) for n in case.description["expected"]}
    assert list(trace) == list(expected)
    assert largest_error(trace, expected) <= TOLERANCE
    assert {n: trace[n] for n in case.description["losses"]} == pytest.approx(
        case.description["losses"]
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_gradient_is_the_slope_of_the_forward_pass(name):
    """The complex step in one random direction of all parameters and float inputs uses no backward
    pass."""
    case = read_case(FOLDER, name)
    model, inputs, upstream = rebuilt(case)
    rng, h, slope = np.random.default_rng(0), 1e-30, 0.0
    start = {n: a for n, a in inputs.items() if n.startswith(("inputs_e", "encoder_h", "past"))}
    parameters = {n: np.array(a) for n, a in model.state_dict().items()}
    for source in (parameters, start):
        for n, array in source.items():
            direction = rng.standard_normal(array.shape)
            if n.endswith("word_embeddings.weight"):
                direction[case.config.pad_token_id] = 0  # by convention its lookup has no gradient
            name = {"inputs_embeds": "embeddings.word_embeddings"}.get(n, n)
            key = name.removeprefix("nezha.") + ".grad"
            if key in case.stored_names:  # arrays that no step reads have no gradient
                slope += float((case.expected(key).reshape(array.shape) * direction).sum())
            source[n] = array + 1j * h * direction
    wide = model.astype("complex128")
    wide.load_state_dict(parameters)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*max_position_embeddings")
        out = wide(**make_v1.nested(inputs | start), record=False)
    value = sum((out[f] * d).sum() for f, d in upstream.items()) if upstream else out.loss
    assert value.imag / h == pytest.approx(slope, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_gives_the_same_numbers(name):
    about, arrays = make_v1.make_case(CASES[name])
    stored = load_file(FOLDER / "cases" / f"{name}.safetensors")
    written, losses = read(f"cases/{name}.json"), about.pop("losses")
    assert losses == pytest.approx(written.pop("losses"), rel=TOLERANCE)
    assert json.loads(json.dumps(about)) == written
    assert arrays.keys() == stored.keys()
    for key, array in arrays.items():
        if key.startswith(("parameters/", "inputs/")):
            np.testing.assert_array_equal(array, stored[key])
    # Adam divides a gradient's noise by 1e-8
    rest = {n: stored[n] for n in (*about["expected"], *about.get("outcome", ())) if n in stored}
    assert largest_error(arrays, rest) <= 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_large_enough_to_show_a_mistake(name):
    stored = load_file(FOLDER / "cases" / f"{name}.safetensors")
    matrices = [a for n, a in stored.items() if n.startswith("parameters/") and a.ndim == 2]
    assert min(a.std() for a in matrices) >= 0.1
    assert all(a.dtype in (np.float64, np.int64) for a in stored.values())


def test_a_wrong_number_is_seen():
    """Negative control: the distance with its sign flipped."""
    case = read_case(FOLDER, "model-right")
    model, inputs, upstream = rebuilt(case)
    model.table = model.table[::-1]
    trace = trace_of(model, inputs, upstream)
    assert largest_error(trace, {n: case.expected(n) for n in case.description["expected"]}) > 0.1


# --- what is covered ----------------------------------------------------------------------------


def test_every_feature_is_covered():
    covered = {word for name in NAMES for word in read(f"cases/{name}.json")["covers"]}
    assert covered == MANIFEST["features"].keys()
    assert MANIFEST["features"] == v1_cases.FEATURES
    assert len(NAMES) >= 30


def test_all_classes_and_activations_are_there():
    cases = [read(f"cases/{name}.json") for name in NAMES]
    assert len({case["class"] for case in cases}) == 8
    acts = {"gelu", "gelu_new", "relu", "silu", "swish", "tanh"}
    assert {case["config"]["hidden_act"] for case in cases} == acts


def test_the_optimizer_is_clipped_at_first_and_not_at_last():
    history = load_file(FOLDER / "cases" / "adamw.safetensors")
    norms, rates = history["history/gradient_norms"], history["history/learning_rates"]
    assert len(norms) == 10
    assert norms[0] > 1
    assert rates.argmax() == 3
    assert rates[0] == 0
    assert history["history/losses"][-1] < history["history/losses"][0]
