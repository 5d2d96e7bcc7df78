"""The shapes in docstrings hold in real calls, and a wrong line would be found."""

import inspect
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minizha.nezha
import minizha.nezha.attention
from minizha.backend import get_backend
from minizha.ops.activation import ACTIVATIONS
from tests.support.model_steps import (
    Sizes,
    answering_step,
    choosing_step,
    classifying_step,
    decoding_step,
    generating_step,
    pretraining_step,
)
from tests.support.op_cases import (
    BACKWARDS,
    CASES,
    FORWARDS,
    FUNCTIONS,
    draw_case,
    public_functions,
    typical_case,
)
from tests.support.op_cases import upstream as random_upstream
from tests.support.shape_lines import Line, ShapeError, check, checked, parse, shapes_line, watching

MODEL = {
    name: function
    for name, function in public_functions(minizha.nezha).items()
    if shapes_line(function)
}

# pairwise different, and all but K, P and d odd (d must be even)
SIZES = Sizes(
    B=5, L=7, N=3, d=10, K=4, V=19, F=11, C=23, P=2, S=13, M=15, unpruned=2, types=17, chunk=3
)
LEGEND = SIZES.legend()
B, L, C = SIZES.B, SIZES.L, SIZES.C


def call(function, *args, **kwargs):
    """The call's arguments by name, and its result."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments, function(*args, **kwargs)


def calls_of(case):
    """A forward and a backward, each with function, arguments and result."""
    forward, backward = FORWARDS[case.op], BACKWARDS[case.op]
    rng = {} if case.seed is None else {"rng": np.random.default_rng(case.seed)}
    arguments, result = call(forward, **case.variables, **case.constants, **rng)
    y, cache = result
    return (forward, arguments, result), (backward, *call(backward, random_upstream(y), cache))


def calls_without_backward(xp):
    """Calls of the functions of ops/ that are no pair."""
    x = xp.ones((2, 3, 4))
    context, masked = typical_case("attention", head_masked=True).on(xp).run()
    labels = xp.asarray([5, -100, 7, 0, -100])
    return [
        (FUNCTIONS[name], *call(FUNCTIONS[name], *arguments))
        for name, arguments in (
            ("relative_table", (3, 4, xp)),
            ("relative_rows", (3, 5, 2, 1, xp)),
            ("labelled_rows", (labels,)),
            ("head_mask_gradient", (context, masked)),
            ("normal_cdf", (x,)),
            ("normal_pdf", (x,)),
        )
    ]


# --- the documentation is right -------------------------------------------------------------------


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_op_says_its_shapes(name):
    line = shapes_line(FUNCTIONS[name])
    assert line, f"{name}: no line 'Shapes: x (…) → y (…)' in the docstring"
    described = {item.name for item in parse(line).arguments}
    assert described >= required_arrays(FUNCTIONS[name])


def required_arrays(function):
    """The arguments that are always arrays, not those that may be None."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.annotation == "Array"}


def test_required_arrays():
    assert required_arrays(FUNCTIONS["attention"]) == {"query", "key", "value", "table"}
    assert required_arrays(FUNCTIONS["attention_backward"]) == {"dcontext"}


def test_the_functions_of_the_model_that_say_theirs():
    """Negative control: these functions of the network have a line."""
    pairs = {
        "multi_head_attention",
        "add_and_norm",
        "attention_block",
        "feed_forward",
        "layer",
        "pooler",
        "predictions",
        "classifier",
    }
    assert pairs | {f"{name}_backward" for name in pairs} <= MODEL.keys()
    for function in MODEL.values():
        parse(shapes_line(function))


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_ops_of_any_size(op, backend, data):
    forward, backward = calls_of(draw_case(data.draw, op).on(get_backend(backend)))
    sizes = check(*forward)
    check(*backward, known=sizes)  # a symbol means the same in the backward function


