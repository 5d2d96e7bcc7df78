"""What the tests of traces and comparisons share."""

import numpy as np

from minizha.crosscheck.diagnosis.backward import all_steps
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import evaluate
from minizha.crosscheck.names import GRADIENT

FLOAT32_TABLE = (
    "attention.scores",
    "attention.context",
    "attention.probs" + GRADIENT,
    "attention.self.query" + GRADIENT,
)
"""The ends of the names of the arrays whose steps read the relative table."""


def model_and_inputs(case, backend="numpy"):
    """The two arguments of ``crosscheck.trace`` for a case such as those of ``tiny_models.TINY``."""
    return case.model(backend), case.inputs()


def normal(shape, seed=0):
    """Standard normal numbers."""
    return np.random.default_rng(seed).standard_normal(shape)


def assert_same_bits(found, expected):
    """The same arrays, dtypes included, under the same names in the same order."""
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], strict=True, err_msg=name)


def has_remark(report, text):
    """Whether a remark of a comparison's report contains the text."""
    return any(text in remark for remark in report.remarks)


def computed_with(trace, rules, facts=None, dtype="float64"):
    """Every array of a trace that has a step, as a program with these rules computes it."""
    steps, memory = all_steps(facts or Facts(trace), rules), {}
    for name in trace:
        if name in steps and name not in memory:
            memory[name] = evaluate(steps, name, {}, memory, dtype)
    return {name: memory[name] for name in trace if name in memory}
