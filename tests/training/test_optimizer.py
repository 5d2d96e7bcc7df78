"""AdamW, clipping and schedule compared with ten steps of torch.optim.AdamW."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel
from minizha.backend import to_host
from minizha.errors import ArgumentError
from minizha.training.optimizer import AdamW, adamw_update, clip_by_global_norm
from minizha.training.schedule import linear_schedule
from tests.support.paths import VECTORS
from tests.support.tiny_models import SMALL

FOLDER = VECTORS / "transformers-4.37.2"
CASE = next(
    c
    for c in json.loads((FOLDER / "manifest.json").read_text("utf-8"))["cases"]
    if c["name"] == "adamw"
)


def run_ten_steps(backend, **options):
    arrays = load_file(FOLDER / CASE["file"])
    groups = {}
    for key, array in arrays.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array
    model = NezhaForPreTraining(
        NezhaConfig.from_dict(CASE["config"]), dtype="float64", backend=backend
    )
    model.load_state_dict(groups["parameters"])
    optimizer = AdamW(model, **options)
    losses, norms = [], []
    for rate in groups["history"]["learning_rates"]:
        model.zero_grad()
        out = model(**groups["inputs"])
        out.backward()
        gradients, norm = clip_by_global_norm(model.gradients(), 1.0)
        optimizer.step(gradients, float(rate))
        losses.append(float(out.loss))
        norms.append(float(norm))
    final = {name: to_host(p) for name, p in model.state_dict().items()}
    return groups, losses, norms, final


def test_ten_steps_follow_torch(backend):
    groups, losses, norms, final = run_ten_steps(backend)
    history = groups["history"]
    assert np.abs(np.array(losses) - history["losses"]).max() <= 1e-10
    assert np.abs(np.array(norms) - history["gradient_norms"]).max() <= 1e-10
    assert final.keys() == groups["final"].keys()
    for name, array in groups["final"].items():
        assert np.abs(final[name] - array).max() <= 1e-10, name


@pytest.mark.parametrize("wrong", [{"betas": (0.9, 0.99)}, {"eps": 1e-4}, {"weight_decay": 0.0}])
def test_another_optimizer_is_told_apart(backend, wrong):
    groups, _, _, final = run_ten_steps(backend, **wrong)
    worst = max(np.abs(final[name] - array).max() for name, array in groups["final"].items())
    assert worst > 1e-6


def test_the_schedule_is_the_one_that_made_the_vectors():
    rates = load_file(FOLDER / CASE["file"])["history/learning_rates"]
    ours = [linear_schedule(s, rates.max(), 3, 10) for s in range(10)]
    assert np.allclose(ours, rates, rtol=1e-15, atol=0)
    assert linear_schedule(10, 1.0, 3, 10) == 0.0
    assert linear_schedule(0, 1.0, 0, 10) == 1.0


@pytest.mark.parametrize(("warmup", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_an_impossible_schedule_is_refused(warmup, total):
    with pytest.raises(ArgumentError, match="warmup, total"):
        linear_schedule(0, 1.0, warmup, total)


# --- what is refused, and what stays as it is ---------------------------------------------------

WORDS = "embeddings.word_embeddings.weight"


def small_model(backend, dtype="float32"):
    return NezhaModel(SMALL, dtype=dtype, backend=backend)


def ones(parameters, dtype=None):
    return {n: (p * 0 + 1).astype(dtype or p.dtype) for n, p in parameters.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("of_gradients", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.1, np.float64(0.1), np.float32(0.1), np.array(0.1)])
def test_the_dtype_in_is_the_dtype_out(backend, dtype, of_gradients, rate):
    """Under NumPy 2 a number of type np.float64 makes a float32 array float64."""
    model = small_model(backend, dtype)
    two, tiny = (np.float64(0.9), np.float64(0.999)), np.float64(1e-8)
    optimizer = AdamW(model, two, tiny, np.float64(0.01))
    gradients, _ = clip_by_global_norm(ones(model.state_dict(), of_gradients), np.float64(5.0))
    assert {str(g.dtype) for g in gradients.values()} == {of_gradients}
    optimizer.step(gradients, rate)
    for arrays in (model.state_dict(), optimizer.m, optimizer.v):
        assert {str(a.dtype) for a in arrays.values()} == {dtype}
    arrays = [a.astype(dtype) for a in list(gradients.values())[:1] * 4]
    updated = adamw_update(*arrays, 1, rate, betas=two, eps=tiny, decay=np.float64(0.01))
    assert {str(a.dtype) for a in updated} == {dtype}
    assert type(linear_schedule(1, np.float64(1), 3, 10)) is float
    # the control: NumPy promotes, so the test would see it
    assert (np.zeros(2, np.float32) * np.float64(0.1)).dtype == np.float64


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (1, 0.9)}, r"betas\[0\]: expected a number in \[0, 1\), found 1"),
        ({"betas": (0.9, 1.0)}, r"betas\[1\]: expected a number in"),
        ({"betas": (0.9, NAN)}, r"betas\[1\]: expected a number in"),
        ({"betas": (-0.1, 0.9)}, r"betas\[0\]: expected a number in"),
        ({"betas": 0.9}, "betas: expected two numbers"),
        ({"betas": (0.9, 0.9, 0.9)}, "betas: expected two numbers"),
        ({"betas": "ab"}, "betas: expected two numbers"),
        ({"eps": 0.0}, "eps: expected a number in"),
        ({"eps": 1e-60}, "eps: expected a number in"),  # 0 in float32
        ({"eps": NAN}, "eps: expected a number in"),
        ({"eps": None}, "eps: expected a number in"),
        ({"weight_decay": -1}, "weight_decay: expected a finite number of at least 0"),
        ({"weight_decay": INF}, "weight_decay: expected a finite number of at least 0"),
    ],
)
def test_an_optimizer_out_of_range_is_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        AdamW(small_model("numpy"), **options)
    decay = options.get("weight_decay", 0.01)
    both = {"betas": (0.9, 0.999), "eps": 1e-8} | options
    both.pop("weight_decay", None)
    with pytest.raises(ArgumentError, match=message.removeprefix("weight_")):
        adamw_update(*np.ones((4, 3), np.float32), 1, 0.1, **both, decay=decay)


@pytest.mark.parametrize("rate", [NAN, INF, -0.1, "0.1", None, True, 1j, np.ones(3), 1e300, 200.0])
def test_a_rate_out_of_range_is_refused(rate):
    model = small_model("numpy")
    optimizer, before = AdamW(model), model.state_dict()
    with pytest.raises(ArgumentError, match="rate: expected a"):
        optimizer.step(ones(before), rate)
    assert optimizer.steps == 0
    assert all(model.state_dict()[n] is p for n, p in before.items())


@pytest.mark.parametrize("model", [None, "model", NezhaConfig()])
def test_an_optimizer_of_no_model_is_refused(model):
    with pytest.raises(ArgumentError, match="model: expected one of the Nezha classes"):
        AdamW(model)
    with pytest.raises(ArgumentError, match="found complex128"):
        AdamW(small_model("numpy", "complex128"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: None, r"gradients: expected \{name: array\}, found NoneType"),
        (lambda g: {n: x for n, x in g.items() if n != WORDS}, f"there is none of: {WORDS}"),
        (lambda g: g | {"x": g[WORDS]}, "not a parameter of the model: x"),
        (lambda g: g | {WORDS: [1.0]}, f"{WORDS}: expected an array of real numbers"),
        (lambda g: g | {WORDS: g[WORDS].astype(int)}, "expected an array of real numbers"),
        (lambda g: g | {WORDS: g[WORDS].astype(complex)}, "expected an array of real numbers"),
        # both once changed the shape of the parameter
        (lambda g: g | {WORDS: g[WORDS][None]}, r"the parameter, \(11, 8\), found \(1, 11, 8\)"),
        (lambda g: g | {WORDS: g[WORDS][:1]}, r"the parameter, \(11, 8\), found \(1, 8\)"),
    ],
)
def test_gradients_that_do_not_fit_are_refused(backend, change, message):
    model = small_model(backend)
    optimizer, before = AdamW(model), model.state_dict()
    with pytest.raises(ArgumentError, match=message):
        optimizer.step(change(ones(before)), 0.1)
    assert optimizer.steps == 0
    assert all(model.state_dict()[n] is p for n, p in before.items())


@pytest.mark.parametrize("bad", [NAN, INF, -INF, 1e30, 1e300])
def test_a_gradient_that_is_no_number_spares_the_model(bad):
    """1e30 has no square in float32: v would be infinite for good, and no step change anything."""
    model = small_model("numpy")
    optimizer, before = AdamW(model), model.state_dict()
    gradients = ones(before, "float64")
    gradients[WORDS][3, 4] = bad
    with pytest.raises(ArgumentError, match=f"{WORDS}: expected numbers whose squares are finite"):
        optimizer.step(gradients, 0.1)
    assert all(model.state_dict()[n] is p for n, p in before.items())
    gradients[WORDS][3, 4] = 1e15
    optimizer.step(gradients, 0.1)
    assert all(np.isfinite(p).all() for p in model.state_dict().values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"m": np.ones((2, 3), np.float32)}, r"m: expected the shape and the dtype"),
        ({"v": np.ones(3)}, r"v: .*\(3,\) in float32, found \(3,\) in float64"),
        ({"v": np.full(3, -1, np.float32)}, "v: expected numbers of at least 0"),
        ({"gradient": np.ones((2, 3), np.float32)}, r"gradient: .*found \(2, 3\)"),
        ({"parameter": [1.0]}, "parameter: expected an array"),
        ({"step": 0}, r"step: expected an integer in \[1, "),
        ({"step": -1}, r"step: expected an integer in \[1, "),  # once complex64
        ({"step": 10**400}, r"step: expected an integer in \[1, "),
        ({"rate": 10, "decay": 1}, "rate, decay: expected a product of at most 1"),
    ],
)
def test_arguments_of_the_update_are_checked(arguments, message):
    names = ("parameter", "gradient", "m", "v")
    good = dict(zip(names, np.ones((4, 3), np.float32), strict=True))
    options = {"step": 1, "rate": 0.1, "betas": (0.9, 0.99), "eps": 1e-8, "decay": 0.0}
    adamw_update(**good, **options)
    with pytest.raises(ArgumentError, match=message):
        adamw_update(**{**good, **options, **arguments})


def test_the_norm_of_large_gradients(backend):
    """The squares of 1e30 are infinite in float32; the clipped gradients once were all 0."""
    model = small_model(backend)
    exact = np.sqrt(sum(p.size for p in model.state_dict().values()))
    for size, dtype in ((1.0, "float32"), (1e30, "float32"), (1e200, "float64")):
        if backend != "numpy" and size > 1:
            continue  # there the norm stays on the device, and infinity is its answer
        gradients = {n: g * size for n, g in ones(model.state_dict(), dtype).items()}
        clipped, norm = clip_by_global_norm(gradients, 1.0)
        assert np.isclose(float(norm), exact * size, rtol=1e-6)
        total = sum(float((to_host(g).astype(float) ** 2).sum()) for g in clipped.values())
        assert np.isclose(total, 1.0, rtol=1e-5)


@pytest.mark.parametrize("max_norm", [NAN, INF, 0, -1.0, "1", None, np.ones(3), True])
def test_a_norm_out_of_range_is_refused(max_norm):
    with pytest.raises(ArgumentError, match="max_norm: expected a finite number above 0"):
        clip_by_global_norm({"a": np.ones(3)}, max_norm)


@pytest.mark.parametrize(
    "gradients", [{}, None, [np.ones(3)], {"a": [1.0]}, {"a": None}, {"a": np.ones(3, int)},
                  {"a": np.ones(3, complex)}, {"a": np.array([1, NAN])}, {"a": np.array([1, INF])},
                  {"a": np.array([1, NAN]), "b": np.full(2, 1e30, np.float32)}]
)  # fmt: skip
def test_gradients_without_a_norm_are_refused(gradients):
    with pytest.raises(ArgumentError, match=r"^gradients: "):
        clip_by_global_norm(gradients, 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        (0, NAN, 3, 10),
        (0, -1.0, 3, 10),
        (0, INF, 3, 10),
        (0, np.ones(3), 3, 10),
        (-1, 1.0, 3, 10),
        (1.5, 1.0, 3, 10),
        ("0", 1.0, 3, 10),
        (0, 1.0, None, 10),
        (0, 1.0, 3, 10.0),
        (1, 1.0, 3, 10**400),
    ],
)
def test_a_schedule_of_no_steps_is_refused(arguments):
    with pytest.raises(ArgumentError, match=r"^(peak|step|warmup|total): expected a"):
        linear_schedule(*arguments)
