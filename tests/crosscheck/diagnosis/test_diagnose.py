"""Which mistakes are named, from which of their arrays, and the remarks where none is named."""

import functools

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck import names
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis import CATALOGUE, diagnose, mistaken
from minizha.crosscheck.diagnosis.diagnose import distance
from tests.support.seeded.seeding import CASES as SEEDED
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import TINY
from tests.support.traces import model_and_inputs

CASES = TINY | {f"seeded: {name}": case for name, case in SEEDED.items()} | HEADS
ORDER = [
    "plain",
    "dropout and everything",
    "mask 2-D, padded",
    "decoder and everything",
    "past",
    "seeded: cross",
    "seeded: uneven",
    "seeded: hidden row",
    "seeded: large eps",
    *CASES,
]
"""The order in which cases are tried: most mistakes change an array in one of the first."""
BELOW_FLOAT32 = {"loss_log_epsilon", "table_float32"}
"""In models this small, the effect of these mistakes is smaller than that of rounding."""
SCORES, CONTEXT = "encoder.layer.0.attention.scores", "encoder.layer.0.attention.context"


@functools.cache
def traced(name):
    return crosscheck.trace(*model_and_inputs(CASES[name]))


@functools.cache
def mistake_in(name, key):
    """The arrays of a port with the mistake; None if it can't be made in this case."""
    try:
        with np.errstate(all="ignore"):
            return mistaken(traced(name), key)
    except (ValueError, IndexError, KeyError):
        return None


def zero_in_theory(name, model_class):
    """Whether a gradient is 0 because a constant added to all inputs does not change a softmax."""
    if model_class == "NezhaForMultipleChoice" and name == "classifier.bias.grad":
        return True
    spans = model_class == "NezhaForQuestionAnswering"
    if spans and name.endswith("0.output.LayerNorm.bias.grad"):
        return True
    return name.endswith(("key.bias.grad", "qa_outputs.bias.grad"))


def first_wrong(ours, theirs, tolerance):
    """The first array that is wrong in a visible entry, or None."""
    for name in theirs:
        visible = visible_entries(ours, name, ours[name].shape)
        pair = [np.asarray(a, np.float64) for a in (ours[name], theirs[name])]
        if visible is not None and pair[0].shape == pair[1].shape:
            pair = [np.where(visible, a, 0.0) for a in pair]
        wrong = not distance(*pair) <= tolerance
        if wrong and not zero_in_theory(name, ours.model_class):
            return name
    return None


def named_mistakes(ours, theirs, name):
    return [finding.mistake for finding in diagnose(ours, theirs, name).findings]


# --- every mistake of the catalogue ---------------------------------------------------------------


def diagnosed_cases(key, tolerance, change, enough):
    """``[(case, first wrong array, findings)]`` of the cases that the mistake changes, in order, until
    ``enough(findings)``."""
    found = []
    for case in dict.fromkeys(ORDER):
        theirs = mistake_in(case, key)
        if theirs is None:
            continue
        theirs, ours = {n: change(a) for n, a in theirs.items()}, traced(case)
        first = first_wrong(ours, theirs, tolerance)
        if first is not None:
            found.append((case, first, named_mistakes(ours, theirs, first)))
            if enough(found[-1][2]):
                break
    return found


@pytest.mark.parametrize("key", CATALOGUE)
def test_every_mistake_shows_somewhere_and_is_named_first(key):
    found = diagnosed_cases(key, 1e-9, lambda a: a, lambda findings: findings[:1] == [key])
    assert found, "it changes nothing anywhere"
    assert found[-1][2][:1] == [key], found
    assert all(key in findings for _, _, findings in found), found


@pytest.mark.parametrize("key", [key for key in CATALOGUE if key not in BELOW_FLOAT32])
def test_so_it_is_in_float32_but_for_one_that_looks_the_same(key):
    with np.errstate(over="ignore"):  # −1e38 · √d, say
        found = diagnosed_cases(key, 5e-6, np.float32, lambda f: key in f and len(f) <= 2)
    assert found, "it changes nothing anywhere"
    assert key in found[-1][2], found
    assert len(found[-1][2]) <= 2, found


