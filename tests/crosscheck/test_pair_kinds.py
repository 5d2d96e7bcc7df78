"""check_pair on the kinds of functions that people write: right ones, wrong ones, and neither.

What is right is never accused; what is wrong is refused; what can't be told is undecided.
"""

import numpy as np
import pytest

from minizha.crosscheck import PairReport, check_pair
from tests.support.classic_mistakes import FORWARDS, MISTAKES, RIGHT, arguments
from tests.support.public_forwards import (
    KINDS,
    layer_norm_var,
    normalise_backward,
    softmax,
    softmax_backward,
    wrong_by,
)

# --- every kind -----------------------------------------------------------------------------------


def test_there_are_25_kinds():
    assert len(KINDS) >= 25


@pytest.mark.parametrize("name", KINDS)
def test_the_right_backward_is_accepted(name):
    kind = KINDS[name]
    for seed in range(5):
        report = check_pair(kind.forward, kind.backward, kind.arguments(seed), seed=seed)
        assert report.ok is True, report
        assert [v.ok for v in report.verdicts] == [True] * len(kind.shapes)
        # by differences only where the complex step does not apply, and then it says so
        assert ("differences" in " ".join(report.remarks)) == (report.oracle == "differences")


def uneven(d):
    return d + 1e-4 * np.cos(np.arange(d.size)).reshape(d.shape)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "change", [lambda d: 1.001 * d, lambda d: -d, lambda d: 0.0 * d, uneven, lambda d: d[..., ::-1]]
)
def test_a_wrong_one_is_refused(name, change):
    kind = KINDS[name]
    report = check_pair(kind.forward, wrong_by(change, kind.backward), kind.arguments())
    assert report.ok is False, report
    assert report.name == "argument 0"
    assert report.error > 1e-6
    assert all(v.ok for v in report.verdicts[1:])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LayerNorm with np.var", "write the variance as a product"),
        ("LayerNorm with np.std", "np.std drops"),
        ("GELU by math.erf", "minizha.ops.gelu has normal_cdf"),
        ("np.zeros filled in loops", "give it the dtype of x"),
        ("np.dot with out=", "out= needs an array of the dtype of x"),
        ("np.linalg.norm", "write (x * x).sum(…) ** 0.5"),
        ("np.abs", "write np.where(x > 0, x, -x)"),
        ("softplus by np.logaddexp", "np.logaddexp takes no complex numbers"),
        ("astype(float)", "leave it out"),
        ("convolution by im2col", "drops imaginary parts"),
    ],
)
def test_it_says_what_to_use_instead(name, words):
    kind = KINDS[name]
    (remark,) = check_pair(kind.forward, kind.backward, kind.arguments()).remarks
    assert "checked by differences" in remark
    assert words in remark


@pytest.mark.parametrize("name", ["LayerNorm with np.var", "np.abs", "np.real"])
def test_a_backward_that_is_as_blind_as_the_complex_step_is_refused(name):
    """The complex step takes the part that forward drops for a constant, as this backward does."""
    kind = KINDS[name]

    def blind(dy, cache):
        if name != "LayerNorm with np.var":
            return np.zeros_like(dy)
        n, sigma, w, _ = cache
        dn = dy * w
        return (dn - dn.mean(axis=1, keepdims=True)) / sigma, (dy * n).sum(axis=0), dy.sum(axis=0)

    assert check_pair(kind.forward, blind, kind.arguments()).ok is False


# --- hints ----------------------------------------------------------------------------------------


def test_there_are_twenty_classic_mistakes_and_at_most_one_without_a_name():
    assert len(MISTAKES) == 20
    assert {layer: sum(m.layer == layer for m in MISTAKES) for layer in FORWARDS} == dict.fromkeys(
        FORWARDS, 4
    )
    assert sum(m.words is None for m in MISTAKES) <= 1


