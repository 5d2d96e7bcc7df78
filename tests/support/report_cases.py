"""Hand-made reports of comparisons: equal, different, with NaN, huge, and with hostile names."""

import math
from dataclasses import replace

import pytest

from minizha.crosscheck.comparison.differences import Difference, Finding, Location
from minizha.crosscheck.report.report import Report

SCORES = "encoder.layer.0.attention.scores"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'</title></svg></style><script>",
    "\x1b[2J\x07\r\n\u202e",
    "曹操" * 90,
    "\ud800",
    "x" * 10_000,
    "a&amp;b &lt;",
    "]]>--><!--",
    "",
)


def array(name, ratio=0.3, ok=True, **changes):
    """A difference whose error is ``ratio`` times what rounding explains."""
    expected = 1e-7
    return Difference(
        **{
            "name": name,
            "their_name": name,
            "shape": (2, 4, 16, 16),
            "dtype": "float32",
            "ok": ok,
            "max_abs": 8 * ratio * expected,
            "error": ratio * expected,
            "expected": expected,
            "tolerance": 10 * expected,
            "ulp": 3.0,
            "index": (1, 3, 0, 12),
            "ours": 0.125,
            "theirs": 1.0,
            **changes,
        }
    )


def names(layers):
    forward = ["embeddings.LayerNorm", "embeddings"]
    for i in range(layers):
        forward += [f"encoder.layer.{i}.attention.{n}" for n in ("self.query", "scores", "probs")]
        forward += [f"encoder.layer.{i}.output.dense", f"encoder.layer.{i}"]
    forward += ["pooler", "loss"]
    return forward + [f"{name}.grad" for name in reversed(forward)]


def equal(layers=2):
    return Report(tuple(array(name) for name in names(layers)))


def different(layers=2, first=SCORES):
    every = names(layers)
    at = every.index(first)
    arrays = [
        array(n, 10.0 ** (2 + i % 5), False) if i >= at else array(n) for i, n in enumerate(every)
    ]
    heat = ((1e-3, 0.0, 0.5), (1e-9, math.nan, 20.0))
    return Report(
        tuple(arrays),
        missing=("pooler.dense",),
        left_over=("bert.position_ids",),
        location=Location(0.5, ("heads: 2 of 4 (0, 3)",), heat, ("query i", "key j"), (2, 96)),
        findings=(Finding("no_scale", "1/√d missing", first, 2e-7, 0.9, "bert4torch 0.6.2"),),
        remarks=("2 names were matched by shape and value",),
    )


def with_nan():
    report = different()
    broken = array(
        SCORES,
        ok=False,
        error=math.nan,
        max_abs=math.inf,
        ulp=math.nan,
        theirs=math.nan,
        ours=-math.inf,
        tolerance=math.nan,
        reason="NaN where ours is finite",
    )
    return replace(report, differences=(report.differences[0], broken, *report.differences[4:]))


def shape_differs():
    nothing = dict.fromkeys(("max_abs", "error", "expected", "ulp", "ours", "theirs"), math.nan)
    reason = "ours is 2 × 4, theirs 4 × 2"
    return Report((array("pooler", ok=False, index=(), reason=reason, **nothing),))


def hostile():
    first = array(
        HOSTILE[0], 1e4, False, their_name=HOSTILE[1], reason=HOSTILE[2], dtype=HOSTILE[0]
    )
    rest = [array(name, 1e3, False, their_name=name[::-1], reason=name) for name in HOSTILE]
    where = Location(math.nan, HOSTILE, ((1.0,),), (HOSTILE[1], HOSTILE[2]), (1, 1))
    found = tuple(Finding(name, name, name, 0.0, math.inf, name) for name in HOSTILE)
    return Report((first, *rest), HOSTILE, HOSTILE, where, found, HOSTILE)


def thousand():
    return different(layers=99)


def scalar_and_exact():
    """A loss without axes, exactly equal arrays, an array of nine axes with an expected error of 0."""
    same = array("embeddings", 0.0)
    loss = array("loss", 1e5, False, shape=(), index=())
    return Report((same, loss, array("x", shape=(1,) * 9, index=(0,) * 9, ok=False, expected=0.0)))


REPORTS = {
    "equal": equal, "different": different, "nan": with_nan, "shape": shape_differs,
    "hostile": hostile, "thousand": thousand, "odd": scalar_and_exact,
    "empty location": lambda: replace(
        different(), location=Location(0.0, (), (), ("", ""), (0, 0)), findings=()
    ),
    "undecided": lambda: replace(equal(), undecided=("encoder.layer.0", "cls.predictions")),
    "no location": lambda: replace(different(), location=None),
}  # fmt: skip
every_report = pytest.mark.parametrize("build", REPORTS.values(), ids=REPORTS)
