"""The kernels of the two relative terms on NumPy: they too make no array of size L × L × d."""

import numpy as np
import pytest

from minizha.kernels import relative_position
from minizha.ops.replaceable import KERNELS
from tests.support.memory import FULL, peak_of, relative_terms, whole_attention


@pytest.mark.parametrize("compute", [relative_terms, whole_attention])
def test_no_array_of_size_l_l_d_is_made_by_a_kernel(compute):
    kernel = KERNELS["relative_key", "numpy"]
    assert kernel.forward is relative_position.relative_key
    assert peak_of(lambda: compute(np)) < FULL / 4
