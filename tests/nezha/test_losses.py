"""The losses of the four heads against their formulas, for labels of every form."""

from dataclasses import replace

import numpy as np
import pytest

import minizha
from minizha.backend import to_host
from minizha.ops.cross_entropy import IGNORED
from tests.support.assertions import assert_close
from tests.support.tiny_heads import (
    ANSWER,
    CHOICE,
    FIELDS,
    PLAIN,
    SEQUENCE,
    TOKENS,
    TinyHead,
    loss_of,
    mean_nll,
)


@pytest.fixture(params=PLAIN)
def head(request):
    return PLAIN[request.param]


# --- the loss of one or several labels, and of numbers --------------------------------------------


def sequence(problem_type, num_labels):
    return TinyHead(SEQUENCE, "single", {"problem_type": problem_type, "num_labels": num_labels})


@pytest.mark.parametrize("problem", [None, "single_label_classification"])
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", list])
def test_a_single_label_where_labels_are_integers(problem, dtype, backend):
    labels = [2, 0, 1] if dtype is list else np.asarray([2, 0, 1], dtype=dtype)
    loss, logits = loss_of(sequence(problem, 3), backend, labels=labels)
    assert_close(loss, mean_nll(logits, [2, 0, 1]))


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", list])
def test_several_labels_where_labels_are_floats(problem, dtype, backend):
    targets = np.asarray([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.25, 0.5]])
    labels = targets.tolist() if dtype is list else targets.astype(dtype)
    loss, logits = loss_of(sequence(problem, 3), backend, labels=labels)
    p = 1.0 / (1.0 + np.exp(-logits))
    assert_close(loss, -(targets * np.log(p) + (1.0 - targets) * np.log(1.0 - p)).mean())


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_several_labels_may_be_integers_where_the_problem_is_named(dtype, backend):
    targets = np.asarray([[1, 0, 1], [0, 0, 0], [1, 1, 0]])
    head = sequence("multi_label_classification", 3)
    found, _ = loss_of(head, backend, labels=targets.astype(dtype))
    assert found == loss_of(head, backend, labels=targets.astype(float))[0]


