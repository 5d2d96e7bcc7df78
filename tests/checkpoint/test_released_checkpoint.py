"""The outputs published for a released checkpoint (410 MB).

MINIZHA_RELEASED names it: a folder, or the id sijunhe/nezha-cn-base.
"""

import os

import numpy as np
import pytest

from minizha import NezhaForMaskedLM, NezhaModel

WHERE = os.environ.get("MINIZHA_RELEASED")
IDS = [[0, 1, 2, 3, 4, 5]]

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(WHERE is None, reason="needs MINIZHA_RELEASED, a folder or hub id"),
    pytest.mark.filterwarnings("ignore::minizha.errors.CheckpointWarning"),
]


def test_hidden_states_are_those_published():
    out = NezhaModel.from_pretrained(WHERE)(IDS, [[0, 1, 1, 1, 1, 1]])
    assert out.last_hidden_state.shape == (1, 6, 768)
    expected = [
        [0.0685, 0.2441, 0.1102],
        [0.0600, 0.1906, 0.1349],
        [0.0221, 0.0819, 0.0586],
    ]
    np.testing.assert_allclose(out.last_hidden_state[0, 1:4, 1:4], expected, rtol=0, atol=1e-4)


def test_logits_are_those_published():
    out = NezhaForMaskedLM.from_pretrained(WHERE)(IDS, np.ones((1, 6)))
    assert out.logits.shape == (1, 6, 21128)
    expected = [
        [-2.7939, -1.7902, -2.2189],
        [-2.8585, -1.8908, -2.3723],
        [-2.6499, -1.7750, -2.2558],
    ]
    np.testing.assert_allclose(out.logits[0, 1:4, 1:4], expected, rtol=0, atol=1e-4)