def test_ops_that_are_no_pair(backend):
    calls = calls_without_backward(get_backend(backend))
    for a_call in calls:
        check(*a_call)
    assert len(calls) + 2 * len(CASES) == len(FUNCTIONS), "a public op that no call exercises"


PLAIN_ALONE = {"relative_rows", "normal_cdf", "normal_pdf"}
"""Functions that plain operations call and kernels do not."""


@pytest.mark.parametrize("plain", [False, True])
def test_a_training_step_of_the_whole_model(plain, backend, request):
    if plain:
        request.getfixturevalue("plain_ops")
    with watching(FUNCTIONS) as ops, watching(MODEL, LEGEND) as functions:
        for hidden_act in ACTIVATIONS:
            pretraining_step(SIZES, backend, hidden_act=hidden_act)
        classifying_step(SIZES, backend, "regression", np.ones((B, C)))
        classifying_step(SIZES, backend, "multi_label_classification", np.ones((B, C)))
        for arrays in (2, 4):
            decoding_step(SIZES, backend, arrays)
        answering_step(SIZES, backend)
    with watching(MODEL, LEGEND | {"L": 1}) as generating:
        generating_step(SIZES, backend)
    without = {name: size for name, size in LEGEND.items() if name not in "BC"}
    with watching(MODEL, without) as choosing:
        choosing_step(SIZES, backend)
    assert functions | generating | choosing == MODEL.keys()
    if plain:
        assert FUNCTIONS.keys() == ops
    else:
        assert FUNCTIONS.keys() - ops <= PLAIN_ALONE


# --- a wrong line would be found ------------------------------------------------------------------


def with_line(function, line: Line):
    """The function under another docstring."""
    sides = (
        ", ".join(f"{i.name} ({', '.join(i.axes)}) {i.words}" for i in items) for items in line
    )

    def other(*args, **kwargs):
        return function(*args, **kwargs)

    rest = inspect.getdoc(function).split("Shapes:")[1]
    other.__doc__ = f"Shapes: {' → '.join(sides)}\n\n{rest}"
    other.__name__ = function.__name__
    return other


def variants(line, change):
    """The line with one item changed, for each item for which ``change`` returns another."""
    for side in range(2):
        for k, item in enumerate(line[side]):
            changed = change(item)
            if changed is not None:
                items = list(line)
                items[side] = (*line[side][:k], changed, *line[side][k + 1 :])
                yield Line(*items)


def one_axis_more(item):
    return item._replace(axes=(*item.axes, "Z"))


def one_axis_less(item):
    return item._replace(axes=item.axes[1:]) if item.axes else None


def reversed_axes(item):
    return item._replace(axes=item.axes[::-1]) if len(item.axes) > 1 else None


def another_size(item):
    return item._replace(axes=(*item.axes[:-1], "97")) if item.axes else None


def every_call():
    for op in CASES:
        forward, backward = calls_of(typical_case(op))
        yield *forward, {}
        yield *backward, check(*forward)
    for a_call in calls_without_backward(np):
        yield *a_call, {}


@pytest.mark.parametrize("change", [one_axis_more, one_axis_less, reversed_axes, another_size])
def test_a_wrong_item_of_any_op_is_found(change):
    found = 0
    for function, arguments, result, known in every_call():
        line = parse(shapes_line(function))
        check(with_line(function, line), arguments, result, known)  # the right one passes
        for wrong in variants(line, change):
            with pytest.raises(ShapeError):
                check(with_line(function, wrong), arguments, result, known)
            found += 1
    assert found > 30


def outer(x, y):
    """``z = x yᵀ``"""
    return x[:, None] * y


X, Y = np.ones(3), np.ones(5)


