"""What the tests of traces and comparisons share."""

import numpy as np


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
