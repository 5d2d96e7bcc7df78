"""The mistakes that only a decoder can have, in decoders whose traces show them."""

from tests.support import wrong_decoders as wrong
from tests.support.seeded.seeding import SCORES, Seed

LAYER = "encoder.layer.0."
ATTENTION, CROSS = LAYER + "attention.", LAYER + "crossattention."
PADDED, BOTH = "past, mask 2-D", "past of both, the encoder given again"
FORWARD = [
    Seed(wrong.positions_that_start_anew_in_each_call, SCORES, "offset_forgotten", PADDED),
    Seed(wrong.cross_attention_from_the_start_in_each_call, CROSS + "scores",
         "cross_offset_forgotten", BOTH),
    Seed(wrong.a_triangle_that_forgets_the_past, ATTENTION + "probs", "causal_offset_forgotten",
         PADDED),
    Seed(wrong.a_decoder_that_looks_ahead, ATTENTION + "probs", "causal_missing", PADDED),
    Seed(wrong.a_decoder_that_looks_one_ahead, ATTENTION + "probs", "causal_one_ahead", PADDED),
    Seed(wrong.a_decoder_that_does_not_see_itself, ATTENTION + "probs", "causal_strict", PADDED),
    Seed(wrong.a_mask_that_is_not_low_enough, ATTENTION + "probs", None, PADDED),
    Seed(wrong.the_encoders_mask_forgotten, CROSS + "probs", "mask_ignored",
         "cross-attention to more than L"),
    Seed(wrong.the_head_mask_of_the_wrong_heads, ATTENTION + "weights", None, "past, pruned"),
    Seed(wrong.new_keys_before_the_past, SCORES, None, PADDED),
]  # fmt: skip
PAST = "past_key_values.0."
BACKWARD = [
    Seed(wrong.the_past_gets_no_gradient, PAST + "0.grad", None, PADDED),
    Seed(wrong.the_encoders_keys_get_no_gradient, PAST + "2.grad", None, BOTH),
    Seed(wrong.past_and_present_cut_on_the_wrong_side, ATTENTION + "self.value.grad", None, PADDED),
    Seed(wrong.the_pasts_keys_and_values_exchanged, PAST + "0.grad", None, PADDED),
    Seed(wrong.a_source_without_gradient, "embeddings.grad", None, PADDED),
    Seed(wrong.only_the_last_layer_reaches_the_encoder, "encoder_hidden_states.grad", None,
         "cross-attention, dropout"),
    Seed(wrong.the_offset_forgotten_in_the_backward_of_the_key_term,
         ATTENTION + "self.query.grad", None, PADDED),
    Seed(wrong.the_offset_forgotten_in_the_backward_of_the_value_term, ATTENTION + "probs.grad",
         None, PADDED),
    Seed(wrong.a_masked_key_that_gets_a_gradient, ATTENTION + "scores.grad", None, PADDED),
]  # fmt: skip
