"""The tables of names cover every layer: the entry of each name, and the parameters of each activation."""

import pytest

from minizha.crosscheck.names import (
    ATTENTION,
    EMBEDDINGS,
    FEED_FORWARD,
    FLOAT_INPUTS,
    GRADIENT,
    HEADS,
    axes,
    entry,
    layer_of,
    made_with,
    part_of,
)

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
