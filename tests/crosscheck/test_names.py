"""The tables of names cover every layer: the entry of each name, and the parameters of each activation."""

import time

import pytest

from minizha.crosscheck import trace
from minizha.crosscheck.names import (
    ATTENTION,
    DROPOUT,
    EMBEDDINGS,
    FEED_FORWARD,
    FLOAT_INPUTS,
    GRADIENT,
    HEADS,
    axes,
    entry,
    in_order,
    layer_of,
    made_with,
    part_of,
)
from tests.support.tiny_models import TINY
from tests.support.traces import model_and_inputs

TABLES = {
    "": EMBEDDINGS + HEADS,
    "encoder.layer.0.attention.": ATTENTION,
    "encoder.layer.11.crossattention.": ATTENTION,
    "encoder.layer.3.": FEED_FORWARD,
}
ENTRIES = [(prefix, known) for prefix, entries in TABLES.items() for known in entries]


def name_of(prefix, known):
    return (prefix + known.name).removesuffix(".")


@pytest.mark.parametrize(("prefix", "known"), ENTRIES)
def test_every_entry_is_found_under_its_name(prefix, known):
    name = name_of(prefix, known)
    assert entry(name) is known
    assert entry(name + GRADIENT) is known
    assert axes(name, len(known.axes)) == tuple("L" if a == "…" else a for a in known.axes)


@pytest.mark.parametrize(("prefix", "known"), ENTRIES)
def test_a_parameter_makes_the_activation_of_its_entry(prefix, known):
    for parameter in known.parameters:
        assert made_with(prefix + parameter) == name_of(prefix, known)
        assert entry(prefix + parameter) is None  # a parameter is not an activation


def test_other_parameters_make_what_their_module_is_called():
    assert made_with("embeddings.word_embeddings.weight") == "embeddings.word_embeddings"
    assert made_with("encoder.layer.2.gate.bias") == "encoder.layer.2.gate"
    assert made_with("encoder.layer.2.attention.gate.bias") == "encoder.layer.2.attention.gate"
    assert made_with("weight") == ""


@pytest.mark.parametrize(("prefix", "known"), ENTRIES)
def test_every_entry_has_its_part(prefix, known):
    name, layer = name_of(prefix, known), layer_of(prefix)
    if layer is not None:
        expected = f"layer {layer}"
    elif known in EMBEDDINGS:
        expected = "embeddings"
    else:
        expected = "loss" if known.axes == () else "heads"
    assert part_of(name) == part_of(name + GRADIENT) == expected
    assert all(part_of(prefix + p + GRADIENT) == expected for p in known.parameters)


@pytest.mark.parametrize("name", FLOAT_INPUTS)
def test_inputs_are_a_part(name):
    assert part_of(name + GRADIENT) == part_of(f"{name}.0.1{GRADIENT}") == "inputs"


@pytest.mark.parametrize("length", range(1, 5))
def test_a_classifier_has_as_many_lengths_as_there_are_axes_between(length):
    assert axes("classifier", length + 1) == ("B", *"L" * (length - 1), "C")


# --- the order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dropout and everything", "decoder and everything", "two layers"])
def test_names_are_put_in_the_order_of_a_trace(name, backend):
    found = trace(*model_and_inputs(TINY[name], backend))
    known = [n for n in found if not n.endswith(DROPOUT) and not n.startswith(FLOAT_INPUTS)]
    assert len(known) > 50
    assert in_order(known[::-1]) == known


def test_unknown_names_come_last_in_their_old_order():
    unknown = ["z", "encoder.layer.0.attention.score", "a.grad", "encoder.layer.00.output.dense"]
    known = [
        "embeddings",
        "encoder.layer.2",
        "loss",
        "encoder.layer.10.grad",
        "encoder.layer.9.grad",
    ]
    assert in_order([*unknown, *known[::-1]]) == [*known, *unknown]


def test_a_number_in_a_name_is_no_number_of_steps():
    """A file may hold any name. Sorting costs what the names weigh."""
    far, absurd = (f"encoder.layer.{n}.output.dense" for n in (10**6, "9" * 5000))
    start = time.perf_counter()
    assert in_order([absurd, far, "embeddings"]) == ["embeddings", far, absurd]
    assert time.perf_counter() - start < 0.1
    assert layer_of(far) == 10**6
    assert layer_of(absurd) is None
    assert entry(absurd) is None
    assert part_of(absurd) == "heads"
