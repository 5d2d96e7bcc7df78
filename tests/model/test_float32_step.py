"""No float64 array appears in a float32 step: one would silently halve the speed of a product."""

from contextlib import contextmanager

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.backend import to_host
from minizha.nezha.parameters import tree_map
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.layer_norm import layer_norm
from minizha.ops.linear import linear
from tests.support.op_cases import BACKWARDS, CASES, as_tuple, leaves, typical_case, upstream


class Float32Only(np.ndarray):
    """An array whose results have its class, and must not be float64.

    Numbers of shape () may be: cross-entropy sums in float64.
    """

    def __array_finalize__(self, source):
        if self.ndim and self.dtype in (np.float64, np.complex128):
            raise AssertionError(f"a {self.dtype} array of shape {self.shape}")


def watched(x):
    return x.view(Float32Only) if x.dtype.kind == "f" else x


@contextmanager
def watch():
    """New arrays (zeros, ones, …) are watched too."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("empty", "zeros", "ones"):
            make = getattr(np, name)
            patch.setattr(np, name, lambda *a, make=make, **k: watched(make(*a, **k)))
        yield


@pytest.mark.parametrize("op", CASES)
def test_op(op):
    case = typical_case(op).on(np, "float32").map(watched)
    with watch():
        y, cache = case.run()
    dy = watched(upstream(y))
    with watch():
        gradients = as_tuple(BACKWARDS[op](dy, cache))
    assert y.dtype == np.float32
    assert all(isinstance(d, Float32Only) for d in gradients), "the watch was lost on the way"
    assert {array.dtype.name for array in leaves((cache, gradients))} <= {
        "float32",
        "int64",
        "bool",
    }


def test_the_watch_sees_a_promotion():
    """Negative control."""
    x, weight, bias = (watched(np.ones(shape, "float32")) for shape in ((2, 3), 3, 3))
    with pytest.raises(AssertionError, match=r"float64 array of shape \(2, 1\)"):
        layer_norm.plain(x, weight, bias, eps=np.float64(1e-12))
    with pytest.raises(AssertionError, match="float64 array"):
        linear.plain(x, weight[None], np.ones(1))


def test_the_watch_sees_a_forgotten_dtype():
    with watch(), pytest.raises(AssertionError, match="float64 array"):
        np.zeros((2, 3))


CONFIG = NezhaConfig(
    vocab_size=19,
    hidden_size=12,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=11,
    max_relative_position=2,
    type_vocab_size=3,
)
INPUTS = {
    "input_ids": [[4, 5, 6, 0, 0], [7, 8, 9, 4, 5]],
    "attention_mask": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
    "token_type_ids": [[0, 0, 1, 1, 2], [0, 1, 1, 2, 2]],
    "head_mask": [1.0, 0.5, 0.0],
    "labels": [[4, -100, 6, -100, -100], [-100, 1, -100, 2, -100]],
    "next_sentence_label": [0, 1],
}
UPSTREAM = {
    "loss": 2.0,
    "prediction_logits": np.ones((2, 5, 19)),
    "seq_relationship_logits": np.ones((2, 2)),
    "hidden_states": [np.ones((2, 5, 12))] * 3,
    "attentions": [None, np.ones((2, 3, 5, 5))],
}


def whole_step(model):
    model.train(seed=0)
    out = model(**INPUTS, output_attentions=True, output_hidden_states=True)
    out.backward()
    # and from every field at once, with upstream gradients in float64
    out.backward(**UPSTREAM)
    return out


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
def test_model(hidden_act, backend):
    model = NezhaForPreTraining(CONFIG.replace(hidden_act=hidden_act), backend=backend)
    out = whole_step(model)
    arrays = [*leaves((out.record, out.to_tuple(), tuple(model.gradients().values()))), model.table]
    assert len(arrays) > 100
    assert {array.dtype.name for array in arrays} <= {"float32", "int64", "bool"}
    assert all(np.isfinite(to_host(array)).all() for array in arrays)


def watched_model(config):
    model = NezhaForPreTraining(config)
    model.parameters = tree_map(watched, model.parameters)
    model.table = watched(model.table)
    return model


@pytest.mark.parametrize("hidden_act", ACTIVATIONS)
def test_model_under_watch(hidden_act):
    model = watched_model(CONFIG.replace(hidden_act=hidden_act))
    with watch():
        out = whole_step(model)
    assert all(isinstance(h, Float32Only) for h in out.hidden_states)
    assert all(isinstance(d, Float32Only) for d in model.gradients().values())


def test_model_under_watch_sees_a_promotion():
    """Negative control: a table that is left in float64."""
    model = watched_model(CONFIG)
    model.table = np.asarray(model.table, dtype="float64")
    with watch(), pytest.raises(AssertionError, match="float64 array"):
        whole_step(model)
