"""Labelled and ignored entries, their loss, and the gradients of that loss."""

import numpy as np
import pytest

from minizha import (
    MinizhaError,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
)
from minizha.backend import to_host
from minizha.model.pretraining import ItemsInBatch
from tests.support.assertions import assert_close, assert_equal
from tests.support.running import backward, fields, on_host, recorded, run
from tests.support.strategies import cases, holds_for

HEADED = (NezhaForPreTraining, NezhaForMaskedLM, NezhaForNextSentencePrediction)
LOGITS = {
    NezhaForPreTraining: {
        "labels": "prediction_logits",
        "next_sentence_label": "seq_relationship_logits",
    },
    NezhaForMaskedLM: {"labels": "logits"},
    NezhaForNextSentencePrediction: {"labels": "logits"},
}
WORDS = "∂nezha.embeddings.word_embeddings.weight"


def headed(case):
    return case.pick("class", HEADED)


def set_up(case, backend, model_class=None):
    model_class = model_class or headed(case)
    return model_class, case.model(model_class, backend), case.inputs(), case.labels(model_class)


def loss_by_hand(logits, labels):
    """The mean of −log softmax at the labels that are not −100, and its slope; 0 if there is none."""
    rows, labels = logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)
    slope, losses = np.zeros_like(rows), []
    for t in np.flatnonzero(labels != -100):
        probs = np.exp(rows[t] - rows[t].max())
        probs = probs / probs.sum()
        losses.append(-np.log(probs[labels[t]]))
        slope[t] = probs
        slope[t, labels[t]] -= 1.0
    count = max(len(losses), 1)
    return sum(losses) / count, (slope / count).reshape(logits.shape)


@holds_for(cases())
def test_the_loss_is_that_computed_by_hand_from_the_logits(case, backend):
    model_class, model, inputs, labels = set_up(case, backend)
    out = model(**inputs, **labels)
    by_hand = [
        loss_by_hand(to_host(out[field]), labels[name])[0]
        for name, field in LOGITS[model_class].items()
    ]
    assert out.loss.shape == ()
    assert_close(to_host(out.loss), np.asarray(sum(by_hand)))


@holds_for(cases())
def test_the_gradient_of_the_loss_is_that_of_all_logits_by_hand(case, backend):
    """For the loss, only labelled rows are multiplied with the vocabulary; here all are."""
    model_class, model, inputs, labels = set_up(case, backend)
    out = recorded(model, inputs | labels)
    from_loss = backward(model, out)
    slopes = {
        field: loss_by_hand(to_host(out[field]), labels[name])[1]
        for name, field in LOGITS[model_class].items()
    }
    assert_close(from_loss, backward(model, out, slopes))


@holds_for(cases())
def test_both_losses_and_their_gradients_add_up(case, backend):
    _, model, inputs, labels = set_up(case, backend, NezhaForPreTraining)
    both = run(model, inputs | labels)
    each = [run(model, inputs | {name: array}) for name, array in labels.items()]
    names = [name for name in both if name == "loss" or name.startswith("∂")]
    added = {name: each[0][name] + each[1][name] for name in names}
    assert_close({name: both[name] for name in names}, added)


@holds_for(cases())
def test_where_every_label_is_ignored_loss_and_gradients_are_0(case, backend):
    _, model, inputs, labels = set_up(case, backend)
    found = run(model, inputs | {name: np.full_like(a, -100) for name, a in labels.items()})
    for name, array in found.items():
        if name == "loss" or name.startswith("∂"):
            assert (array == 0).all(), name


@holds_for(cases())
def test_an_example_without_labels_changes_neither_loss_nor_gradients(case, backend):
    _, model, inputs, labels = set_up(case, backend)
    rng, place = case.rng("silent"), case.pick("place", range(case.B + 1))

    def with_silent_row(name, array):
        if name == "head_mask":
            return array
        new = np.full(array.shape[1:], -100) if name in labels else rng.permutation(array[0])
        return np.insert(array, place, new, axis=0)

    more = {name: with_silent_row(name, array) for name, array in (inputs | labels).items()}
    before, after = run(model, inputs | labels), run(model, more)
    names = [name for name in before if name == "loss" or name.startswith("∂")]
    assert_close({n: after[n] for n in names}, {n: before[n] for n in names})


@holds_for(cases(batches=range(2, 5)))
def test_parts_of_a_batch_add_up_where_they_know_the_counts_of_the_whole(case, backend):
    _, model, inputs, labels = set_up(case, backend, NezhaForPreTraining)
    whole = run(model, inputs | labels)
    counts = ItemsInBatch(*(int((array != -100).sum()) for array in labels.values()))
    loss, cut = 0.0, case.pick("cut", range(1, case.B))
    model.zero_grad()
    for rows in (slice(0, cut), slice(cut, None)):
        part = {n: a if n == "head_mask" else a[rows] for n, a in (inputs | labels).items()}
        out = model(**part, num_items_in_batch=counts)
        loss = loss + to_host(out.loss)
        out.backward()
    gradients = {f"∂{name}": array for name, array in on_host(model.gradients()).items()}
    assert_close({"loss": loss} | gradients, {n: whole[n] for n in ("loss", *gradients)})