@pytest.mark.parametrize("layer", FORWARDS)
def test_without_a_mistake_they_are_right(layer):
    report = check_pair(FORWARDS[layer][0], RIGHT[layer], arguments(layer))
    assert report.ok is True
    assert report.oracle == "complex step"
    assert (report.hint, report.remarks) == ("", ())


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.layer}: {m.mistake}")
def test_a_classic_mistake_is_named(mistake):
    report = check_pair(FORWARDS[mistake.layer][0], mistake.backward, arguments(mistake.layer))
    assert report.ok is False
    if mistake.words is None:
        assert report.hint.endswith("gradient are wrong")
    else:
        assert mistake.words in report.hint
    # the other arguments are right, but for those whose gradients are exchanged or scaled alike
    wrong = {v.name for v in report.verdicts if v.ok is False}
    assert wrong == ({"argument 0", "argument 1"} if "√4" in report.hint else wrong)
    assert len(wrong) <= 2
    assert report.hint in str(report)


SHAPES = [(4, 6), (2, 2), (1, 5), (5, 1), (3, 2), (7,), (2,), (2, 3, 4), (6, 3)]
ONE_OF_A_KIND = [
    ("softmax", lambda z: softmax(z), softmax_backward),
    ("square", lambda x: (x * x, x), lambda dy, x: 2.0 * x * dy),
    ("sine", lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x)),
    (
        "centred",
        lambda x: (x - x.mean(axis=-1, keepdims=True), None),
        lambda dy, _: dy - dy.mean(axis=-1, keepdims=True),
    ),
]


class RandomlyWrong:
    """Adds noise to a gradient, at all entries or some, the same places at every call."""

    def __init__(self, backward, shape, rng):
        self.backward, self.seed = backward, int(rng.integers(2**31))
        share = rng.choice([0.0, 0.2, 0.5, 1.0])
        self.places = rng.random(shape) < share
        self.places.flat[rng.integers(self.places.size)] = True
        self.way = rng.choice(["add", "replace", "multiply", "flip"])

    def __call__(self, dy, cache):
        right = self.backward(dy, cache)
        rng = np.random.default_rng(self.seed)
        noise = rng.standard_normal(right.shape) * np.abs(right).max()
        if self.way == "add":
            return right + self.places * noise
        if self.way == "replace":
            return np.where(self.places, noise, right)
        factors = noise if self.way == "multiply" else np.sign(noise)
        return np.where(self.places, factors * right, right)


def is_true(text, found, expected):
    """Whether a hint says no more than which entries are wrong, and that is so; or is a factor."""
    off = np.abs(found - expected) > 1e-7 * max(1.0, np.abs(expected).max())
    if text.startswith("only these: "):
        first = [str(place.tolist()) for place in np.argwhere(off)[:4]]
        return text.startswith("only these: " + ", ".join(first)) and off.mean() <= 0.25
    if text.startswith("only at "):
        places, axis = text.removeprefix("only at ").split(" of axis ")
        others = tuple(a for a in range(off.ndim) if a != int(axis))
        return np.flatnonzero(off.any(axis=others))[:4].tolist() == [*map(int, places.split(", "))]
    if text == "all are 0":
        return not found.any()
    if "times what it should be" in text:
        factor = float(text.split()[2])
        return np.abs(found - factor * expected).max() < 1e-5 * np.abs(found).max()
    if "off by a factor of its own" in text:  # flips may be the same in every row
        axis = int(text.split()[4])
        with np.errstate(all="ignore"):
            ratio = found / expected
        return np.ptp(ratio, axis=axis).max() < 1e-6
    return False


