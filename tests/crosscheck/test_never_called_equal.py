"""Wrong ports that a naive comparison would report as equal."""

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel, crosscheck
from minizha.crosscheck import compare
from minizha.crosscheck.comparison.precision import rounded
from minizha.crosscheck.comparison.rounding import RulesIn, largest_difference
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis import CATALOGUE, mistaken
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import known_mistake
from minizha.crosscheck.diagnosis.facts_in import FactsIn
from minizha.crosscheck.names import GRADIENT
from tests.crosscheck.diagnosis.test_diagnose import CASES, ORDER, mistake_in, traced
from tests.support.eight_models import inputs_and_labels_of, perturbed
from tests.support.traces import computed_with, has_remark, model_and_inputs

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
    assert not report.ok
    assert report.undecided == ("embeddings",)
    assert has_remark(report, "embeddings has NaN or infinity on our side")
    theirs["embeddings"][1, 3, 5] += 7
    assert not compare(mine, theirs, **tolerances).ok
    assert not compare(mine, theirs).ok


def test_arrays_without_entries_prove_nothing(ours):
    mine = {"embeddings": ours["embeddings"], "pooler": np.zeros((0, 12))}
    report = compare(mine, dict(mine))
    assert report.undecided == ("pooler",)
    assert has_remark(report, "pooler has no entries")
    assert compare({"embeddings": ours["embeddings"]}, mine).ok


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
        wrong = {n: rounded(a, "bfloat16") for n, a in mistaken(ours, key).items()}
        assert not compare(ours, wrong, diagnose=False).ok, key
    assert compare(ours, {n: rounded(a, "bfloat16") for n, a in ours.items()}).ok


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


# --- parts of a wrong trace, and coarser ones -----------------------------------------------------


def single(array):
    return array.astype(np.float32)


def is_state(name):
    """What Transformers shows: hidden states and heads."""
    return not name.endswith(GRADIENT) and name.count(".") <= 2


LOGITS = (
    "cls.predictions",
    "cls.seq_relationship",
    "classifier",
    "qa_outputs",
    "masked_lm_loss",
    "next_sentence_loss",
    "loss",
)
PARTS = {
    "without weights": lambda name: not name.endswith("attention.weights"),
    "hidden states and heads": is_state,
    "logits and losses": LOGITS.__contains__,
}
LEAST_EFFECT = 2e-5
"""A mistake that changes some array by more than this, relative to its largest entry, is seen."""


def effect(ours, theirs):
    """The largest change of an array, relative to its largest entry, or what its error is divided by."""
    largest = 0.0
    sizes = {name: np.abs(a).max(initial=0) for name, a in ours.items()}
    terms = Terms(lambda n: sizes.get(n, 0.0), lambda n: ours[n].shape)
    for name, array in theirs.items():
        if array.shape != ours[name].shape or not np.isfinite(array).all():
            return np.inf
        visible = visible_entries(ours, name, array.shape)
        off = largest_difference(ours[name], array, visible)
        largest = max(largest, off / terms.scale(name))
    return largest


def called_equal(key, cases, change):
    """``[(case, part)]`` of the wrong traces that are called equal, and the number of all; each mistake
    is tried in the first ``cases`` models in which it has an effect."""
    equal, tried, models = [], 0, 0
    for case in dict.fromkeys(ORDER):
        wrong, ours = mistake_in(case, key), traced(case)
        if wrong is None or not effect(ours, wrong) > LEAST_EFFECT:
            continue
        models += 1
        for part, selected in PARTS.items():
            theirs = {name: a for name, a in wrong.items() if selected(name)}
            if not theirs or not effect(ours, theirs) > LEAST_EFFECT:
                continue
            tried += 1
            with np.errstate(all="ignore"):
                theirs = {name: change(a) for name, a in theirs.items()}
                if crosscheck.compare(ours, theirs, diagnose=False).ok:
                    equal.append((case, part))
        if models == cases:
            break
    return equal, tried


WITHOUT_EFFECT = ("loss_count_epsilon", "loss_log_epsilon", "table_float32")
"""They change nothing by more than 2e-5 in these models."""


@pytest.mark.heavy
@pytest.mark.parametrize("key", WITHOUT_EFFECT)
def test_mistakes_without_effect_have_none(key):
    assert called_equal(key, 1, single) == ([], 0)


@pytest.mark.parametrize("key", [key for key in CATALOGUE if key not in WITHOUT_EFFECT])
def test_a_part_of_a_wrong_trace_is_never_called_equal(key):
    equal, tried = called_equal(key, 1, single)
    assert not equal
    assert tried


@pytest.mark.heavy
@pytest.mark.parametrize("change", [single, np.asarray], ids=["float32", "float64"])
@pytest.mark.parametrize("key", [key for key in CATALOGUE if key not in WITHOUT_EFFECT])
def test_so_it_is_in_five_models(key, change):
    equal, tried = called_equal(key, 5, change)
    assert not equal
    assert tried


