"""The shapes at the ends of lines hold in real calls, and a wrong one would be found."""

import functools
import importlib
import inspect
import pkgutil
import re
from types import ModuleType

import numpy as np
import pytest

import minizha.nezha
import minizha.ops
from minizha.backend import get_backend
from tests.support.inline_faults import comments_of, faults, fitted
from tests.support.inline_shapes import loose_comments, plain, read, watching_lines
from tests.support.model_steps import SIZES, every_step
from tests.support.op_cases import (
    BACKWARDS,
    CASES,
    FORWARDS,
    FUNCTIONS,
    TYPICAL,
    typical_case,
    upstream,
)
from tests.support.shape_lines import parse, shapes_line

NETWORK = minizha.nezha
PACKAGES = (minizha.ops, NETWORK)
# axes of the operations: in each row pairwise different, with 2K+1 for K
_NAMES = ("B", "T", "K", "C", "I", "O", "V", "D", "L", "N", "Lq", "Lk", "d", "offset")
OP_SIZES = [TYPICAL] + [
    TYPICAL | {"lead": lead} | dict(zip(_NAMES, row, strict=True))
    for lead, row in (
        ((6,), (3, 11, 2, 7, 13, 9, 9, 8, 10, 2, 7, 12, 14, 0)),  # clipped on both sides
        ((7, 2, 3), (5, 14, 13, 4, 11, 6, 9, 10, 5, 6, 9, 4, 8, 2)),  # nothing is clipped
        (
            (3, 13),
            (2, 17, 4, 8, 7, 10, 5, 4, 6, 3, 10, 5, 6, 30),
        ),  # all keys are before the queries
        ((11,), (7, 19, 4, 5, 6, 4, 8, 3, 7, 5, 3, 13, 10, 0)),  # clipped on the right
        ((2, 9), (5, 23, 7, 6, 8, 12, 7, 5, 3, 6, 13, 8, 4, 5)),  # clipped on the left
    )
]