@pytest.mark.parametrize("key", sorted(BELOW_FLOAT32))
def test_the_others_are_indeed_below_it(key):
    """The control of the list: where float64 names the mistake, its effect is below float32's precision."""
    case, first, _ = diagnosed_cases(key, 1e-9, lambda a: a, lambda findings: findings == [key])[-1]
    ours, theirs = (np.float32(arrays[first]) for arrays in (traced(case), mistake_in(case, key)))
    assert distance(ours, theirs) < 16 * np.finfo(np.float32).eps


def test_a_mistake_that_the_catalogue_lacks_is_not_named(monkeypatch):
    """The control of both."""
    theirs = mistake_in("plain", "no_scale")
    assert named_mistakes(traced("plain"), theirs, SCORES) == ["no_scale"]
    monkeypatch.delitem(CATALOGUE, "no_scale")
    assert named_mistakes(traced("plain"), theirs, SCORES) == []


def test_names_are_those_of_the_trace():
    assert set(mistaken(traced("plain"), "no_scale")) == {
        n for n in traced("plain") if not n.endswith(names.DROPOUT)
    }


# --- of little that they show ---------------------------------------------------------------------

HIDDEN = ("embeddings", "encoder.layer.0", "encoder.layer.1")
COARSE = [
    ("two layers", "no_scale", HIDDEN),
    ("two layers", "zero_table", HIDDEN),
    ("two layers", "distance_sign", HIDDEN),
    ("two layers", "no_relative_value", HIDDEN),
    ("two layers", "gelu_relu", HIDDEN),
    ("two layers", "layer_norm_unbiased", HIDDEN),
    ("two layers", "residual_of_input", HIDDEN),
    ("plain", "no_scale", ("cls.predictions",)),
    ("plain", "zero_table", ("cls.predictions",)),
    ("plain", "mlm_no_activation", ("cls.predictions",)),
    ("plain", "clip_one_more", ("cls.predictions",)),
    ("next sentence", "token_types_zero", ("cls.seq_relationship",)),
    ("next sentence", "pooler_mean", ("cls.seq_relationship",)),
    ("plain", "softmax_backward_no_mean", ("embeddings.word_embeddings.weight.grad",)),
    ("plain", "tied_decoder_gradient_lost", ("embeddings.word_embeddings.weight.grad",)),
]


@pytest.mark.parametrize(("case", "key", "shown"), COARSE)
def test_hidden_states_or_logits_alone_are_enough(case, key, shown):
    ours, theirs = traced(case), {n: mistake_in(case, key)[n] for n in shown}
    first = first_wrong(ours, theirs, 1e-9)
    assert key in named_mistakes(ours, theirs, first)
    right = diagnose(ours, {n: ours[n] for n in shown}, first)
    assert not right.findings
    assert "right for their own inputs" in right.remarks[0]


def test_where_arrays_are_the_same_both_mistakes_are_named():
    """A table of zeros and a missing term: only arrays after the scores distinguish them."""
    ours, theirs = traced("plain"), mistake_in("plain", "zero_table")
    until = list(ours)[: list(ours).index(SCORES) + 1]
    assert set(named_mistakes(ours, {n: theirs[n] for n in until}, SCORES)) >= {
        "zero_table",
        "no_relative_key",
    }
    assert named_mistakes(ours, theirs, SCORES) == ["zero_table"]


# --- no known mistake -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case", ["dropout and everything", "past of both", "choice", "answer, dropout"]
)
def test_a_right_array_is_found_right(case):
    """The trace compared with itself, so the diagnosis's arithmetic must agree with it."""
    ours = traced(case)
    for name in list(ours)[::5]:
        if name.endswith(".dropout") or zero_in_theory(name, ours.model_class):
            continue
        found = diagnose(ours, ours, name)
        assert not found.findings
        assert found.remarks == (
            f"{name} is right for their own inputs: the difference arises before it",
        )


