"""What the documentation says about gradients of models: exact facts, and how they add up."""

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.model.pretraining import ItemsInBatch
from minizha.nezha import losses
from minizha.ops.cross_entropy import IGNORED, cross_entropy_backward
from tests.support.assertions import assert_close
from tests.support.tiny_models import TINY, UNTIED, Tiny, gradients_of, host_gradients

WORDS = "nezha.embeddings.word_embeddings.weight"


# --- exact facts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain", "two layers", "mask 3-D", "head mask by layers", "dropout"]
)
def test_key_biases_have_gradient_0(name, backend):
    """A key bias adds the same number to all scores of a query (the relative term has no key), and
    softmax ignores a shift."""
    found = gradients_of(TINY[name], backend)
    biases = [d for parameter, d in found.items() if parameter.endswith("key.bias")]
    assert biases
    assert max(np.abs(d).max() for d in biases) <= 1e-15


@pytest.mark.parametrize("name", ["plain", "labels partly ignored", "dropout"])
def test_dlogits_sum_to_0_over_the_vocabulary(name, backend, monkeypatch):
    seen = []

    def watched(dloss, cache):
        seen.append(cross_entropy_backward(dloss, cache))
        return seen[-1]

    monkeypatch.setattr(losses, "cross_entropy_backward", watched)  # the loss of words
    single = "single_label_classification"  # the loss of pairs
    pair = losses.LOSSES[single]._replace(backward=watched)
    monkeypatch.setitem(losses.LOSSES, single, pair)
    found = gradients_of(TINY[name], backend)
    assert len(seen) == 2
    for dlogits in seen:
        assert np.abs(to_host(dlogits).sum(axis=-1)).max() <= 1e-15
        assert np.abs(to_host(dlogits)).max() > 1e-3
    # and therefore so do the biases that are added to the logits
    for bias in ("cls.predictions.bias", "cls.seq_relationship.bias"):
        assert abs(found[bias].sum()) <= 1e-15


def test_rows_of_unused_words_are_exactly_0_where_the_decoder_is_untied(backend):
    tiny = TINY["untied"]
    used = set(tiny.inputs()["input_ids"].ravel().tolist())
    words = gradients_of(tiny, backend)[WORDS]
    for row, d in enumerate(words):
        assert (d == 0.0).all() == (row not in used)


def test_with_a_tied_decoder_every_row_learns(backend):
    assert (np.abs(gradients_of(TINY["plain"], backend)[WORDS]).max(axis=-1) > 0.0).all()


def test_rows_of_unused_token_types_are_exactly_0(backend):
    tiny = Tiny(config={"type_vocab_size": 3})  # no token types given: all are 0
    found = gradients_of(tiny, backend)["nezha.embeddings.token_type_embeddings.weight"]
    assert (found[1:] == 0.0).all()
    assert (found[0] != 0.0).all()


def test_the_padding_row_learns_nothing_from_the_lookup(backend):
    assert (gradients_of(Tiny(config=UNTIED, pad=True), backend)[WORDS][0] == 0.0).all()


def test_the_padding_row_learns_from_the_tied_decoder(backend):
    """Its gradient is that of the row of an untied decoder with the same numbers."""
    tied, untied = Tiny(pad=True), Tiny(pad=True, config=UNTIED)
    model, with_decoder = tied.model(backend), untied.model(backend)
    arrays = {name: to_host(array) for name, array in model.state_dict().items()}
    with_decoder.load_state_dict(arrays | {"cls.predictions.decoder.weight": arrays[WORDS]})
    for m in (model, with_decoder):
        m(**tied.inputs()).backward()
    words, decoder = (
        to_host(m.gradients()[name])
        for m, name in ((model, WORDS), (with_decoder, "cls.predictions.decoder.weight"))
    )
    np.testing.assert_allclose(words[0], decoder[0], atol=1e-15)
    assert np.abs(words[0]).max() > 1e-3
    # and for every other word the two uses add up
    np.testing.assert_allclose(
        words, decoder + to_host(with_decoder.gradients()[WORDS]), atol=1e-15
    )


