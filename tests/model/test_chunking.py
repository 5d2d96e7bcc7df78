"""The feed-forward network in chunks: the same numbers, less memory."""

import tracemalloc

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.errors import ArgumentError
from tests.support.assertions import assert_close, assert_equal
from tests.support.eight_models import (
    CLASS_NAMES,
    TOLERANCE,
    L,
    class_of,
    configuration,
    inputs_and_labels_of,
    inputs_of,
    perturbed,
)
from tests.support.layouts import in_host_memory
from tests.support.running import backward, fields, random_upstream, recorded, run_randomly

CHUNKS = (1, 2, 3, L - 1, L, L + 1, 1000)  # 2 and 3 don't divide L = 7


def run_chunked(class_name, backend, chunk, train=False):
    """Every field and gradient, from a random upstream gradient."""
    model = perturbed(class_name, backend, chunk_size_feed_forward=chunk)
    if train:
        model.train(seed=3)
    return run_randomly(model, inputs_and_labels_of(class_name))[0]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_pieces_give_what_the_whole_gives(class_name, train, backend):
    """In train mode too: dropout acts after the chunks are joined."""
    expected = run_chunked(class_name, backend, 0, train)
    for chunk in CHUNKS:
        assert_close(run_chunked(class_name, backend, chunk, train), expected, TOLERANCE)


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_with_every_activation(act, backend):
    model, inputs = (
        "NezhaForTokenClassification",
        inputs_and_labels_of("NezhaForTokenClassification"),
    )
    runs = []
    for chunk in (0, 3):
        made = perturbed(model, backend, hidden_act=act, chunk_size_feed_forward=chunk)
        out = made(**inputs)
        runs.append(fields(out) | backward(made, out))
    assert_close(runs[1], runs[0], TOLERANCE)


def test_in_a_decoder_too(backend):
    runs = []
    for chunk in (0, 2):
        model = perturbed(
            "NezhaModel",
            backend,
            is_decoder=True,
            add_cross_attention=True,
            chunk_size_feed_forward=chunk,
        )
        states = np.random.default_rng(0).standard_normal((3, 5, 12))
        out = model(**inputs_and_labels_of("NezhaModel"), encoder_hidden_states=states, record=True)
        upstream = {"last_hidden_state": np.random.default_rng(1).standard_normal((3, L, 12))}
        runs.append({"y": to_host(out.last_hidden_state)} | backward(model, out, upstream))
    assert_close(runs[1], runs[0], TOLERANCE)


def test_two_ways_back_from_one_output(backend):
    """The backward pass recomputes it from x and the parameters."""
    class_name = "NezhaForMaskedLM"
    model = perturbed(class_name, backend, chunk_size_feed_forward=2)
    out = model(**inputs_and_labels_of(class_name))
    assert_equal(backward(model, out), backward(model, out))


def test_the_record_keeps_nothing_that_is_f_wide(backend):
    chunked, whole = (
        recorded(
            perturbed("NezhaModel", backend, chunk_size_feed_forward=chunk),
            inputs_of("NezhaModel"),
        ).record
        for chunk in (2, 0)
    )
    assert type(chunked.nezha.encoder[0].feed_forward)._fields == ("x", "p", "hidden_act", "chunk")
    assert whole.nezha.encoder[0].feed_forward.intermediate.x.shape == (3, L, 12)


def peak(model, inputs, learning):
    """The peak memory of a call, in bytes."""
    tracemalloc.start()
    try:
        out = model(**inputs, record=learning)
        if learning:
            out.backward(**random_upstream(out))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("learning", [False, True])
def test_less_memory(learning, backend):
    """With F much larger than all else, chunks of L/16 tokens take less than a quarter."""
    config = configuration(num_hidden_layers=1, intermediate_size=4096, hidden_size=6)
    inputs = {"input_ids": np.ones((4, 64), int)}
    peaks = {}
    for chunk in (0, 4):
        model = class_of("NezhaModel")(
            config.replace(chunk_size_feed_forward=chunk), dtype="float64", backend=backend
        )
        if not in_host_memory(model.get_input_embeddings()):
            pytest.skip("tracemalloc sees the host's memory")
        peak(model, inputs, learning)  # without what the first call imports and caches
        peaks[chunk] = peak(model, inputs, learning)
    wide = 4 * 64 * 4096 * 8
    assert peaks[0] > wide
    assert peaks[4] < peaks[0] / 4
    assert peaks[4] < wide


@pytest.mark.parametrize("chunk", [-1, 1.5, "2", None, True])
def test_a_size_that_is_none_is_refused(chunk):
    with pytest.raises(ArgumentError, match="chunk_size_feed_forward: expected an integer"):
        configuration(chunk_size_feed_forward=chunk)
