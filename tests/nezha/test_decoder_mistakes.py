"""Negative controls: each mistake in a decoder must make the checks fail that should find it."""

import re

import pytest
from hypothesis import Phase, given, settings

from minizha import crosscheck
from tests.properties import test_decoder as properties
from tests.support import wrong_decoders as wrong
from tests.support.strategies import fails
from tests.support.tiny_models import DECODERS

SEEN_BY = {
    wrong.positions_that_start_anew_in_each_call: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_the_gradients_of_many_calls_are_those_of_one,
        properties.test_so_it_is_one_token_at_a_time,
        properties.test_a_hidden_past_changes_nothing,
    ),
    wrong.cross_attention_from_the_start_in_each_call: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_so_it_is_one_token_at_a_time,
    ),
    wrong.a_triangle_that_forgets_the_past: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_so_it_is_one_token_at_a_time,
        properties.test_a_hidden_past_changes_nothing,
    ),
    wrong.a_decoder_that_looks_ahead: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_a_decoder_is_that_of_the_plain_reference,
        properties.test_a_later_token_changes_nothing_earlier,
        properties.test_nothing_earlier_asks_anything_of_a_later_token,
    ),
    wrong.a_decoder_that_looks_one_ahead: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_a_later_token_changes_nothing_earlier,
        properties.test_nothing_earlier_asks_anything_of_a_later_token,
    ),
    wrong.a_decoder_that_does_not_see_itself: (
        properties.test_a_decoder_is_that_of_the_plain_reference,
    ),
    wrong.a_mask_that_is_not_low_enough: (
        properties.test_a_decoder_is_that_of_the_plain_reference,
        properties.test_a_later_token_changes_nothing_earlier,
        properties.test_a_token_that_sees_no_key_attends_to_all_there_are_alike,
        properties.test_a_hidden_past_changes_nothing,
    ),
    wrong.the_encoders_mask_forgotten: (properties.test_a_decoder_is_that_of_the_plain_reference,),
    wrong.the_encoders_mask_forgotten_once_its_keys_are_cached: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_an_empty_past_is_a_past_of_no_tokens,
    ),
    wrong.a_cache_of_the_new_tokens_alone: (
        properties.test_the_shapes_are_those_of_the_documentation,
    ),
    wrong.the_head_mask_of_the_wrong_heads: (
        properties.test_a_decoder_is_that_of_the_plain_reference,
    ),
    wrong.values_cached_as_keys: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_a_decoder_is_that_of_the_plain_reference,
    ),
    wrong.new_keys_before_the_past: (
        properties.test_a_text_in_many_calls_is_the_text_in_one,
        properties.test_so_it_is_one_token_at_a_time,
    ),
    wrong.the_past_gets_no_gradient: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
        properties.test_upstream_gradients_are_those_of_the_complex_step,
    ),
    wrong.the_encoders_keys_get_no_gradient: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
        properties.test_upstream_gradients_are_those_of_the_complex_step,
        properties.test_an_empty_past_is_a_past_of_no_tokens,
    ),
    wrong.past_and_present_cut_on_the_wrong_side: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
    ),
    wrong.an_empty_past_taken_for_none: (properties.test_an_empty_past_is_a_past_of_no_tokens,),
    wrong.the_offset_forgotten_in_the_backward_of_the_key_term: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
    ),
    wrong.the_offset_forgotten_in_the_backward_of_the_value_term: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
    ),
    wrong.upstream_gradients_of_keys_and_values_forgotten: (
        properties.test_the_gradients_of_many_calls_are_those_of_one,
        properties.test_upstream_gradients_are_those_of_the_complex_step,
    ),
    wrong.upstream_gradients_of_cross_attentions_forgotten: (
        properties.test_upstream_gradients_are_those_of_the_complex_step,
    ),
    wrong.only_the_last_layer_reaches_the_encoder: (
        properties.test_upstream_gradients_are_those_of_the_complex_step,
    ),
}
BELOW = r"embeddings|layer\.\d|past_key_values|encoder_hidden_states"
# the model that shows it, and the parameter or input with the largest error
REFUSED = {
    wrong.the_past_gets_no_gradient: ("past", r"past_key_values\.\d\.[01]$"),
    wrong.the_encoders_keys_get_no_gradient: ("past of both", r"past_key_values\.0\.[23]$"),
    wrong.the_pasts_keys_and_values_exchanged: ("past", r"past_key_values\.\d\.[01]$"),
    wrong.past_and_present_cut_on_the_wrong_side: ("past", BELOW),
    wrong.a_source_without_gradient: ("decoder", "embeddings"),
    wrong.only_the_last_layer_reaches_the_encoder: (
        "cross-attention, dropout", "^encoder_hidden_states$"),
    wrong.the_offset_forgotten_in_the_backward_of_the_key_term: ("past", BELOW),
    wrong.the_offset_forgotten_in_the_backward_of_the_value_term: ("past", BELOW),
    wrong.a_masked_key_that_gets_a_gradient: ("decoder", BELOW),
    wrong.only_the_last_chunk_of_the_feed_forward_network_learns: (
        "past, chunked", r"(intermediate|output)\.dense"),
}  # fmt: skip
CONTROLS = [(mistake, test) for mistake, tests in SEEN_BY.items() for test in tests]


def identify(value):
    return getattr(value, "__name__", None)


@pytest.mark.parametrize(("mistake", "test"), CONTROLS, ids=identify)
def test_a_mistake_is_seen(mistake, test, backend, monkeypatch):
    mistake(monkeypatch)
    assert fails(test, backend, examples=30)


@pytest.mark.parametrize("mistake", REFUSED, ids=identify)
def test_gradcheck_refuses_a_mistake_and_names_the_place(mistake, backend, monkeypatch):
    name, blames = REFUSED[mistake]
    model, inputs = DECODERS[name].model(backend), DECODERS[name].inputs()
    assert crosscheck.gradcheck(model, inputs, entries=3).ok
    mistake(monkeypatch)
    report = crosscheck.gradcheck(model, inputs, entries=3)
    assert not report.ok
    assert report.error > 1e-6, "only by a hair"
    assert re.search(blames, report.name), report


def test_what_is_drawn_is_of_every_kind():
    """Negative control: the examples have several calls, masks, pruned heads, and so on."""
    cases = []

    @settings(max_examples=200, phases=[Phase.generate])
    @given(case=properties.test_a_text_in_many_calls_is_the_text_in_one.strategy)
    def draw(case):
        cases.append(case)

    draw()
    assert sum(len(case.calls()) > 1 for case in cases) >= 100
    assert sum(len(case.calls()) == case.L > 2 for case in cases) >= 3
    assert sum(case.config.max_relative_position < case.L - 1 for case in cases) >= 30
    assert sum(bool(case.config.pruned_heads) for case in cases) >= 15
    assert len({case.crossing for case in cases}) == 5
    assert len({(case.L, case.S) for case in cases if case.L != case.S}) >= 15
    assert 10 <= sum((~case.seen(case.inputs())).any() for case in cases) <= 100