@holds_for(cases(lengths=range(2, 8)))
def test_a_position_without_label_gives_its_logits_no_gradient(case, backend):
    """Its own token still matters, through attention; its prediction does not."""
    _, model, inputs, labels = set_up(case, backend, NezhaForMaskedLM)
    at = case.rng("place").integers(0, case.L)
    labels["labels"][:] = -100
    labels["labels"][:, at] = 0
    out = recorded(model, inputs | labels)
    out_of_loss = backward(model, out)
    slope = np.zeros(out.logits.shape)
    slope[:, at] = loss_by_hand(to_host(out.logits)[:, at], labels["labels"][:, at])[1]
    assert_close(out_of_loss, backward(model, out, {"logits": slope}))


@holds_for(cases())
def test_reading_the_logits_changes_no_gradient(case, backend):
    _, model, inputs, labels = set_up(case, backend, NezhaForPreTraining)
    unread = backward(model, model(**inputs, **labels))
    out = model(**inputs, **labels)
    first = to_host(out.prediction_logits)
    assert_equal(backward(model, out), unread)
    assert_equal(to_host(out.prediction_logits), first)


@holds_for(cases())
def test_logits_read_late_are_those_of_the_forward_pass(case, backend):
    """As after a step of an optimizer, which changes the parameters but not the output."""
    model_class, model, inputs, labels = set_up(case, backend)
    names = LOGITS[model_class].values()
    before, out = model(**inputs, **labels), model(**inputs, **labels)
    expected = {name: to_host(before[name]) for name in names}
    moved = {name: to_host(array) + 1.0 for name, array in model.state_dict().items()}
    model.load_state_dict(moved)
    assert_equal({name: to_host(out[name]) for name in names}, expected)


@holds_for(cases())
def test_gradients_taken_late_are_those_of_the_forward_pass(case, backend):
    _, model, inputs, labels = set_up(case, backend)
    expected = backward(model, model(**inputs, **labels))
    out = model(**inputs, **labels)
    model.load_state_dict({n: to_host(a) + 1.0 for n, a in model.state_dict().items()})
    assert_equal(backward(model, out), expected)


@holds_for(cases())
def test_backward_is_linear(case, backend):
    _, model, inputs, labels = set_up(case, backend)
    out = recorded(model, inputs | labels)
    a, b = case.rng("numbers").uniform(-2.0, 2.0, 2)
    field = "logits" if "logits" in out else "prediction_logits"
    slope = case.rng("slope").standard_normal(out[field].shape)
    from_loss, from_logits = backward(model, out), backward(model, out, {field: slope})
    mixed = backward(model, out, {"loss": a, field: b * slope})
    expected = {name: a * from_loss[name] + b * from_logits[name] for name in from_loss}
    assert_close(mixed, expected)


@holds_for(cases())
def test_without_a_record_the_outputs_are_the_same_and_there_is_no_way_back(case, backend):
    _, model, inputs, labels = set_up(case, backend)
    options = {"output_hidden_states": True, "output_attentions": True}
    kept = run(model, inputs | labels)
    out = model(**inputs, **labels, **options, record=False)
    assert out.record is None
    with pytest.raises(MinizhaError, match="nothing was recorded"):
        out.backward()
    outputs = {name: array for name, array in kept.items() if not name.startswith("∂")}
    assert_equal(fields(out), outputs)


@holds_for(cases(tie_word_embeddings=True))
def test_a_tied_gradient_is_the_sum_of_the_two_untied_ones(case, backend):
    _, tied, inputs, labels = set_up(case, backend, NezhaForPreTraining)
    untied = NezhaForPreTraining(
        case.config.replace(tie_word_embeddings=False), dtype="float64", backend=backend
    )
    arrays = tied.state_dict()
    decoder = "cls.predictions.decoder.weight"
    untied.load_state_dict(arrays | {decoder: arrays[WORDS.removeprefix("∂")]})
    expected = run(untied, inputs | labels)
    expected[WORDS] = expected[WORDS] + expected.pop(f"∂{decoder}")
    assert_close(run(tied, inputs | labels), expected)


@holds_for(cases(tie_word_embeddings=False))
def test_gradients_that_are_0_in_theory(case, backend):
    """Key biases (softmax ignores a shift), the sum over the vocabulary, rows that no id read
    and the padding row; the last two exactly."""
    _, model, inputs, labels = set_up(case, backend, NezhaForPreTraining)
    found = run(model, inputs | labels)
    for i in range(case.config.num_hidden_layers):
        key_bias = found[f"∂nezha.encoder.layer.{i}.attention.self.key.bias"]
        assert np.abs(key_bias).max() <= 1e-12
    assert abs(found["∂cls.predictions.bias"].sum()) <= 1e-13
    assert abs(found["∂cls.seq_relationship.bias"].sum()) <= 1e-13
    unread = np.setdiff1d(np.arange(case.config.vocab_size), inputs["input_ids"])
    if case.config.pad_token_id is not None:
        unread = np.append(unread, case.config.pad_token_id)
    assert (found[WORDS][unread] == 0).all()