@pytest.mark.parametrize("selected", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("case", ["plain", "mask 2-D, padded", "decoder and everything", "answer"])
def test_and_the_same_parts_of_a_right_trace_are(case, selected):
    """The control, computed in float32."""
    model, inputs = model_and_inputs(CASES[case])
    model = model.astype("float32")
    ours = crosscheck.trace(model.astype("float64"), inputs)
    theirs = crosscheck.trace(model, inputs)
    assert crosscheck.compare(ours, {n: a for n, a in theirs.items() if selected(n)}).ok


# --- the ports of the issue -----------------------------------------------------------------------


def of_another_size(**inputs):
    """A trace with weights of standard deviation 0.3, where mistakes have effects of percents."""
    config = NezhaConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_relative_position=3,
    )
    model, rng = NezhaForPreTraining(config, dtype="float64"), np.random.default_rng(0)
    arrays = {
        name: rng.normal(float(name.endswith("LayerNorm.weight")), 0.3, p.shape)
        for name, p in model.state_dict().items()
    }
    model.load_state_dict(arrays)
    ids = rng.integers(1, 50, (2, 9))
    labels = np.where(rng.random(ids.shape) < 0.4, ids, -100)
    call = {"input_ids": ids, "labels": labels, "next_sentence_label": np.array([0, 1])}
    return crosscheck.trace(model, call | inputs)


def test_tanh_gelu_in_float64_with_logits_in_float16_is_named():
    """One coarser array late in a file takes nothing from an early one."""
    ours = of_another_size()
    theirs = mistaken(ours, "gelu_tanh")
    theirs["cls.predictions"] = theirs["cls.predictions"].astype(np.float16)
    report = compare(ours, theirs)
    assert report.first_divergence == "encoder.layer.0.intermediate"
    assert [f.mistake for f in report.findings] == ["gelu_tanh"]
    assert len(report.errors) == 1
    assert has_remark(report, "rounded to float16 in cls.predictions")
    for untrue in ("float16 numbers", "a finer dtype", "follows from its inputs", "would tell"):
        assert not has_remark(report, untrue)


def in_float32(ours, key):
    """A port with a mistake that computes in float32."""
    rules = type("Mistaken", (known_mistake(key).rules, RulesIn), {})
    return computed_with(ours, rules("float32"), FactsIn(ours, "float32"), "float32")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_masked_row_as_huawei_has_it_is_named(precision):
    """−10000 is added to all scores of a row: it shifts them, and float32 loses some of their digits."""
    mask = np.ones((2, 9), int)
    mask[1], mask[0, 7:] = 0, 0
    ours, key = of_another_size(attention_mask=mask), "mask_minus_10000"
    theirs = mistaken(ours, key) if precision == "float64" else in_float32(ours, key)
    assert {a.dtype.name for a in theirs.values()} == {precision}
    report = compare(ours, theirs)
    assert report.first_divergence == "encoder.layer.0.attention.probs"
    assert report.findings[0].mistake == key
    assert len(report.errors) == 1
    if precision == "float32":  # the control: the same port without the mistake
        right = computed_with(ours, RulesIn("float32"), FactsIn(ours, "float32"), "float32")
        assert compare(ours, right).ok


class Scaled(Rules):
    """The scores multiplied by a factor."""

    def __init__(self, factor):
        self.factor = factor

    def scores(self, q, k, a):
        return super().scores(q, k, a) * self.factor


def stored_in_half(arrays):
    return {
        name: a.astype(np.float16)
        for name, a in arrays.items()
        if is_state(name) and not name.startswith("embeddings.")
    }


@pytest.mark.parametrize(
    "factor", [1.06, 1 / 1.1], ids=["a scale wrong by 6 %", "a softmax of temperature 1.1"]
)
def test_float16_hidden_states_of_another_scale_are_not_equal(factor):
    ours = of_another_size()
    theirs = stored_in_half(computed_with(ours, Scaled(factor)))
    assert effect(ours, theirs) > 1e-2
    assert not compare(ours, theirs, diagnose=False).ok
    hidden = {n: theirs[n] for n in ("embeddings", "encoder.layer.0", "encoder.layer.1")}
    assert not compare(ours, hidden, diagnose=False).ok
    assert compare(ours, stored_in_half(ours)).ok  # the control


def test_half_the_next_sentence_loss_in_float16_is_named():
    ours = of_another_size()
    theirs = stored_in_half(mistaken(ours, "nsp_loss_halved"))
    report = compare(ours, theirs)
    assert report.first_divergence == "next_sentence_loss"
    assert [f.mistake for f in report.findings] == ["nsp_loss_halved"]