@pytest.mark.parametrize(
    "line",
    [
        "x (I), y (O) → z (I, O)",
        "x (I), y (O) → z (I, O) of y's dtype.",
        "x (3), y (K+2) → z (K, O); K = 3.",
        "x (I), y (O) → z (I or O, O)",
        "x (…), y (O) → z (…, O)",
        "x (I/2), y (O) → z (I/2, O); I = 6.",
        "x (I), y (O+1) → z (I·O/4, O+1); O = 4.",
        "x (I), y (I+J) → z (I, J+I)",
        "x (I), y (J+2I+0) → z (I, O); J = -1.",
        "x (I), y (O) → z (I, I·J+2)",
        "x (I), y (O) → z (I, O) or None",
        "x (I+J), y (O) → z (I, O); read twice, as I is told by the result.",
    ],
)
def test_right_lines(line):
    outer.__doc__ = f"``z = x yᵀ``\n\n    Shapes: {line}\n\n    Convention: (none)"
    assert checked(outer, called := set())(X, y=Y).shape == (3, 5)
    assert called == {"outer"}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("x (I), y (O) → z (O, I)", r"z \(O, I\), found \(3, 5\)"),
        ("x (I), y (I) → z (I, I)", r"y \(I\), found \(5,\)"),
        ("x (I, J), y (O) → z (I, O)", r"x \(I, J\), found \(3,\)"),
        ("x (I), y (O) → z (I, …, O, J)", "outer: z"),
        ("x (…), y (…) → z (…)", "outer: y"),
        ("x (I), y (O) → z (2I+1, O)", "outer: z"),
        ("x (2J), y (O) → z (I, O)", "outer: x"),
        ("x (I), y (O) → z (O or J, O), w (J)", "2 results, found 1"),
        ("x (I), q (O) → z (I, O)", "no argument q"),
        ("x (I) integers, y (O) → z (I, O)", "expected integers, found float64"),
        ("x (I), y (O)", "one arrow"),
        ("x (I), y (O) → z (I, O) → z (I, O)", "one arrow"),
        ("x (I), y (O) → the product", "a result behind the arrow"),
        ("x (I), y: (O) → z (I, O)", "behind a name"),
        ("x (I), y (O) → z (I·1, O)", "can't read the axis"),
        ("x (I+J), y (O) → z (J+I, O)", r"can't read the axis 'I\+J'"),
        ("x (J+O), y (O) → z (J, O)", r"x \(J\+O\), found \(3,\)"),
        ("x (I·J), y (O) → z (I·J, O)", "can't read the axis 'I·J'"),
        ("x (I), y (O) → z (O/2, O)", r"z \(O/2, O\), found \(3, 5\)"),
        ("x (I), y (O) → z (I, I+O/2)", r"z \(I, I\+O/2\), found \(3, 5\)"),
        ("x (I), y (O) → z (I/0, O)", "can't read the axis 'I/0'"),
        ("x (I+), y (O) → z (I, O)", r"can't read the axis 'I\+'"),
        ("x (I), y (O) → z (I, I·O)", r"z \(I, I·O\), found \(3, 5\)"),
        ("x (I), y (O) → z (I, I+O)", r"z \(I, I\+O\), found \(3, 5\)"),
        ("x (I), y (O) → z (I, I·J)", r"z \(I, I·J\), found \(3, 5\)"),
    ],
)
def test_wrong_lines(line, text):
    outer.__doc__ = f"``z = x yᵀ``\n\n    Shapes: {line}\n"
    with pytest.raises(ShapeError, match=text):
        checked(outer, set())(X, Y)


class Pair(NamedTuple):
    first: np.ndarray
    second: np.ndarray


class Parts(NamedTuple):
    one: np.ndarray
    pair: Pair
    nothing: None


def apart(x, y):
    return Parts(x, Pair(y, y + 1.0), None)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("one (I), pair (O), nothing (I) or None", None),
        ("nothing (I) or None, pair (O), one (I)", None),
        ("one (I), pair (I), nothing (I) or None", r"pair \(I\), found \(5,\)"),
        ("one (I), pair (O), nothing (I)", "nothing: found None"),
        ("one (I), pair (O), rest (I) or None", "expected the results"),
        ("one (I), pair (O)", "expected the results"),
    ],
)
def test_results_with_names(line, text):
    apart.__doc__ = f"Shapes: x (I), y (O) → {line}."
    if text is None:
        checked(apart, set())(X, Y)
        return
    with pytest.raises(ShapeError, match=text):
        checked(apart, set())(X, Y)


