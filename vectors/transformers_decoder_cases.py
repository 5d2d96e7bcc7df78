"""Cases of make_transformers_vectors.py: decoders, cross-attention, pruned heads, chunks.

The letters are those of transformers_inputs.py. A decoder's `use_cache` is true unless its config
says otherwise, so NezhaModel returns `past_key_values`.
"""

from typing import Any

from transformers_inputs import EVERYTHING, MODEL_OUTPUTS, Case, sizes
from transformers_inputs import masked_lm_case as _masked_lm
from transformers_inputs import model_case as _model

DECODER_OUTPUTS = (*MODEL_OUTPUTS, *EVERYTHING, "past_key_values")
CROSS_OUTPUTS = (*DECODER_OUTPUTS, "cross_attentions")


def _decoder(V: int, D: int, N: int, layers: int, F: int, K: int, **options: Any) -> dict[str, Any]:
    return sizes(V, D, N, layers, F, K, is_decoder=True, **options)


def _cross(V: int, D: int, N: int, layers: int, F: int, K: int, **options: Any) -> dict[str, Any]:
    return _decoder(V, D, N, layers, F, K, add_cross_attention=True, **options)


# fmt: off
DECODER_CASES = (
    _model("decoder-plain", 601, 3, 7, _decoder(31, 12, 2, 1, 19, 64),
           "causal without a mask: no query sees a later key; K above L; one layer; token types",
           token_types=True),
    _model("decoder-clipped-right", 602, 2, 11, _decoder(29, 12, 3, 2, 17, 3),
           "causal and right padding, K below L; upstream gradients on the cached keys and values "
           "too", mask="right", upstream=(*MODEL_OUTPUTS, "past_key_values")),
    _model("decoder-left", 603, 3, 8, _decoder(31, 12, 2, 1, 17, 2, hidden_act="gelu_new"),
           "causal and left padding: the first queries see no key at all, which leaves them "
           "uniform over every key, later ones included; gelu_new", mask="left"),
    _model("decoder-holes", 604, 2, 9, _decoder(29, 12, 3, 2, 19, 1, hidden_act="silu"),
           "causal, mask with holes, K = 1, head_mask (layers, N), upstream gradients on every "
           "output; silu", mask="holes", head_mask="per-layer", upstream=DECODER_OUTPUTS),
    _model("decoder-pairwise", 605, 2, 10, _decoder(31, 12, 3, 1, 17, 4),
           "a 3-D mask is taken as it is, not made causal; some queries may see no key",
           mask="pairwise-empty-rows", token_types=True, pads=True),
    _model("decoder-fractional", 606, 2, 8, _decoder(29, 12, 3, 1, 19, 3, hidden_act="tanh"),
           "causal times a 2-D float mask: of the keys up to its own, a query sees those of the "
           "largest value; tanh", mask="fractional"),
    _model("decoder-embeds", 607, 2, 7, _decoder(23, 12, 3, 1, 17, 4, use_cache=False),
           "inputs_embeds; use_cache false, so no past_key_values; add_pooling_layer=False",
           embeds=True, upstream=("last_hidden_state", *EVERYTHING),
           class_arguments={"add_pooling_layer": False}),
    _model("decoder-one-token", 608, 2, 1, _decoder(23, 12, 3, 1, 17, 2), "L = 1",
           upstream=DECODER_OUTPUTS),
    _model("decoder-alone", 609, 2, 7, _cross(29, 12, 3, 1, 17, 2),
           "cross-attention layers but no encoder_hidden_states: they take no part",
           mask="right", upstream=DECODER_OUTPUTS),
    _masked_lm("decoder-maskedlm", 610, 3, 10, _decoder(31, 12, 2, 2, 17, 3),
               "causal masked LM with labels, right padding", mask="right", pads=True),
    _masked_lm("decoder-maskedlm-upstream", 611, 2, 9, _decoder(
               29, 12, 3, 1, 17, 64, hidden_act="relu", tie_word_embeddings=False),
               "causal, untied, upstream gradients on logits, hidden states and attentions; relu",
               labels=(), upstream=("logits", *EVERYTHING)),
    Case("decoder-pretraining", "NezhaForPreTraining", 612, 3, 8, _decoder(31, 12, 2, 1, 17, 2),
         "both losses of a causal model", mask="holes", labels=("labels", "next_sentence_label")),
    _model("cross-plain", 701, 3, 7, _cross(29, 12, 2, 1, 17, 64),
           "no masks, K above L; one layer", encoder=True),
    _model("cross-right", 702, 2, 9, _cross(29, 12, 3, 2, 17, 2, hidden_act="gelu_new"),
           "K below L, encoder mask padded right, decoder mask left, head_mask (N,) for both "
           "attentions, upstream gradients on every output; gelu_new", mask="left", encoder=True,
           encoder_mask="right", head_mask="shared", upstream=CROSS_OUTPUTS),
    _model("cross-pairwise", 703, 2, 8, _cross(31, 12, 3, 1, 19, 3, hidden_act="relu"),
           "3-D encoder mask in which some queries may see no key, decoder mask with holes; "
           "head_mask (layers, N); relu", mask="holes", encoder=True,
           encoder_mask="pairwise-empty-rows", head_mask="per-layer", token_types=True),
    _model("cross-pairwise-fractional", 704, 2, 7, _cross(23, 12, 3, 1, 17, 2, hidden_act="silu"),
           "3-D encoder mask with fractions, 3-D decoder mask; silu", mask="pairwise-empty-rows",
           encoder=True, encoder_mask="pairwise-fractional"),
    _model("cross-empty-example", 705, 3, 8, _cross(23, 12, 2, 1, 17, 3, hidden_act="tanh"),
           "2-D encoder mask with one example masked altogether; inputs_embeds; no pooler; tanh",
           embeds=True, encoder=True, encoder_mask="empty-example",
           upstream=("last_hidden_state",), class_arguments={"add_pooling_layer": False}),
    _model("cross-holes", 706, 2, 10, _cross(23, 12, 3, 1, 17, 1, use_cache=False),
           "encoder mask with holes, K = 1, use_cache false; upstream gradients on the "
           "cross-attentions alone", encoder=True, encoder_mask="holes",
           upstream=("cross_attentions",)),
    _model("cross-one-token", 707, 2, 1, _cross(23, 12, 3, 1, 17, 2), "L = 1", encoder=True,
           upstream=CROSS_OUTPUTS),
    _masked_lm("cross-maskedlm", 708, 3, 9, _cross(31, 12, 2, 2, 17, 2),
               "masked LM loss, encoder mask padded left", mask="right", encoder=True,
               encoder_mask="left", pads=True),
    _masked_lm("cross-maskedlm-upstream", 709, 2, 7, _cross(
               29, 12, 3, 1, 17, 4, hidden_act="silu", tie_word_embeddings=False),
               "untied, 2-D encoder mask with fractions, upstream gradients on logits, hidden "
               "states and attentions; silu", encoder=True, encoder_mask="fractional", labels=(),
               upstream=("logits", *EVERYTHING)),
    _model("pruned-model", 801, 2, 9, sizes(
           29, 12, 3, 2, 17, 3, pruned_heads={0: [1], 1: [0, 2]}),
           "two heads left in layer 0, one in layer 1; upstream gradients on every output",
           mask="right", upstream=(*MODEL_OUTPUTS, *EVERYTHING)),
    _model("pruned-cross", 802, 3, 7, _cross(23, 8, 4, 2, 17, 3, pruned_heads={0: [0, 3], 1: [2]}),
           "pruning acts on self-attention alone: cross-attention keeps every head, so the four "
           "cached arrays of a layer differ in heads", mask="right", encoder=True,
           encoder_mask="holes", upstream=CROSS_OUTPUTS),
    _masked_lm("pruned-maskedlm", 803, 2, 8, sizes(29, 12, 3, 2, 17, 2, pruned_heads={1: [1]}),
               "one head of layer 1 pruned, masked LM loss", mask="left", pads=True),
    _model("chunked-model", 804, 3, 10, sizes(29, 12, 2, 1, 17, 3, chunk_size_feed_forward=5),
           "the feed-forward layer works on five tokens at a time", mask="right"),
    _model("chunked-cross", 805, 2, 9, _cross(23, 12, 3, 1, 17, 2, chunk_size_feed_forward=3),
           "the same, three at a time, in a decoder with cross-attention", encoder=True),
)
# fmt: on
