"""``num_items_in_batch``: the losses and gradients of parts add up to those of the batch."""

import math

import numpy as np
import pytest

from minizha import crosscheck
from minizha.backend import to_host
from minizha.errors import ArgumentError
from minizha.model.pretraining import ItemsInBatch
from tests.support.assertions import assert_close
from tests.support.eight_models import (
    CLASS_NAMES,
    LABELS,
    B,
    L,
    inputs_and_labels_of,
    inputs_of,
    perturbed,
)
from tests.support.running import on_host

PRETRAINING = "NezhaForPreTraining"
SEQUENCE = "NezhaForSequenceClassification"
WITH_LOSS = [name for name in CLASS_NAMES if name not in ("NezhaModel", PRETRAINING)]
REGRESSION, SEVERAL = "regression", "multi_label_classification"
CASES = [(name, None) for name in WITH_LOSS] + [(SEQUENCE, REGRESSION), (SEQUENCE, SEVERAL)]
PARTS = (slice(0, 1), slice(1, B))
IGNORED = -100


@pytest.fixture(params=CASES, ids=lambda case: case[0] + (f"-{case[1]}" if case[1] else ""))
def case(request):
    return request.param


def model_and_inputs(case, backend):
    """The model, the inputs of its call, and how many labels these have."""
    name, problem = case
    model = perturbed(name, backend, problem_type=problem)
    inputs = inputs_and_labels_of(name)
    if problem is not None:
        rng = np.random.default_rng(8)
        inputs["labels"] = rng.random((B, LABELS))
        return model, inputs, B * LABELS
    if "labels" not in inputs:  # start and end positions
        return model, inputs, B
    if inputs["labels"].ndim == 2:
        inputs["labels"][0, : L - 2] = IGNORED  # parts of different numbers
    return model, inputs, int((inputs["labels"] != IGNORED).sum())


def run(model, calls):
    """The sum of the losses, and the gradients, of several calls."""
    model.zero_grad()
    losses = []
    for call in calls:
        out = model(**call)
        out.backward()
        losses.append(float(to_host(out.loss)))
    return {"loss": np.asarray(sum(losses))} | on_host(model.gradients())


def in_parts(inputs):
    return [{name: array[rows] for name, array in inputs.items()} for rows in PARTS]


def test_parts_of_a_batch_add_up_in_every_class(case, backend):
    model, inputs, count = model_and_inputs(case, backend)
    whole = run(model, [inputs])
    parts = [part | {"num_items_in_batch": count} for part in in_parts(inputs)]
    assert_close(run(model, parts), whole)
    # the control: with means of their own, parts add up to something else
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(run(model, in_parts(inputs)), whole)


def test_it_divides_the_sum(case, backend):
    """The mean is the sum divided by the number of labels; another divisor scales loss and gradients."""
    model, inputs, count = model_and_inputs(case, backend)
    mean = run(model, [inputs])
    for items in (count, 1, 1000, np.int32(7), np.array(5)):
        found = run(model, [inputs | {"num_items_in_batch": items}])
        assert_close(found, {name: a * (count / int(items)) for name, a in mean.items()})
    assert_close(run(model, [inputs | {"num_items_in_batch": None}]), mean, 0.0)


def test_it_is_differentiated(case, backend):
    model, inputs, _ = model_and_inputs(case, backend)
    assert crosscheck.gradcheck(model, inputs | {"num_items_in_batch": 4}, entries=1).ok


def test_both_sums_of_pretraining(backend):
    model, inputs = perturbed(PRETRAINING, backend), inputs_and_labels_of(PRETRAINING)
    inputs["labels"][0, : L - 2] = IGNORED
    items = ItemsInBatch(int((inputs["labels"] != IGNORED).sum()), B)
    parts = [part | {"num_items_in_batch": items} for part in in_parts(inputs)]
    assert_close(run(model, parts), run(model, [inputs]))


def test_without_labels_it_says_nothing(backend):
    for name in WITH_LOSS:
        out = perturbed(name, backend)(**inputs_of(name), num_items_in_batch=3)
        assert "loss" not in out


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", True, [3], math.nan, ItemsInBatch(3)])
def test_a_number_that_is_none_is_refused(value, case, backend):
    model, inputs, _ = model_and_inputs(case, backend)
    text = r"^num_items_in_batch: expected an integer of at least 1 or None, found "
    with pytest.raises(ArgumentError, match=text):
        model(**inputs, num_items_in_batch=value)
