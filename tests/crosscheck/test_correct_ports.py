"""A right port in float32 passes: Transformers on torch, with random configurations.

It computes its own table of relative positions in float32, and its rounding errors differ.
"""

import numpy as np
import pytest

pytest.importorskip("torch", reason="the peers extra is not installed")
transformers = pytest.importorskip("transformers", reason="the peers extra is not installed")
if not hasattr(transformers, "NezhaModel"):
    pytest.skip("this Transformers has no Nezha (5 dropped it)", allow_module_level=True)

from minizha import crosscheck
from minizha.crosscheck.adapters import transformers as peer
from tests.crosscheck.adapters.test_transformers import both_of

SEEDS = 60


@pytest.mark.parametrize("seed", range(SEEDS))
def test_transformers_in_float32_is_equal(seed):
    ours, theirs, inputs = both_of(seed)
    found = peer.record(theirs.float(), inputs)
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    for dtype in ("float32", "float64"):
        report = crosscheck.compare(crosscheck.trace(ours.astype(dtype), inputs), found)
        assert report.ok, report
        assert len(report.differences) >= 30


@pytest.mark.parametrize("seed", range(0, SEEDS, 6))
def test_and_is_not_passed_where_something_is_wrong(seed):
    """Negative control: one head of the first layer scaled by 1.01."""
    ours, theirs, inputs = both_of(seed)
    found = peer.record(theirs.float(), inputs)
    name = "encoder.layer.0.attention.scores"
    found[name] = found[name].copy()
    found[name][:, 0] *= np.float32(1.01)
    report = crosscheck.compare(crosscheck.trace(ours, inputs), found)
    assert report.first_divergence == name
