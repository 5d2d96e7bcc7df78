"""``logits_for``: the logits of chosen tokens, their gradients, and what is refused."""

import numpy as np
import pytest

from minizha import MinizhaError, NezhaForMaskedLM, NezhaForPreTraining, crosscheck
from minizha.backend import to_host
from minizha.errors import ArgumentError
from minizha.nezha import losses
from tests.support.assertions import assert_close
from tests.support.tiny_models import SMALL

FIELDS = {NezhaForMaskedLM: "logits", NezhaForPreTraining: "prediction_logits"}
IDS = np.array([[2, 5, 4, 3], [2, 4, 4, 3]])
CHOSEN = IDS == 4
LABELS = np.where([[0, 1, 0, 0], [0, 0, 1, 0]], IDS, -100)  # one chosen, one not


@pytest.mark.parametrize("model_class", FIELDS)
@pytest.mark.parametrize("labels", [None, LABELS])
def test_they_are_rows_of_all_logits_and_have_their_gradients(model_class, labels, backend):
    field = FIELDS[model_class]
    model = model_class(SMALL, dtype="float64", backend=backend)
    whole, part = (
        model(IDS, labels=labels, record=True, logits_for=chosen) for chosen in (None, CHOSEN)
    )
    logits = to_host(part[field])
    assert logits.shape == (3, SMALL.vocab_size)
    assert_close(logits, to_host(whole[field])[CHOSEN])
    d = np.random.default_rng(0).standard_normal(logits.shape)
    of_all = np.zeros(whole[field].shape)
    of_all[CHOSEN] = d
    found = []
    for out, upstream in ((whole, of_all), (part, d)):
        model.zero_grad()
        out.backward(**{field: upstream}, **({} if labels is None else {"loss": 2.0}))
        found.append(model.gradients())
    for name, expected in found[0].items():
        assert_close(found[1][name], to_host(expected))
    assert labels is None or part.loss == whole.loss


def test_no_token_has_no_logits(backend):
    model = NezhaForMaskedLM(SMALL, backend=backend)
    out = model(IDS, logits_for=np.zeros(IDS.shape, bool), return_dict=False)
    assert out[0].shape == (0, SMALL.vocab_size)


def test_the_other_logits_are_not_computed(monkeypatch):
    rows, model = [], NezhaForMaskedLM(SMALL)
    predictions = losses.predictions
    monkeypatch.setattr(
        losses, "predictions", lambda p, c, x: rows.append(x.shape) or predictions(p, c, x)
    )
    model(IDS, logits_for=CHOSEN.tolist()).logits  # noqa: B018
    model(IDS).logits  # noqa: B018
    D = SMALL.hidden_size
    assert rows == [(3, D), (2, 4, D)]


@pytest.mark.parametrize("model_class", FIELDS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (IDS, "expected True or False for each token, found int64"),
        ([0, 1], "expected True or False for each token, found int64"),
        ("all", "logits_for: "),
        (True, r"expected shape \(2, 4\), found \(\)"),
        (CHOSEN[:1], r"expected shape \(2, 4\), found \(1, 4\)"),
        (CHOSEN[0], r"expected shape \(2, 4\), found \(4,\)"),
    ],
)
def test_what_is_refused(model_class, wrong, message):
    with pytest.raises(ArgumentError, match=message):
        model_class(SMALL)(IDS, logits_for=wrong)


def test_a_trace_has_all_logits():
    with pytest.raises(MinizhaError, match="trace: inputs: logits_for: expected None"):
        crosscheck.trace(NezhaForMaskedLM(SMALL), {"input_ids": IDS, "logits_for": CHOSEN})
