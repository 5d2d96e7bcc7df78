"""Careless values: what people pass by mistake, and what they make of a good value."""

import datetime
import decimal
import fractions
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

NAN, INF = float("nan"), float("inf")
POOL = (
    lambda: None, lambda: True, lambda: False, lambda: 0, lambda: -1, lambda: 1, lambda: 2, lambda: 3,
    lambda: 7, lambda: 10**5, lambda: 2**31, lambda: 2**63, lambda: -(2**63), lambda: 10**400,
    lambda: -(10**400), lambda: 0.0, lambda: 0.5, lambda: -0.5, lambda: 1.0, lambda: 2.5, lambda: 1e-60,
    lambda: 1e300, lambda: NAN, lambda: INF, lambda: -INF, lambda: 1j, lambda: np.float64(0.1),
    lambda: np.float32(2), lambda: np.int64(3), lambda: np.uint8(255), lambda: np.bool_(True),
    lambda: np.array(3), lambda: np.array(0.5), lambda: decimal.Decimal("0.1"),
    lambda: fractions.Fraction(1, 3), lambda: "", lambda: "x", lambda: "1", lambda: "0.5",
    lambda: "True", lambda: "no", lambda: "[MASK]", lambda: "一二[MASK]三", lambda: "\0",
    lambda: "\ud800", lambda: "a\nb", lambda: "x" * 5000, lambda: "numpy", lambda: "float16",
    lambda: "float64", lambda: "../x", lambda: "missing/file", lambda: b"x", lambda: b"",
    list, lambda: (), lambda: [[]], lambda: [None], lambda: [1], lambda: [[1, 2], [3]],
    lambda: [[1, 2, 3]], lambda: ["a"], lambda: ["一", 2], lambda: [NAN], lambda: [[0.5]],
    dict, lambda: {"a": 1}, lambda: {5: 1}, lambda: {None: None}, lambda: set(), lambda: {1, 2},
    lambda: range(3), lambda: range(0), lambda: iter([1, 2]), lambda: object(), lambda: object,
    lambda: len, lambda: lambda *_, **__: None, lambda: Path("missing"), lambda: Path("."),
    lambda: np.zeros(0), lambda: np.zeros((0, 3), int), lambda: np.ones(3), lambda: np.ones((2, 5)),
    lambda: np.ones((2, 5), int), lambda: np.full((2, 5), NAN), lambda: np.full((2, 5), -100),
    lambda: np.ones((1, 2, 5), int), lambda: np.ones((2, 5), complex), lambda: np.array(["a", "b"]),
    lambda: np.array([None, 1]), lambda: np.ones((2, 5), bool), lambda: np.ones(3, ">f8"),
    lambda: np.zeros(2, "i4,f4"), lambda: np.array(["2020"], "M8[Y]"), lambda: np.dtype("float32"),
    lambda: np.float32, lambda: np.random.default_rng(0), lambda: np, lambda: ValueError("x"),
    lambda: Ellipsis, lambda: slice(3), lambda: datetime.date(2020, 1, 1), lambda: NotImplemented,
    lambda: memoryview(b"abc"), lambda: bytearray(b"x"), lambda: np.str_("x"), lambda: 1e-320,
)  # fmt: skip


def careless(rng: Random, good: Any) -> Any:
    """A value from the pool, or one near ``good``."""
    changes = [
        change for kind, of_kind in CHANGES.items() if isinstance(good, kind) for change in of_kind
    ]
    if changes and rng.random() < 0.45:
        return rng.choice(changes)(good)
    return rng.choice(POOL)()


def _put(array: np.ndarray, value: Any) -> np.ndarray:
    changed = np.array(array, dtype=np.result_type(array, np.float64) if value != value else None)
    if changed.size:
        changed.flat[-1] = value
    return changed


def _edit(mapping: dict, edit: Any) -> dict:
    """The mapping with its first value changed."""
    name = next(iter(mapping), "x")
    return dict(mapping) | {name: edit(mapping.get(name))}


CHANGES = {
    np.ndarray: (
        lambda a: a.tolist(),
        lambda a: a.astype(np.float32),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f8"),
        lambda a: a.astype(np.float16),
        lambda a: a.astype(np.int64),
        lambda a: a.astype(np.uint8),
        lambda a: a.astype(complex),
        lambda a: a.astype(object),
        lambda a: a.astype(str),
        lambda a: a.astype(bool),
        lambda a: a[None],
        lambda a: a[..., None],
        lambda a: a[:0],
        lambda a: a[..., :-1],
        lambda a: a.ravel(),
        lambda a: a.T,
        lambda a: np.concatenate([a, a]),
        lambda a: np.asfortranarray(a),
        lambda a: a[::-1],
        lambda a: -a - 1,
        lambda a: a + 1,
        lambda a: a * 1e6,
        lambda a: _put(a, NAN),
        lambda a: _put(a.astype(float), INF),
        lambda a: _put(a, -1),
        lambda a: _put(a.astype(float), 1e300),
        lambda a: _put(a, 10**6),
        lambda a: [a],
        lambda a: np.array(a, dtype=np.longdouble),
    ),
    (int, float): (lambda x: -x, lambda x: x + 1, lambda x: [x], lambda x: str(x), lambda x: x * 1000,
                   lambda x: x + 0.5, lambda x: complex(x), lambda x: np.array([x, x]),
                   lambda x: np.float64(x), lambda x: np.float32(x)),
    str: (lambda s: [s], lambda s: s.encode(), lambda s: s + "x", lambda s: s.upper(), lambda s: s * 50,
          lambda s: {s: s}, lambda s: np.array([s]), lambda s: s[:1], lambda s: f" {s}", lambda s: list(s)),
    list: (lambda x: x[:-1], lambda x: [*x, None], lambda x: [*x, *x], lambda x: tuple(x),
           lambda x: x[0] if x else x, lambda x: [x], lambda x: [*x, 5], lambda x: dict(enumerate(x))),
    tuple: (lambda x: x[:-1], lambda x: (*x, None), lambda x: list(x), lambda x: (x, x),
            lambda x: np.array(x, dtype=object), lambda x: x[::-1]),
    dict: (lambda d: list(d.items()), lambda d: dict(list(d.items())[1:]), lambda d: d | {"x": 1},
           lambda d: d | {5: 1}, lambda d: list(d.values()), lambda d: _edit(d, lambda _: None),
           lambda d: _edit(d, lambda _: "x"), lambda d: _edit(d, lambda v: [v]),
           lambda d: _edit(d, lambda v: np.asarray(v)[None] if v is not None else v),
           lambda d: _edit(d, lambda _: NAN), lambda d: _edit(d, lambda _: np.full((2, 5), NAN)),
           lambda d: _edit(d, lambda v: np.asarray(v, dtype=object)),
           lambda d: {f"{n}x": v for n, v in d.items()}),
    Path: (lambda p: str(p), lambda p: bytes(p), lambda p: p / "missing" / "x", lambda p: [p],
           lambda p: p.parent, lambda p: str(p) + "\0"),
    bool: (lambda b: int(b), lambda b: str(b), lambda b: [b], lambda b: float(b)),
    object: (lambda x: [x], lambda x: type(x), lambda x: {"x": x}),
}  # fmt: skip
"""For each type, what people make of a good value by mistake."""
