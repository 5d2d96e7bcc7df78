"""Wrong ports that a naive comparison would report as equal."""

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaModel, crosscheck
from minizha.crosscheck import compare
from minizha.crosscheck.diagnosis import mistaken
from tests.support.eight_models import inputs_and_labels_of, perturbed
from tests.support.traces import has_remark

MODEL_CLASS = "NezhaForPreTraining"


@pytest.fixture(scope="module")
def ours():
    return crosscheck.trace(perturbed(MODEL_CLASS, "numpy"), inputs_and_labels_of(MODEL_CLASS))


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "tolerances", [{"rtol": 1e-3}, {"atol": 1e-3}, {"rtol": 1e-3, "atol": 1.0}]
)
def test_what_is_no_number_on_both_sides_hides_nothing(ours, tolerances, strange):
    mine, theirs = (
        {"embeddings": array.copy()} for array in (ours["embeddings"], ours["embeddings"])
    )
    mine["embeddings"][0, 0, 0] = theirs["embeddings"][0, 0, 0] = strange
    report = compare(mine, theirs, **tolerances)
    assert report.ok
    assert has_remark(report, "ours has NaN or infinity in embeddings")
    theirs["embeddings"][1, 3, 5] += 7
    assert not compare(mine, theirs, **tolerances).ok
    assert not compare(mine, theirs).ok


def test_where_rounding_explains_everything_nothing_is_equal():
    """With weights of std 0.5, float32 is rounding noise after a few layers; zeros are not equal to it."""
    config = NezhaConfig(
        vocab_size=50,
        hidden_size=128,
        num_hidden_layers=12,
        num_attention_heads=2,
        intermediate_size=256,
        initializer_range=0.5,
    )
    model = NezhaModel(config, dtype="float32")
    rng = np.random.default_rng(0)
    mine = crosscheck.trace(model, {"input_ids": rng.integers(1, 50, (2, 32))}, gradients=False)
    last = "encoder.layer.11"
    report = compare(mine, {last: np.zeros_like(mine[last])}, diagnose=False)
    assert not report.ok
    assert report.undecided == (last,) or report.first_divergence == last
    assert compare(mine, {last: mine[last] * np.float32(1 + 1e-6)}).ok


def test_half_precision_is_not_blind(ours):
    """A bfloat16 port whose relative table is zeros."""
    for key in ("zero_table", "gelu_relu", "no_output_norm"):
        wrong = {n: to_bfloat16(a) for n, a in mistaken(ours, key).items()}
        assert not compare(ours, wrong, diagnose=False).ok, key
    assert compare(ours, {n: to_bfloat16(a) for n, a in ours.items()}).ok


def to_bfloat16(x):
    """Rounded to bfloat16, in float32."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


def test_a_coarser_array_on_the_way_is_told(ours):
    single = "embeddings.token_type_embeddings"
    theirs = dict(ours) | {single: ours[single].astype(np.float32)}
    assert has_remark(compare(ours, theirs), f"rounded to float32 in {single}")
    assert not has_remark(compare(ours, dict(ours)), "rounded to")


@pytest.mark.parametrize(
    "loss",
    [np.ones(2), np.array(3), np.array(1j), np.array(True)],
    ids=["two numbers", "an integer", "complex", "a boolean"],
)
def test_a_loss_that_is_no_float_is_different_and_no_traceback(ours, loss):
    mine = {"embeddings": ours["embeddings"], "loss": np.array(1.5)}
    report = compare(mine, mine | {"loss": loss})
    assert report.first_divergence == "loss"
    assert report.divergence.reason
    assert not report.findings
    assert str(report)
