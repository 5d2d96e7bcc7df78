"""The size of the terms of which arrays are sums."""

import math

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.comparison.terms import Terms
from tests.support.eight_models import CLASS_NAMES, inputs_and_labels_of, perturbed

A = "encoder.layer.1.attention."


def sized(sizes):
    """The terms of a trace with these sizes."""
    return Terms(lambda n: sizes.get(n, 0.0), lambda n: (3, 12, 5))


@pytest.mark.parametrize(
    ("name", "sizes", "expected"),
    [
        # an activation's argument
        ("encoder.layer.1.intermediate", {"encoder.layer.1.intermediate.dense": 7.0}, 7.0),
        (A + "probs", {A + "scores": 300.0}, 300.0),
        ("pooler", {"pooler.dense": 2.0}, 2.0),
        ("loss", {"cls.predictions": 9.0, "cls.seq_relationship": 11.0}, 11.0),
        ("masked_lm_loss", {"cls.predictions": 9.0, "cls.seq_relationship": 11.0}, 9.0),
        ("encoder.layer.1", {"encoder.layer.1": 5.0}, 0.0),
        # sums over rows
        ("pooler.dense.weight.grad", {"pooler.dense.grad": 0.5}, 0.5),
        ("encoder.layer.1.output.dense.bias.grad", {"encoder.layer.1.output.dense.grad": 3.0}, 3.0),
        (A + "self.key.weight.grad", {A + "self.key.grad": 2.0, "encoder.layer.0": 4.0}, 8.0),
        # products within the attention
        (A + "scores.grad", {A + "probs": 0.5, A + "probs.grad": 6.0}, 3.0),
        (A + "self.value.grad", {A + "probs": 0.5, A + "context.grad": 6.0}, 3.0),
        (A + "self.query.grad", {A + "scores.grad": 2.0, A + "self.key": 7.0}, 4.0),
        (A + "self.key.grad", {A + "scores.grad": 2.0, A + "self.query": 3.0}, 2.0),
        # (softmax − label) / rows
        ("cls.predictions.grad", {"cls.predictions": 9.0}, 9.0 / 36),
        ("classifier.grad", {"classifier": 0.1}, 1.0 / 36),
    ],
)
def test_the_size_of_terms(name, sizes, expected):
    assert sized(sizes).of(name) == pytest.approx(expected)


@pytest.mark.parametrize("model_class", CLASS_NAMES)
def test_no_term_of_a_sum_is_larger(model_class):
    """The oracle: the terms themselves, of a model's trace."""
    found = crosscheck.trace(perturbed(model_class, "numpy"), inputs_and_labels_of(model_class))
    sizes = {name: float(np.abs(a).max()) for name, a in found.items()}
    of = Terms(lambda n: sizes.get(n, 0.0), lambda n: found[n].shape).of
    assert of(A + "probs") == np.abs(found[A + "scores"]).max()
    products = found[A + "probs"] * found[A + "probs.grad"]
    assert np.abs(products).max() <= of(A + "scores.grad")
    mean = found[A + "probs"] * products.sum(-1, keepdims=True)
    assert np.abs(mean).max() <= found[A + "probs"].shape[-1] * of(A + "scores.grad")
    B, N, L = found[A + "probs"].shape[:3]
    dcontext = found[A + "context.grad"].reshape(B, L, N, -1)
    summed = np.abs(np.einsum("bnlj,blnd->bnljd", found[A + "probs"], dcontext))
    assert summed.max() <= of(A + "self.value.grad")
    for name in (n for n in found if n.endswith("dense.bias.grad")):
        assert of(name) == np.abs(found[name.replace("bias.", "")]).max(), name


def test_the_scale():
    """What an error is divided by."""
    bias, weight = A + "self.key.bias.grad", A + "self.key.weight.grad"
    rows = A + "output.dense.grad"
    found = sized({bias: 1e-17, weight: 0.5, rows: 8.0, A + "output.dense.bias.grad": 1e-6})
    assert found.scale(weight) == 0.5
    assert found.scale(bias) == 0.5  # 0 in theory
    assert found.scale(A + "output.dense.bias.grad") == pytest.approx(8e-3)  # its terms cancel
    assert found.scale("zeros") == 1


def test_the_floor_is_one_rounding_of_the_largest_term():
    name, rows = "encoder.layer.1.output.dense.bias.grad", "encoder.layer.1.output.dense.grad"
    found = sized({name: 0.25, rows: 1.0, "encoder.layer.1": 5.0})
    assert found.floor(name, 1e-7) == pytest.approx(1e-7 * math.sqrt(3 * 12))
    assert found.floor("encoder.layer.1", 1e-7) == pytest.approx(5e-7)
    assert found.floor("encoder.layer.1", 1e-7, size=6.0) == pytest.approx(6e-7)
    assert sized({name: 0.25}).floor(name, 1e-7) == pytest.approx(0.25e-7)