@pytest.mark.parametrize("problem", [None, "regression"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
@pytest.mark.parametrize("dtype", ["float64", "int64", list])
def test_one_number_is_a_regression(problem, shape, dtype, backend):
    """For labels (B,) and (B, 1): neither is broadcast against the logits."""
    targets = np.asarray([2.0, -1.0, 4.0]).reshape(shape)
    labels = targets.tolist() if dtype is list else targets.astype(dtype)
    loss, logits = loss_of(sequence(problem, 1), backend, labels=labels)
    assert_close(
        loss, np.mean([(z - y) ** 2 for z, y in zip(logits[:, 0], targets.flat, strict=True)])
    )
    broadcast = ((logits - targets.reshape(1, 3)) ** 2).mean()
    assert abs(loss - broadcast) > 0.1, "the mistake would not show"


def test_several_numbers_are_a_regression_where_the_problem_is_named(backend):
    targets = np.random.default_rng(0).standard_normal((3, 3))
    loss, logits = loss_of(sequence("regression", 3), backend, labels=targets)
    assert_close(loss, ((logits - targets) ** 2).mean())
    # without problem_type, floats have to be probabilities
    with pytest.raises(minizha.MinizhaError, match=r"labels: expected numbers in \[0, 1\]"):
        loss_of(sequence(None, 3), backend, labels=targets)


@pytest.mark.parametrize("problem", ["single_label_classification", "multi_label_classification"])
def test_a_problem_that_is_named_wins_over_what_labels_look_like(problem, backend):
    """With one column and no problem_type, both would be a regression."""
    single = problem.startswith("single")
    labels = np.zeros(3, int) if single else np.ones((3, 1))
    loss, logits = loss_of(sequence(problem, 1), backend, labels=labels)
    assert_close(loss, 0.0 if single else np.log(1.0 + np.exp(-logits)).mean())


def test_the_first_call_does_not_settle_the_problem(backend):
    """Transformers sets problem_type by the first labels, and accepts no others afterwards."""
    model = sequence(None, 3).model(backend)
    ids = PLAIN[SEQUENCE].inputs()["input_ids"]
    before = model.config
    first = float(model(ids, labels=[0, 1, 2]).loss)
    model(ids, labels=np.ones((3, 3)))
    assert float(model(ids, labels=[0, 1, 2]).loss) == first
    assert model.config is before
    assert model.config.problem_type is None


# --- tokens, choices, answers ---------------------------------------------------------------------


def test_tokens(backend):
    labels = [[0, 2, IGNORED, 1], [IGNORED] * 4, [1, 1, 0, IGNORED]]
    loss, logits = loss_of(PLAIN[TOKENS], backend, labels=labels)
    assert_close(loss, mean_nll(logits.reshape(12, 3), np.ravel(labels)))


def test_choices(backend):
    loss, logits = loss_of(PLAIN[CHOICE], backend, labels=[4, 2])
    assert_close(loss, mean_nll(logits, [4, 2]))


def test_each_choice_is_read_alone(backend):
    head = PLAIN[CHOICE]
    model, ids = head.model(backend), head.inputs()["input_ids"]
    together = to_host(model(ids).logits)
    for c in range(5):
        assert_close(model(ids[:, c : c + 1]).logits, together[:, c : c + 1])


def test_nested_lists_of_choices(backend):
    head = replace(PLAIN[CHOICE], types=True, mask=True)
    model, inputs = head.model(backend), head.inputs()
    expected = model(**inputs)
    found = model(**{name: a.tolist() for name, a in inputs.items()})
    assert float(found.loss) == float(expected.loss)
    np.testing.assert_array_equal(to_host(found.logits), to_host(expected.logits))


@pytest.mark.parametrize("embeds", [False, True])
def test_arrays_of_any_layout(head, embeds, backend):
    """Some of them fail in Transformers, whose ``view`` of choices needs contiguous arrays."""
    head = replace(head, embeds=embeds, types=True, mask=True)
    model, inputs = head.model(backend), head.inputs()
    expected = model(**inputs)
    layouts = (
        lambda a: a.T.copy().T,
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
        lambda a: np.broadcast_to(a, (2, *a.shape))[1],
    )
    for layout in layouts:
        found = model(**{name: layout(a) for name, a in inputs.items()})
        for name in ("loss", *FIELDS[head.class_name]):
            assert_close(found[name], to_host(expected[name]))


def test_the_gradient_of_embeds_has_their_shape(head, backend):
    head = replace(head, embeds=True)
    model, inputs = head.model(backend), head.inputs()
    d = model(**inputs).backward()["inputs_embeds"]
    assert d.shape == inputs["inputs_embeds"].shape == (*head.shape, 4)
    assert isinstance(d, model.xp.ndarray)


def answer(model, ids, start, end):
    return float(model(ids, start_positions=start, end_positions=end).loss)


def test_an_answer_is_the_mean_of_two_cross_entropies(backend):
    head = PLAIN[ANSWER]
    model, ids = head.model(backend), head.inputs()["input_ids"]
    out = model(ids)
    start, end = (to_host(out[name]) for name in FIELDS[ANSWER])
    expected = (mean_nll(start, [0, 3, 1]) + mean_nll(end, [2, 2, 3])) / 2
    assert_close(answer(model, ids, [0, 3, 1], [2, 2, 3]), expected)


@pytest.mark.parametrize("outside", [4, 5, 1000, -1, -7, IGNORED])
def test_a_position_outside_of_the_text_is_not_taken_into_account(outside, backend):
    head = PLAIN[ANSWER]
    model, ids = head.model(backend), head.inputs()["input_ids"]
    out = model(ids)
    start, end = (to_host(out[name]) for name in FIELDS[ANSWER])
    left = mean_nll(start[:2], [0, 3])
    assert_close(
        answer(model, ids, [0, 3, outside], [2, 2, 3]), (left + mean_nll(end, [2, 2, 3])) / 2
    )
    # with all starts ignored, the ends alone count
    assert_close(answer(model, ids, [outside] * 3, [2, 2, 3]), mean_nll(end, [2, 2, 3]) / 2)