def modules(package: ModuleType) -> list[ModuleType]:
    names = [info.name for info in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
    return [importlib.import_module(name) for name in names]


def with_shapes(package: ModuleType) -> list:
    """The functions of a package that have a "Shapes:" line, under their decorators."""
    found = []
    for module in modules(package):
        for function in vars(module).values():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and shapes_line(function):
                found.append(plain(function))
    return found


@functools.cache
def noted(backend: str) -> list:
    """All these functions, called at every size."""
    ops = [read(function) for function in with_shapes(minizha.ops)]
    network = [read(function) for function in with_shapes(NETWORK)]
    with watching_lines(ops):
        for sizes in OP_SIZES:
            call_ops(sizes, get_backend(backend))
    with watching_lines(network) as legend:
        for sizes in SIZES:
            for step, symbols in every_step(sizes, backend):
                legend(symbols)
                step()
    return ops + network


def call_ops(sizes: dict, xp: ModuleType) -> None:
    """Every operation once with all its arguments, and once without the optional ones."""
    less = dict.fromkeys(("padded", "masked", "head_masked", "ignoring"), False)
    for axes in (sizes, sizes | less | {"rate": 0.0, "count": 3}):
        for op in CASES:
            y, cache = plain(FORWARDS[op])(**keywords(typical_case(op, **axes).on(xp)))
            plain(BACKWARDS[op])(upstream(y), cache)
            if op == "attention":
                dweights = xp.ones_like(cache.weights)
                plain(BACKWARDS[op])(upstream(y), cache, dweights=dweights)
                if cache.head_mask is not None:
                    FUNCTIONS["head_mask_gradient"](upstream(y), cache, dweights)
    x, labels = xp.ones(sizes["lead"]), np.arange(sizes["T"])
    labels[::3] = -100
    plain(FUNCTIONS["relative_table"])(sizes["K"], sizes["d"], xp)
    plain(FUNCTIONS["relative_rows"])(sizes["Lq"], sizes["Lk"], sizes["K"], sizes["offset"], xp)
    plain(FUNCTIONS["labelled_rows"])(xp.asarray(labels))
    plain(FUNCTIONS["normal_cdf"])(x)
    plain(FUNCTIONS["normal_pdf"])(x)


def keywords(case) -> dict:
    rng = {} if case.seed is None else {"rng": np.random.default_rng(case.seed)}
    return case.variables | case.constants | rng


def inline_count(backend: str = "numpy") -> tuple[int, int]:
    """The number of shapes at ends of lines, and the fewest sizes at which one of them was tried."""
    done = noted(backend)
    shapes = [shape for w in done for shapes in comments_of(w).values() for shape in shapes]
    sizes = [
        len(found)
        for w in done
        for line, found in fitted(w, comments_of(w)).sizes.items()
        if any(comments_of(w)[line])
    ]
    return len(shapes), min(sizes)


# --- the comments are right -----------------------------------------------------------------------


def test_every_new_shape_is_at_the_end_of_its_line_and_holds_at_five_sizes(backend):
    found = [fault for w in noted(backend) for fault in faults(w)]
    assert not found, "\n".join(found)


def test_no_shape_stands_where_it_is_not_executed():
    files = [module.__file__ for package in PACKAGES for module in modules(package)]
    watched = [read(function) for package in PACKAGES for function in with_shapes(package)]
    assert not loose_comments(files, watched)


# --- the sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", OP_SIZES, ids=lambda sizes: str(sizes["lead"]))
def test_the_axes_of_an_operation_differ(sizes):
    for op in CASES:
        axes = inspect.signature(CASES[op]).parameters.keys() - {"rng", "rate", "offset", "count"}
        numbers = [sizes[axis] for axis in axes - {"lead", "K"} if type(sizes[axis]) is int]
        numbers += sizes["lead"] if "lead" in axes else ()
        numbers += [2 * sizes["K"] + 1] if "K" in axes else ()
        assert len(set(numbers)) == len(numbers), (op, numbers)


@pytest.mark.parametrize("sizes", SIZES)
def test_the_axes_of_a_model_differ(sizes):
    B, L, N, d, K, V, F, C, P, S, M, unpruned, types, _ = sizes
    numbers = [B, L, N, d, N * d, 2 * K + 1, V, F, C, P, S, M, unpruned, unpruned * d, types]
    numbers += [P + L, P + S, B * L]
    assert len(set(numbers)) == len(numbers)


# --- a wrong comment would be found ---------------------------------------------------------------


def test_no_axis_of_any_comment_could_be_another():
    """Axes exchanged, left out, repeated or replaced by a number: each is found, in every comment."""
    changed = 0
    for w in noted("numpy"):
        comments = comments_of(w)
        for line, shapes in comments.items():
            for k, axes in enumerate(shapes):
                for wrong in wrong_axes(axes):
                    other = {line: (*shapes[:k], wrong, *shapes[k + 1 :])}
                    found = fitted(w, comments | other).misfits
                    assert line in found, (w.place, line, wrong)
                    changed += 1
    assert changed > 100


def wrong_axes(axes):
    for k in range(len(axes)):
        yield axes[:k] + axes[k + 1 :]
        yield axes[: k + 1] + axes[k:]
        yield (*axes[:k], "97", *axes[k + 1 :])
        for j in range(k):
            if axes[j] != axes[k]:
                yield (*axes[:j], axes[k], *axes[j + 1 : k], axes[j], *axes[k + 1 :])
    yield (*axes, "Z")


def test_every_symbol_is_in_the_legend():
    """In docstrings and in comments: letters are declared once."""
    legend = minizha.ops.__doc__.partition("Axes, here and everywhere:")[2]
    declared = set(re.findall(r"\b(?:[A-Z][a-z]?|d)\b", legend))
    for w in noted("numpy"):
        line = parse(shapes_line(w.function))
        shapes = [item.axes for side in line for item in side]
        shapes += [shape for shapes in comments_of(w).values() for shape in shapes]
        used = {s for axes in shapes for axis in axes for s in re.findall(r"[A-Za-z]\w*", axis)}
        assert used - {"or"} <= declared, (w.function.__name__, used - declared)