def test_without_a_padding_token_row_0_learns_like_any_other(backend):
    tiny = Tiny(pad=True, config=UNTIED | {"pad_token_id": None})
    assert (gradients_of(tiny, backend)[WORDS][0] != 0.0).all()


def test_nothing_labelled_is_loss_0_and_gradients_exactly_0(backend):
    tiny = TINY["plain"]
    model, inputs = tiny.model(backend), tiny.inputs()
    inputs = {n: np.full_like(v, IGNORED) if "label" in n else v for n, v in inputs.items()}
    out = model(**inputs)
    assert float(out.loss) == 0.0
    out.backward()
    assert all((d == 0.0).all() for d in host_gradients(model).values())


# --- accumulation ---------------------------------------------------------------------------------


def test_before_backward_gradients_are_zeros_with_the_keys_and_shapes_of_the_parameters(backend):
    model = TINY["two layers"].model(backend)
    found, parameters = model.gradients(), model.state_dict()
    assert list(found) == list(parameters)
    assert all(found[n].shape == parameters[n].shape for n in found)
    assert all(found[n].dtype == parameters[n].dtype for n in found)
    assert all((to_host(d) == 0.0).all() for d in found.values())
    assert "cls.predictions.decoder.weight" not in found


def test_gradients_add_up_until_zero_grad(backend):
    tiny = TINY["two layers"]
    model, inputs = tiny.model(backend), tiny.inputs()
    out = model(**inputs)
    out.backward()
    once, returned = host_gradients(model), model.gradients()
    out.backward()
    twice = host_gradients(model)
    assert_close(twice, {n: 2.0 * d for n, d in once.items()}, 1e-15)
    # arrays that were returned before do not change
    assert_close({n: to_host(d) for n, d in returned.items()}, once, 0.0)
    model.zero_grad()
    assert all((d == 0.0).all() for d in host_gradients(model).values())
    model(**inputs).backward()
    assert_close(host_gradients(model), once, 0.0)


def test_gradients_of_different_batches_add_up(backend):
    tiny = TINY["plain"]
    model, first = tiny.model(backend), tiny.inputs()
    second = first | {"input_ids": (first["input_ids"] + 3) % 10 + 1}
    parts = [gradients_of(tiny, backend, **inputs) for inputs in (first, second)]
    outs = [model(**inputs) for inputs in (first, second)]  # two records at the same time
    for out in outs:
        out.backward()
    assert_close(host_gradients(model), {n: parts[0][n] + parts[1][n] for n in parts[0]})


def test_parts_of_a_batch_add_up_to_the_batch(backend):
    """With the counts of the whole batch; with its own counts the smaller part would weigh too much."""
    tiny = TINY["plain"]
    whole = tiny.inputs()
    whole["labels"][0, 1:] = IGNORED  # one label in the first example, four in the second
    parts = [{n: array[k : k + 1] for n, array in whole.items()} for k in range(2)]
    expected = gradients_of(tiny, backend, **whole)
    model, right = tiny.model(backend), ItemsInBatch(labels=5, next_sentence_label=2)
    for items in (right, None):
        model.zero_grad()
        for part in parts:
            model(**part, num_items_in_batch=items).backward()
        if items is right:
            assert_close(host_gradients(model), expected)
        else:  # negative control
            with pytest.raises(AssertionError):
                assert_close(host_gradients(model), expected)


def test_two_outputs_do_not_share_their_input_gradients(backend):
    tiny = TINY["inputs_embeds"]
    out = tiny.model(backend)(**tiny.inputs())
    first, second = (to_host(out.backward()["inputs_embeds"]) for _ in range(2))
    assert (first == second).all()
    assert np.abs(first).max() > 0.0