class Given(NamedTuple):
    x: np.ndarray
    pair: Pair | None


def of_fields(given, y):
    return Given(given.x + 1.0, given.pair), None


WHOLE = Given(X, Pair(Y, Y))


@pytest.mark.parametrize(
    ("line", "given", "text"),
    [
        (
            "given.x (I), y (O), given.pair.first (O) → z.x (I), z.pair (O), w (O) or None",
            WHOLE,
            None,
        ),
        ("given.x (I), given.pair (O) → z.pair.second (O), w (O) or None", WHOLE, None),
        ("given.x (I), given.pair (J) → z.pair (O), w (O) or None", Given(X, None), None),
        ("given.pair.first (J), y (O) → z.x (I), w (O) or None", Given(X, None), None),
        ("given.x (I), y (I) → z.x (I), w (O) or None", WHOLE, r"y \(I\), found \(5,\)"),
        ("given.x (O), y (O) → z.x (I), w (O) or None", WHOLE, "of_fields: y"),
        ("given.pair.first (I), y (O) → z.x (I), w (O) or None", WHOLE, "of_fields: z.x"),
        ("given.x (I), y (O) → z.pair.first (I), w (O) or None", WHOLE, r"z.pair.first \(I\)"),
        ("given.z (I), y (O) → z.x (I), w (O) or None", WHOLE, "given.z: no field z"),
        ("given.x.z (I), y (O) → z.x (I), w (O) or None", WHOLE, "given.x.z: no field z"),
        ("given.x (I), y (O) → z.y (I), w (O) or None", WHOLE, "z.y: no field y"),
        ("giving.x (I), y (O) → z.x (I), w (O) or None", WHOLE, "no argument giving"),
        ("given.x (I), y (O) → z.x (I), z.pair (O)", WHOLE, "1 results, found 2"),
        ("given.x (I), y (O) → z.x (I), w (O)", WHOLE, "w: found None"),
    ],
)
def test_dotted_names_are_fields(line, given, text):
    of_fields.__doc__ = f"Shapes: {line}."
    if text is None:
        checked(of_fields, set())(given, Y)
        return
    with pytest.raises(ShapeError, match=text):
        checked(of_fields, set())(given, Y)


def test_a_result_with_fields_may_have_a_name_of_its_own():
    def named(x, y):
        """Shapes: x (I), y (O) → d.x (I), d.pair.first (O)."""
        return Given(x, Pair(y, x))

    checked(named, set())(X, Y)
    named.__doc__ = "Shapes: x (I), y (O) → d.x (I), d.pair.first (I)."
    with pytest.raises(ShapeError, match=r"named: d.pair.first \(I\), found \(5,\)"):
        checked(named, set())(X, Y)


def test_another_dtype_is_found():
    outer.__doc__ = "Shapes: x (I), y (O) → z (I, O) of x's dtype."
    with pytest.raises(ShapeError, match="expected float32, found float64"):
        checked(outer, set())(X.astype("float32"), Y)


def test_the_legend_of_the_model_binds(backend):
    """Negative control: with B and L exchanged in the legend, the model's functions fail."""
    exchanged = LEGEND | {"B": L, "L": B}
    with watching(MODEL, exchanged), pytest.raises(ShapeError):
        pretraining_step(SIZES, backend)


def test_the_watch_ends():
    with watching(FUNCTIONS):
        assert minizha.nezha.attention.dropout is not FUNCTIONS["dropout"]
    assert minizha.nezha.attention.dropout is FUNCTIONS["dropout"]