def false_hints(seed):
    """Random wrong gradient number ``seed``: the hint if it is false; None if it was not wrong."""
    rng = np.random.default_rng([seed, 77])
    shape = SHAPES[rng.integers(len(SHAPES))]
    _, forward, backward = ONE_OF_A_KIND[rng.integers(len(ONE_OF_A_KIND))]
    x, wrong = rng.standard_normal(shape), RandomlyWrong(backward, shape, rng)
    calls = []

    def recorded(dy, cache):
        calls.append((backward(dy, cache), wrong(dy, cache)))
        return calls[-1][1]

    report = check_pair(forward, recorded, [x], seed=seed, trials=1)
    expected, found = calls[0]
    if np.abs(expected - found).max() <= 1e-6:
        return None
    assert report.ok is False
    text = report.hint.partition("gradient are wrong")[2].removeprefix(": ")
    return text if text and not is_true(text, found, expected) else ""


def count_false_hints(number):
    found = [false_hints(seed) for seed in range(number)]
    assert sum(text is not None for text in found) > 0.7 * number
    return [text for text in found if text]


def test_a_random_wrong_gradient_gets_no_false_hint():
    assert count_false_hints(300) == []


@pytest.mark.heavy
def test_nor_do_2000():
    assert count_false_hints(2000) == []


@pytest.mark.parametrize("shape", [(1,), (5, 1), (1, 1), ()])
def test_nothing_is_said_of_an_axis_of_length_1(shape):
    x = np.random.default_rng(2).standard_normal(shape)
    report = check_pair(lambda x: (np.sin(x), x), lambda dy, x: dy * np.cos(x) + x * x, [x])
    assert report.ok is False
    assert "axis 1" not in report.hint
    if x.size == 1:
        assert report.hint.endswith("gradient are wrong")


# --- float32, random, kinks -------------------------------------------------------------------------


def in_single(forward):
    """Forward with its arguments in float32."""

    def single(*arrays):
        y, cache = forward(
            *(a.astype(np.complex64 if a.dtype.kind == "c" else np.float32) for a in arrays)
        )
        return y, cache

    return single


def dropping(forward):
    """The same, which drops imaginary parts."""

    def single(*arrays):
        return forward(*(a.real.astype(np.float32) for a in arrays))

    return single


def random_right_pair(seed):
    rng = np.random.default_rng([seed, 99])
    rows, columns = (int(n) for n in rng.integers(2, 8, size=2))
    size = 10.0 ** rng.uniform(-1.5, 1.5)
    w, b = rng.standard_normal((2, columns))
    x = size * rng.standard_normal((rows, columns)) + rng.choice([0.0, 1.0]) * size
    norm = (layer_norm_var, normalise_backward, [x, w, b])
    pairs = [
        norm,
        (softmax, softmax_backward, [x]),
        (lambda x: (np.tanh(x), x), lambda dy, x: dy * (1.0 - np.tanh(x) ** 2), [x]),
        (
            lambda x, w: (x @ w, (x, w)),
            lambda dy, c: (dy @ c[1].T, c[0].T @ dy),
            [x, rng.standard_normal((columns, 3))],
        ),
        norm,
    ]
    forward, backward, given = pairs[rng.integers(len(pairs))]
    way = rng.integers(4)
    if way == 1:
        forward = in_single(forward)
    elif way == 2:
        forward = dropping(forward)
    elif way == 3:
        in_double = backward

        def backward(dy, cache):
            gradients = in_double(dy, cache)
            if isinstance(gradients, tuple):
                return tuple(g.astype(np.float32) for g in gradients)
            return gradients.astype(np.float32)

    return forward, backward, given, way


def accused(number):
    found, right = [], 0
    for seed in range(number):
        forward, backward, given, way = random_right_pair(seed)
        report = check_pair(forward, backward, given, seed=seed)
        if report.ok is False:
            found.append((seed, str(report)))
        if way == 0:
            assert report.ok is True, report
        right += report.ok is True
    assert 0.2 * number < right < 0.9 * number  # those in float32 are undecided, not right
    return found


def test_no_right_pair_is_accused_that_computes_in_float32_or_with_np_var():
    assert accused(100) == []


@pytest.mark.heavy
def test_nor_are_600():
    assert accused(600) == []


