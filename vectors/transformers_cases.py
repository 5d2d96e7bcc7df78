"""Cases of make_transformers_vectors.py: encoders and the pre-training classes. NumPy only.

The letters are those of transformers_inputs.py.
"""

from typing import Any

from transformers_inputs import EVERYTHING, Case, sizes
from transformers_inputs import masked_lm_case as _masked_lm
from transformers_inputs import model_case as _model


def _pretraining(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **options: Any
) -> Case:
    labels = options.pop("labels", ("labels", "next_sentence_label"))
    return Case(name, "NezhaForPreTraining", seed, B, L, config, note, labels=labels, **options)


def _next_sentence(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **options: Any
) -> Case:
    class_name = "NezhaForNextSentencePrediction"
    return Case(name, class_name, seed, B, L, config, note, labels=("labels",), **options)


# fmt: off
CASES = (
    _model("model-plain", 101, 3, 7, sizes(37, 12, 2, 1, 21, 64),
           "ids alone: no mask, no token types, K above L; one layer"),
    _model("model-no-pooler", 102, 3, 11, sizes(41, 16, 2, 2, 23, 4),
           "add_pooling_layer=False; K below L: clipping on both sides; right padding, token types",
           mask="right", token_types=True, upstream=("last_hidden_state",),
           class_arguments={"add_pooling_layer": False}),
    _model("model-k1-holes", 103, 2, 9, sizes(43, 18, 3, 2, 25, 1, hidden_act="gelu_new"),
           "K = 1; 2-D mask with holes; gelu_new", mask="holes"),
    _model("model-empty-rows", 104, 2, 13, sizes(39, 12, 3, 2, 21, 2),
           "3-D mask in which some queries may see no key: uniform attention over all keys there",
           mask="pairwise-empty-rows", token_types=True, pads=True),
    _model("model-embeds", 105, 3, 8, sizes(37, 20, 2, 2, 27, 4, hidden_act="tanh"),
           "inputs_embeds instead of ids (the word embedding gets no gradient); head_mask (N,); "
           "upstream gradients on every output; tanh",
           embeds=True, head_mask="shared",
           upstream=("last_hidden_state", "pooler_output", *EVERYTHING)),
    _model("model-full-length", 106, 1, 16, sizes(53, 12, 3, 2, 29, 3, hidden_act="silu"),
           "L = max_position_embeddings, B = 1, silu, clipping on both sides", pads=True),
    _model("model-boundary", 107, 2, 6, sizes(47, 24, 3, 1, 26, 5),
           "K = L - 1, the smallest K that clips nothing; left padding", mask="left"),
    _pretraining("pretraining-plain", 201, 4, 12, sizes(53, 24, 3, 2, 30, 64),
                 "both losses, K above L, token types, no mask", token_types=True),
    _pretraining("pretraining-clipped", 202, 2, 13, sizes(47, 18, 3, 3, 22, 4),
                 "both losses, K below L, right padding, pad ids also at attended positions; "
                 "three layers", mask="right", token_types=True, pads=True),
    _pretraining("pretraining-types3", 203, 3, 10, sizes(
                 41, 16, 2, 2, 29, 3, hidden_act="relu", type_vocab_size=3, layer_norm_eps=1e-5,
                 pad_token_id=5),
                 "type_vocab_size 3, relu, layer_norm_eps 1e-5, pad_token_id 5, left padding",
                 mask="left", token_types=True, pads=True),
    _pretraining("pretraining-upstream", 204, 2, 9, sizes(43, 12, 3, 2, 25, 2, hidden_act="silu"),
                 "upstream gradients on both logits, every hidden state and every attention; "
                 "head_mask (layers, N); mask with holes; silu", mask="holes", labels=(),
                 head_mask="per-layer",
                 upstream=("prediction_logits", "seq_relationship_logits", *EVERYTHING)),
    _pretraining("pretraining-untied", 205, 3, 11, sizes(
                 45, 20, 2, 1, 28, 3, hidden_act="tanh", tie_word_embeddings=False),
                 "decoder not tied to the word embedding: rows of unused ids and the pad row get "
                 "no gradient; tanh", mask="right", token_types=True, pads=True),
    _pretraining("pretraining-labels-only", 206, 3, 7, sizes(51, 12, 2, 1, 23, 4),
                 "labels without next_sentence_label: pooler and next-sentence head get none",
                 labels=("labels",), pads=True),
    _pretraining("pretraining-next-only", 207, 3, 5, sizes(49, 16, 2, 2, 27, 2),
                 "next_sentence_label without labels: the prediction head gets no gradient, the "
                 "pad row none either", labels=("next_sentence_label",), pads=True),
    _masked_lm("maskedlm-holes", 301, 2, 13, sizes(39, 18, 3, 2, 24, 2, hidden_act="gelu_new"),
               "mask with holes, K = 2, gelu_new, token types", mask="holes", token_types=True),
    _masked_lm("maskedlm-embeds", 302, 4, 11, sizes(
               43, 18, 3, 2, 21, 2, pad_token_id=7, layer_norm_eps=1e-5),
               "inputs_embeds with a tied decoder, head_mask (layers, N), layer_norm_eps 1e-5",
               embeds=True, head_mask="per-layer", mask="right"),
    _masked_lm("maskedlm-untied-upstream", 303, 3, 9, sizes(
               37, 12, 2, 2, 20, 64, hidden_act="relu", tie_word_embeddings=False),
               "untied decoder, upstream gradients on logits, hidden states and attentions; relu",
               labels=(), upstream=("logits", *EVERYTHING), pads=True),
    _masked_lm("maskedlm-fractional", 304, 2, 10, sizes(45, 12, 3, 1, 28, 3),
               "3-D mask of 0, .25, .5, .75 and 1: only the largest value of a row is seen",
               mask="pairwise-fractional"),
    _masked_lm("maskedlm-empty-example", 305, 3, 8, sizes(41, 20, 2, 2, 26, 2),
               "2-D mask; one example is masked altogether", mask="empty-example", pads=True),
    _next_sentence("nsp-plain", 401, 4, 9, sizes(37, 18, 3, 2, 22, 64),
                   "next-sentence loss, left padding, token types", mask="left", token_types=True),
    _next_sentence("nsp-fractional", 402, 3, 12, sizes(43, 16, 2, 1, 25, 4, hidden_act="silu"),
                   "2-D float mask with fractions; head_mask (N,) with a removed head",
                   mask="fractional", head_mask="one-removed"),
    _next_sentence("nsp-one-token", 403, 2, 1, sizes(39, 12, 3, 1, 23, 4), "L = 1"),
)
# fmt: on

ADAMW = _pretraining(
    "adamw",
    501,
    5,
    13,
    sizes(41, 12, 3, 2, 23, 4),
    "ten AdamW steps on a fixed batch, both losses",
    mask="right",
    token_types=True,
    pads=True,
)