def test_an_array_that_inherits_a_mistake_is_found_right():
    ours, theirs = traced("plain"), mistake_in("plain", "no_scale")
    found = diagnose(ours, theirs, CONTEXT)
    assert not found.findings
    assert "the difference arises before it" in found.remarks[0]
    assert distance(ours[CONTEXT], theirs[CONTEXT]) > 1e-3, "the control"


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda a: 1.37 * a, "is 1.37 times what follows"),
        (lambda a: a + 0.25, "plus 0.25"),
        (lambda a: a.swapaxes(-1, -2), "last two axes exchanged"),
        (lambda a: 0.0 * a, "is 0 times"),
        (lambda a: a + 0.1 * np.sin(7.0 * a), None),
        (lambda a: a * np.nan, None),
        (lambda a: a[..., :2], None),
        (lambda a: a[:0], None),
    ],
)
def test_an_unknown_deviation_gives_a_hint(change, hint):
    ours = traced("plain")
    found = diagnose(ours, dict(ours) | {SCORES: change(ours[SCORES])}, SCORES)
    assert not found.findings
    none, *hints = found.remarks
    assert "known mistakes" in none
    assert SCORES in none
    assert len(hints) == (hint is not None)
    assert hint is None or hint in hints[0]


@pytest.mark.parametrize("case", ["mask 2-D, padded", "decoder"])
def test_scores_that_a_mask_hides_do_not_count(case):
    ours, scores = traced(case), traced(case)[SCORES]
    visible = np.broadcast_to(visible_entries(ours, SCORES, scores.shape), scores.shape)
    hidden = dict(ours) | {SCORES: np.where(visible, scores, -1e30)}
    assert "right for their own inputs" in diagnose(ours, hidden, SCORES).remarks[0]
    seen = dict(ours) | {SCORES: np.where(visible, 1.37 * scores, scores)}
    assert "1.37 times" in diagnose(ours, seen, SCORES).remarks[1]


@pytest.mark.parametrize("other", [CONTEXT, "encoder.layer.0.attention.output.dense"])
def test_other_arrays_of_another_shape_do_no_harm(other):
    """The arrays that distinguish two mistakes may have other shapes."""
    ours, theirs = traced("plain"), dict(mistake_in("plain", "zero_table"))
    theirs[other] = theirs[other].reshape(-1, 4)
    assert "zero_table" in named_mistakes(ours, theirs, SCORES)


def test_inputs_of_another_shape_give_a_remark():
    ours, query = traced("plain"), "encoder.layer.0.attention.self.query"
    found = diagnose(ours, dict(ours) | {query: ours[query][..., :3]}, SCORES)
    assert not found.findings
    assert "shapes" in found.remarks[0]


def test_without_a_configuration_or_parameters_there_is_a_remark(tmp_path):
    ours, theirs = traced("plain"), mistake_in("plain", "no_scale")
    found = diagnose(dict(ours), theirs, SCORES)
    assert (found.findings, len(found.remarks)) == ((), 1)
    assert "configuration" in found.remarks[0]
    ours.save(tmp_path / "a.safetensors", parameters=False)
    bare = crosscheck.open_trace(tmp_path / "a.safetensors")
    key = "encoder.layer.0.attention.self.key"
    found = diagnose(bare, theirs | {key: theirs[key] + 1.0}, key)
    assert not found.findings
    assert "our side lacks 'encoder.layer.0.attention.self.key.weight'" in found.remarks[0]
    assert named_mistakes(bare, theirs, SCORES) == ["no_scale"], "scores read no parameters"


def test_the_time_is_kept():
    ours, theirs = traced("plain"), mistake_in("plain", "no_scale")
    found = diagnose(ours, theirs, SCORES, seconds=-1.0)
    assert not found.findings
    assert found.remarks[0].startswith("0 of ")
    assert not any("in the time" in r for r in diagnose(ours, theirs, SCORES).remarks)