def test_float32_inside_is_told_from_a_wrong_backward():
    x = np.random.default_rng(1).standard_normal((4, 6))
    for forward in (in_single(softmax), dropping(softmax)):
        report = check_pair(forward, softmax_backward, [x])
        assert report.ok is None
        assert "forward computes in less than float64 inside" in report.hint
        assert "undecided" in str(report) or "can't be compared" in str(report)
        # the control: what is wrong by more than float32's rounding
        wrong = check_pair(forward, lambda dy, y: dy * y, [x])
        assert wrong.ok is False


def test_a_backward_in_float32_is_told_from_a_wrong_one():
    x = np.random.default_rng(1).standard_normal((4, 6))
    single = lambda dy, y: softmax_backward(dy, y).astype(np.float32)  # noqa: E731
    report = check_pair(softmax, single, [x])
    assert report.ok is None
    assert "backward computes in float32" in report.hint
    assert check_pair(softmax, lambda dy, y: 1.01 * single(dy, y), [x]).ok is False


def test_a_random_forward_is_told_from_a_wrong_backward():
    rng = np.random.default_rng(0)

    def dropout(x):
        mask = rng.random(x.shape) < 0.5
        return x * mask, mask

    report = check_pair(dropout, lambda dy, mask: dy * mask, [np.ones((3, 4))])
    assert report.ok is None
    assert "forward is random" in report.hint
    assert report.checked == 0


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (lambda x: (np.where(x > 0, x, 0.0), x), lambda dy, x: dy * (x > 0)),
        (lambda x: (np.maximum(x, 0.0), x), lambda dy, x: dy * (x >= 0)),
        (lambda x: (np.abs(x), x), lambda dy, x: dy * np.sign(x)),
    ],
)
def test_a_kink_is_told_from_a_wrong_backward(forward, backward):
    x = np.array([[1.0, -2.0, 0.0], [0.5, -0.3, 2.0]])
    report = check_pair(forward, backward, [x])
    assert report.ok is None
    assert "forward has a kink at [0, 2]" in report.hint
    assert "the other 5 entries are right" in report.hint
    # the controls: beside the kink another entry is wrong; and at it, more than either side allows
    for place, index in ((2.0, (1, 2)), (0.0, (0, 2))):
        report = check_pair(forward, lambda dy, x, at=place: backward(dy, x) + 9.0 * (x == at), [x])
        assert report.ok is False
        assert report.index == index


@pytest.mark.parametrize("name", ["max", "sort", "pooling by np.maximum.reduce"])
def test_so_are_ties(name):
    kind = KINDS[name]
    x = np.array([[1.0, 1.0, 0.0, 2.0], [3.0, 3.0, 3.0, 1.0]])
    report = check_pair(kind.forward, kind.backward, [x])
    assert report.ok is None
    assert "forward has a kink at" in report.hint
    assert check_pair(kind.forward, wrong_by(lambda d: 2.0 * d, kind.backward), [x]).ok is False


def test_an_overflow_is_told_from_a_wrong_backward():
    with np.errstate(over="ignore", invalid="ignore"):
        report = check_pair(
            lambda x: (np.exp(x), np.exp(x)), lambda dy, y: dy * y, [np.ones(3) * 800]
        )
    assert report.ok is None
    assert "is not finite here" in report.hint


# --- their arrays, our arrays -----------------------------------------------------------------------


def writes_dy(dy, y):
    dy *= y * (1.0 - y)
    return dy


def writes_cache(dy, cache):
    y = cache["y"]
    y *= 1.0 - y
    y *= dy
    return y


def sigmoid(x):
    y = 1.0 / (1.0 + np.exp(-x))
    return y, y


def sigmoid_with_dictionary(x):
    y, _ = sigmoid(x)
    return y, {"y": y}


