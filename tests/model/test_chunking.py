"""The feed-forward network in pieces: the same numbers, less memory."""

import tracemalloc

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.errors import ArgumentError
from tests.support.eight_models import (
    KINDS,
    TOLERANCE,
    L,
    class_of,
    configuration,
    everything_of,
    make,
    upstream_of,
)
from tests.support.layouts import in_host_memory
from tests.support.running import assert_close, assert_equal, backward, fields, on_host

CHUNKS = (1, 2, 3, L - 1, L, L + 1, 1000)  # 2 and 3 don't divide L = 7


def run(kind, backend, chunk, train=False):
    """Every field and gradient, from the loss and a random upstream."""
    model = make(kind, backend, chunk_size_feed_forward=chunk)
    if train:
        model.train(seed=3)
    out = model(
        **everything_of(kind), output_hidden_states=True, output_attentions=True, record=True
    )
    found = on_host(fields(out)) | backward(model, out, upstream_of(out))
    return found, out.record


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_pieces_give_what_the_whole_gives(kind, train, backend):
    """In train mode too: the dropout behind it is drawn for the whole."""
    expected, _ = run(kind, backend, 0, train)
    for chunk in CHUNKS:
        assert_close(run(kind, backend, chunk, train)[0], expected, TOLERANCE)


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_with_every_activation(act, backend):
    model, inputs = "NezhaForTokenClassification", everything_of("NezhaForTokenClassification")
    runs = []
    for chunk in (0, 3):
        made = make(model, backend, hidden_act=act, chunk_size_feed_forward=chunk)
        out = made(**inputs)
        runs.append(on_host(fields(out)) | backward(made, out))
    assert_close(runs[1], runs[0], TOLERANCE)


def test_in_a_decoder_too(backend):
    runs = []
    for chunk in (0, 2):
        model = make(
            "NezhaModel", backend, is_decoder=True, add_cross_attention=True,
            chunk_size_feed_forward=chunk,
        )  # fmt: skip
        states = np.random.default_rng(0).standard_normal((3, 5, 12))
        out = model(**everything_of("NezhaModel"), encoder_hidden_states=states, record=True)
        upstream = {"last_hidden_state": np.random.default_rng(1).standard_normal((3, L, 12))}
        runs.append({"y": to_host(out.last_hidden_state)} | backward(model, out, upstream))
    assert_close(runs[1], runs[0], TOLERANCE)


def test_two_ways_back_from_one_output(backend):
    """What is computed once more is computed from what is still there."""
    kind = "NezhaForMaskedLM"
    model = make(kind, backend, chunk_size_feed_forward=2)
    out = model(**everything_of(kind))
    assert_equal(backward(model, out), backward(model, out))


def test_the_record_keeps_nothing_that_is_f_wide(backend):
    _, chunked = run("NezhaModel", backend, 2)
    _, whole = run("NezhaModel", backend, 0)
    assert type(chunked.nezha.encoder[0].feed_forward)._fields == ("x", "p", "hidden_act", "chunk")
    assert whole.nezha.encoder[0].feed_forward.intermediate.x.shape == (3, L, 12)


def peak(model, inputs, learning):
    """The most memory that a call took, in bytes."""
    tracemalloc.start()
    try:
        out = model(**inputs, record=learning)
        if learning:
            out.backward(**upstream_of(out))
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("learning", [False, True])
def test_less_memory(learning, backend):
    """With F much larger than all else, a piece of L/16 takes less than a quarter."""
    config = configuration(num_hidden_layers=1, intermediate_size=4096, hidden_size=6)
    inputs = {"input_ids": np.ones((4, 64), int)}
    peaks = {}
    for chunk in (0, 4):
        model = class_of("NezhaModel")(
            config.replace(chunk_size_feed_forward=chunk), dtype="float64", backend=backend
        )
        if not in_host_memory(model.get_input_embeddings()):
            pytest.skip("tracemalloc sees the host's memory")
        peak(model, inputs, learning)  # what is imported and kept the first time
        peaks[chunk] = peak(model, inputs, learning)
    wide = 4 * 64 * 4096 * 8
    assert peaks[0] > wide
    assert peaks[4] < peaks[0] / 4
    assert peaks[4] < wide


@pytest.mark.parametrize("chunk", [-1, 1.5, "2", None, True])
def test_a_size_that_is_none_is_refused(chunk):
    with pytest.raises(ArgumentError, match="chunk_size_feed_forward: expected an integer"):
        configuration(chunk_size_feed_forward=chunk)
