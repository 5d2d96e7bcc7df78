"""The four heads of fine-tuning: fields and shapes of the documentation, dropout, all labels ignored.

Their losses and gradients are tested in tests/nezha, their errors in test_bad_labels.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from minizha import NezhaModel
from minizha.backend import to_host
from minizha.ops.cross_entropy import IGNORED
from tests.support.assertions import assert_close
from tests.support.tiny_heads import ANSWER, CHOICE, FIELDS, HEADS, PLAIN, SEQUENCE, TOKENS


@pytest.fixture(params=PLAIN)
def head(request):
    return PLAIN[request.param]


# --- fields and shapes ----------------------------------------------------------------------------


def test_fields_and_shapes(head, backend):
    model, inputs = head.model(backend, "float32"), head.inputs()
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert list(out.keys()) == ["loss", *FIELDS[head.class_name], "hidden_states", "attentions"]
    B, L, D, N = head.B, head.L, 4, 2
    columns = {SEQUENCE: (B, 3), CHOICE: (B, 5), TOKENS: (B, L, 3), ANSWER: (B, L)}[head.class_name]
    assert out.loss.shape == ()
    assert {tuple(out[name].shape) for name in FIELDS[head.class_name]} == {columns}
    rows = B * head.choices if head.choices else B
    assert [h.shape for h in out.hidden_states] == [(rows, L, D)] * 2
    assert [a.shape for a in out.attentions] == [(rows, N, L, L)]
    assert {str(out[name].dtype) for name in ("loss", *FIELDS[head.class_name])} == {"float32"}
    name = head.class_name.removeprefix("NezhaFor").replace("Classification", "Classifier")
    assert type(out).__name__ == f"{name}Output"


def test_without_labels_there_is_no_loss(head, backend):
    model = head.model(backend)
    out = model(**replace(head, label_type=None).inputs())
    assert list(out.keys()) == FIELDS[head.class_name]
    assert out.loss is None
    assert out.record is None
    labelled = model(**head.inputs())
    assert labelled.record is not None
    for name in FIELDS[head.class_name]:
        np.testing.assert_array_equal(to_host(out[name]), to_host(labelled[name]))


def test_the_logits_are_a_matrix_times_what_the_bare_model_says(head, backend):
    model, inputs = head.model(backend), replace(head, label_type=None).inputs()
    body = NezhaModel(
        model.config,
        dtype="float64",
        backend=backend,
        add_pooling_layer=head.class_name in (SEQUENCE, CHOICE),
    )
    arrays = {n: a for n, a in model.state_dict().items() if n.startswith("nezha.")}
    body.load_state_dict(arrays)
    if head.choices:
        inputs = {name: a.reshape(-1, *a.shape[2:]) for name, a in inputs.items()}
    out, found = body(**inputs), model(**replace(head, label_type=None).inputs())
    vectors = to_host(out.last_hidden_state if out.pooler_output is None else out.pooler_output)
    (weight, bias) = (to_host(a) for n, a in model.state_dict().items() if n not in arrays)
    expected = vectors @ weight.T + bias
    if head.class_name == ANSWER:
        assert_close(found.start_logits, expected[..., 0])
        assert_close(found.end_logits, expected[..., 1])
    else:
        assert_close(found.logits, expected.reshape(found.logits.shape))


def test_parameters_and_their_names(head, backend):
    own = {n: a.shape for n, a in head.model(backend).state_dict().items() if "nezha." not in n}
    name = "qa_outputs" if head.class_name == ANSWER else "classifier"
    columns = {CHOICE: 1, ANSWER: 2}.get(head.class_name, 3)
    assert own == {f"{name}.weight": (columns, 4), f"{name}.bias": (columns,)}
    pooler = "nezha.pooler.dense.weight" in head.model(backend).state_dict()
    assert pooler is (head.class_name in (SEQUENCE, CHOICE))


@pytest.mark.parametrize("labels", [1, 2, 7])
def test_an_answer_has_two_columns_whatever_num_labels_says(labels, backend):
    head = replace(PLAIN[ANSWER], config={"num_labels": labels})
    assert head.model(backend).state_dict()["qa_outputs.weight"].shape == (2, 4)
    assert head.model(backend)(**head.inputs()).end_logits.shape == (3, 4)


def test_an_unknown_keyword_is_pythons_own_error(head, backend):
    model, inputs = head.model(backend), head.inputs()
    for name in ("label", "next_sentence_label", "position_ids", "use_cache"):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            model(**inputs, **{name: None})


# --- nothing labelled, nothing printed ------------------------------------------------------------


ALL_IGNORED = {
    SEQUENCE: {"labels": [IGNORED] * 3},
    CHOICE: {"labels": [IGNORED] * 2},
    TOKENS: {"labels": [[IGNORED] * 4] * 3},
    ANSWER: {"start_positions": [4, -1, 99], "end_positions": [-2, 5, IGNORED]},
}


def test_where_nothing_is_asked_the_loss_is_0_and_so_is_the_gradient(head, backend):
    model = head.model(backend)
    out = model(**(head.inputs() | ALL_IGNORED[head.class_name]))
    assert float(out.loss) == 0.0
    out.backward()
    assert all((to_host(d) == 0).all() for d in model.gradients().values())


def test_nothing_is_printed(head, backend, capfd):
    model, inputs = head.model(backend).train(), head.inputs()
    model(**inputs).backward()
    model.eval()(**inputs)
    assert capfd.readouterr() == ("", "")


# --- dropout before the classifier ----------------------------------------------------------------


@pytest.mark.parametrize(("rate", "expected"), [(0.75, 0.75), (None, 0.5), (0.0, 0.0)])
@pytest.mark.parametrize("class_name", [SEQUENCE, CHOICE, TOKENS])
def test_the_rate_of_the_classifiers_dropout(class_name, rate, expected, backend):
    """``classifier_dropout``, or where that is None ``hidden_dropout_prob``."""
    config = {"classifier_dropout": rate, "hidden_dropout_prob": 0.5, "hidden_size": 16}
    head = replace(PLAIN[class_name], config=config)
    model, inputs = head.model(backend), head.inputs()
    assert model(**inputs).record.tasks[0].classifier.dropout.factor is None
    factor = model.train(seed=1)(**inputs).record.tasks[0].classifier.dropout.factor
    if expected == 0.0:
        assert factor is None
    else:
        assert set(np.unique(to_host(factor))) == {0.0, 1.0 / (1.0 - expected)}
        rows = {SEQUENCE: (3,), CHOICE: (10,), TOKENS: (3, 4)}[class_name]
        assert factor.shape == (*rows, 16)


def test_an_answer_has_no_dropout_of_its_own(backend):
    """Nor have the heads of pre-training."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    head = replace(PLAIN[ANSWER], config=still | {"classifier_dropout": 0.9})
    model, inputs = head.model(backend), head.inputs()
    expected = to_host(model(**inputs).start_logits)
    np.testing.assert_array_equal(to_host(model.train()(**inputs).start_logits), expected)


@pytest.mark.parametrize("name", ["single label", "multi label", "regression of one", "answer"])
def test_a_head_learns(name, backend):
    """A gradient step lowers the loss."""
    head = HEADS[name]
    model, inputs = head.model(backend), head.inputs()
    out = model(**inputs)
    out.backward()
    gradients = model.gradients()
    model.load_state_dict({n: p - 1e-3 * gradients[n] for n, p in model.state_dict().items()})
    size = sum((to_host(d) ** 2).sum() for d in gradients.values())
    lower = float(out.loss) - float(model(**inputs).loss)
    assert 0.5e-3 * size < lower < 1.5e-3 * size