@pytest.mark.parametrize(
    ("forward", "backward", "remark"),
    [
        (sigmoid, writes_dy, "backward writes into dy"),
        (sigmoid_with_dictionary, writes_cache, "backward writes into its cache"),
    ],
)
def test_what_backward_writes_into_changes_no_verdict(forward, backward, remark):
    x = np.random.default_rng(4).standard_normal((3, 4))
    report = check_pair(forward, backward, [x])
    assert report.ok is True
    assert any(remark in text for text in report.remarks)
    wrong = check_pair(forward, lambda dy, cache: 2.0 * backward(dy, cache), [x])
    assert wrong.ok is False
    assert any(remark in text for text in wrong.remarks)


def test_a_backward_that_makes_dy_fit_its_own_gradient_is_refused():
    """Once a checker compares with the dy that it handed out, this passes."""

    def cheat(dy, x):
        dy[...] = 0.0
        return np.zeros_like(x)

    assert check_pair(lambda x: (x * x, x), cheat, [np.ones((2, 3))]).ok is False


def test_a_forward_that_writes_into_its_argument():
    def forward(x):
        x *= 2.0
        return x * x, x

    x = np.random.default_rng(4).standard_normal((3, 4))
    before = x.copy()
    report = check_pair(forward, lambda dy, doubled: 4.0 * doubled * dy, [x])
    assert report.ok is True
    assert "forward writes into argument 0 (x)" in report.remarks[0]
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("seed", range(10))
def test_our_random_numbers_are_not_the_readers(seed):
    """With x from default_rng(seed) as u, this backward, which ignores dy, would pass."""
    x = np.random.default_rng(seed).standard_normal((3, 4))
    square, ignores = (lambda x: (x * x, x)), (lambda dy, x: 2.0 * x * x)
    for ours in (seed, 0):
        report = check_pair(square, ignores, [x], trials=1, seed=ours)
        assert report.ok is False
        assert "it does not depend on dy" in report.hint


def test_a_complex_gradient_is_refused():
    report = check_pair(lambda x: (x * x, x), lambda dy, x: 2.0 * x * dy + 0j, [np.ones((2, 3))])
    assert report.ok is False
    assert "the gradient is complex128" in report.hint


# --- the report -------------------------------------------------------------------------------------


def test_every_argument_has_a_verdict():
    report = check_pair(
        FORWARDS["linear"][0],
        lambda dy, c: (dy @ c[1].T, 3.0 * c[0].T @ dy, dy),
        arguments("linear"),
    )
    assert isinstance(report, PairReport)
    assert [v.ok for v in report.verdicts] == [True, False, False]
    assert [v.parameter for v in report.verdicts] == ["x", "w", "b"]
    w = report.verdicts[1]
    assert w.found == pytest.approx(3.0 * w.expected, rel=1e-12)
    lines = str(report).splitlines()
    assert lines[1] == "  argument 0 (x): right"
    assert lines[2].startswith(f"  argument 1 (w): WRONG, at {list(w.index)} expected ")
    assert lines[3].endswith("it is not summed over axis 0")


@pytest.mark.parametrize(
    ("shape", "change", "words"),
    [
        ((3, 4), lambda d: d[None], "it is not summed over axis 0"),
        ((3, 4), lambda d: d.ravel(), "its numbers are right, its shape is not"),
        ((3, 4), lambda d: d.sum(axis=1), "it is summed over axis 1, which it should keep"),
        ((3, 4), lambda d: d.T, "it is transposed"),
        ((3, 4), lambda d: d.T[1:], "found shape (3, 3)"),
        ((3, 4), lambda d: "text", "found str"),
        ((3, 4), lambda d: None, "found NoneType"),
    ],
)
def test_the_hint_on_a_wrong_shape(shape, change, words):
    x = np.random.default_rng(0).standard_normal(shape)
    report = check_pair(lambda x: (x * x, x), lambda dy, x: change(2.0 * x * dy), [x])
    assert report.ok is False
    assert np.isnan(report.error)
    assert words in report.hint
    assert words in str(report)
