"""The cases of make_v1.py: every documented feature, each in a model as small as possible.

The letters are those of v1_inputs.py. `covers` lists keys of FEATURES.
"""

from typing import Any

from v1_inputs import Case, sizes
from v1_more_cases import DECODER_CASES, HEAD_CASES

FEATURES = {
    "plain": "ids alone, no mask",
    "mask-2d": "attention_mask (B, L): padding on either side, or holes",
    "mask-3d": "attention_mask (B, L, L): for each query what it may see",
    "mask-fractional": "a mask with fractions: of a row only the largest value is seen",
    "masked-row": "queries that may see no key: uniform attention",
    "head-mask": "head_mask (N,)",
    "head-mask-layers": "head_mask (layers, N)",
    "clipping": "distances beyond K on both sides",
    "k-zero": "K = 0: one row for every distance",
    "k-64": "the default K = 64",
    "long-input": "L > max_position_embeddings, which limits nothing",
    "token-types": "token_type_ids",
    "inputs-embeds": "inputs_embeds instead of ids, and their gradient",
    "pad-rows": "the padding token among the words: no gradient through the lookup",
    "no-pooler": "add_pooling_layer=False",
    "layer-norm-eps": "another layer_norm_eps",
    "one-example": "B = 1",
    "one-token": "L = 1",
    "gelu": "hidden_act gelu, the erf form",
    "gelu_new": "hidden_act gelu_new, the tanh form",
    "relu": "hidden_act relu",
    "silu": "hidden_act silu",
    "swish": "hidden_act swish, another name of silu",
    "tanh": "hidden_act tanh",
    "loss-words": "the masked-word loss",
    "loss-pairs": "the next-sentence loss",
    "one-of-two-labels": "pre-training with only one kind of label",
    "labels-ignored": "some labels are -100",
    "all-labels-ignored": "all labels are -100: loss 0, gradients 0",
    "tied": "the decoder is the word embedding",
    "untied": "tie_word_embeddings=False",
    "logits": "no labels: the way back starts from the logits",
    "regression": "mean squared error",
    "single-label": "cross-entropy over classes",
    "multi-label": "binary cross-entropy",
    "problem-type-inferred": "problem_type is left to be inferred from num_labels and labels",
    "multiple-choice": "inputs (B, C, L)",
    "token-classification": "a class for each token",
    "question-answering": "start and end of an answer",
    "positions-outside": "positions of L or more, which do not count",
    "decoder": "is_decoder: causal attention",
    "decoder-3d": "a decoder's 3-D mask, which is taken as it is",
    "past": "past_key_values of two arrays a layer, and their gradients",
    "past-cross": "past_key_values of four arrays a layer",
    "cross-attention": "an encoder's states, and their gradient",
    "cross-other-length": "an encoder of another length than the decoder",
    "encoder-mask-2d": "encoder_attention_mask (B, S)",
    "encoder-mask-3d": "encoder_attention_mask (B, L, S)",
    "pruned-heads": "heads that were removed",
    "chunked": "chunk_size_feed_forward",
    "dropout": "train mode, with the factors that were drawn",
    "classifier-dropout": "dropout before the classifier",
    "optimizer": "ten steps of AdamW with clipping, warm-up and linear decay",
}

WORDS, PAIRS = {"labels": "words"}, {"next_sentence_label": "classes"}


def _model(name: str, seed: int, config: dict, covers: str, notes: str, **options: Any) -> Case:
    return Case(name, "NezhaModel", seed, config, tuple(covers.split()), notes, **options)


def _pretraining(
    name: str, seed: int, config: dict, covers: str, notes: str, **options: Any
) -> Case:
    options.setdefault("labels", WORDS | PAIRS)
    return Case(name, "NezhaForPreTraining", seed, config, tuple(covers.split()), notes, **options)


def _activation(name: str, seed: int, K: int) -> Case:
    config = sizes(23, 12, 3, 1, 17, K, hidden_act=name)
    return _model(f"act-{name}", seed, config, name, f"hidden_act {name}; one layer", L=5)


# fmt: off
MODEL_CASES = (
    _model("model-plain", 1, sizes(31, 12, 3, 2, 17, 9), "plain gelu",
           "ids alone: no mask, no token types; K above L: nothing is clipped"),
    _model("model-right", 2, sizes(29, 12, 2, 2, 19, 3), "mask-2d clipping token-types",
           "padding on the right; K = 3 below L: clipping on both sides", L=8, mask="right",
           token_types=True),
    _model("model-left", 3, sizes(23, 16, 2, 1, 19, 4), "mask-2d", "padding on the left",
           mask="left"),
    _model("model-holes", 4, sizes(27, 12, 3, 1, 17, 1), "mask-2d clipping",
           "K = 1; a mask with holes", mask="holes"),
    _model("model-pairs", 5, sizes(23, 12, 3, 1, 16, 2), "mask-3d clipping",
           "each query may see other keys", mask="pairs"),
    _model("model-empty-rows", 6, sizes(23, 12, 2, 1, 17, 2), "mask-3d masked-row pad-rows",
           "3-D mask in which some queries may see no key: uniform attention over all keys there, "
           "and the gradient passes through the addition of the mask", mask="empty-rows", pads=True),
    _model("model-empty-example", 7, sizes(29, 16, 4, 1, 18, 3), "mask-2d masked-row",
           "2-D mask; all keys of the last example are masked", B=3, mask="empty-example"),
    _model("model-fractional", 8, sizes(23, 12, 3, 1, 17, 2), "mask-fractional mask-3d",
           "3-D mask of 0, .25, .5, .75 and 1", L=6, mask="fractional"),
    _model("model-head-mask", 9, sizes(23, 12, 3, 2, 17, 3), "head-mask",
           "the same factors in both layers; the last head has factor 0", head_mask="heads"),
    _model("model-head-mask-layers", 10, sizes(23, 12, 2, 3, 14, 3), "head-mask-layers mask-2d",
           "other factors in each of three layers", L=5, head_mask="layers", mask="right"),
    _model("model-k0", 11, sizes(23, 12, 3, 1, 17, 0), "k-zero clipping",
           "K = 0: every distance is clipped to 0", L=5),
    _model("model-k-boundary", 12, sizes(23, 12, 3, 1, 17, 6), "clipping",
           "L = K + 2: one distance on either side is clipped, and no other", L=8, B=1),
    _model("model-k64", 13, sizes(29, 16, 2, 1, 18, 64), "k-64",
           "the default K = 64, far above L: rows 58 to 70 of a table of 129"),
    _model("model-k64-clipped", 14, sizes(
           13, 6, 1, 1, 7, 64, max_position_embeddings=32), "k-64 clipping one-example long-input",
           "L = 67 = K + 3: the default K where it clips; max_position_embeddings is 32",
           B=1, L=67),
    _model("model-long", 15, sizes(23, 12, 2, 1, 17, 4, max_position_embeddings=8),
           "long-input clipping mask-2d", "L = 13 > max_position_embeddings = 8", L=13, mask="right"),
    _model("model-types3", 16, sizes(23, 16, 2, 1, 17, 3, type_vocab_size=3, pad_token_id=5,
                                     layer_norm_eps=1e-3),
           "token-types layer-norm-eps pad-rows",
           "three token types, pad_token_id 5, layer_norm_eps 1e-3", token_types=True, pads=True),
    _model("model-embeds", 17, sizes(19, 12, 3, 1, 17, 3), "inputs-embeds mask-2d token-types",
           "inputs_embeds instead of ids: the word embedding gets no gradient", embeds=True,
           mask="right", token_types=True),
    _model("model-no-pooler", 18, sizes(23, 12, 2, 1, 17, 3), "no-pooler",
           "add_pooling_layer=False", class_arguments={"add_pooling_layer": False}),
    _model("model-one-token", 19, sizes(19, 12, 3, 1, 17, 3), "one-token one-example",
           "B = 1, L = 1", B=1, L=1),
    *(_activation(name, 20 + n, 2)
      for n, name in enumerate(("gelu_new", "relu", "silu", "swish", "tanh"))),
    _model("dropout-model", 25, sizes(23, 12, 3, 2, 17, 3, hidden_dropout_prob=0.2,
                                      attention_probs_dropout_prob=0.3),
           "dropout head-mask mask-2d",
           "train mode: take the factors from expected/*.dropout; they come before the head mask",
           mask="right", head_mask="heads", train=101),
)
PRETRAINING_CASES = (
    _pretraining("pretraining-both", 31, sizes(29, 12, 3, 1, 17, 9),
                 "loss-words loss-pairs labels-ignored tied token-types",
                 "both losses; most labels are -100", B=3, token_types=True),
    _pretraining("pretraining-clipped", 32, sizes(23, 12, 2, 2, 17, 3),
                 "loss-words loss-pairs clipping mask-2d pad-rows",
                 "K below L, right padding, the padding token also where it may be seen", L=9,
                 mask="right", pads=True, labels=WORDS | {"next_sentence_label": "one ignored"}),
    _pretraining("pretraining-words-only", 33, sizes(29, 12, 3, 1, 17, 4),
                 "loss-words one-of-two-labels labels-ignored",
                 "labels without next_sentence_label: pooler and its head get no gradient",
                 labels=WORDS),
    _pretraining("pretraining-pairs-only", 34, sizes(29, 12, 3, 1, 17, 4),
                 "loss-pairs one-of-two-labels",
                 "next_sentence_label without labels: the word head gets no gradient",
                 B=3, L=5, labels=PAIRS),
    _pretraining("pretraining-all-ignored", 35, sizes(23, 12, 2, 1, 17, 4),
                 "all-labels-ignored",
                 "every label is -100: the loss and all gradients are 0 (PyTorch says NaN)",
                 labels={"labels": "no words", "next_sentence_label": "all ignored"}),
    _pretraining("pretraining-untied", 36, sizes(31, 12, 3, 1, 17, 3, tie_word_embeddings=False,
                                                 hidden_act="relu"),
                 "untied loss-words relu pad-rows",
                 "the decoder has a weight of its own: rows of unused ids get gradient 0",
                 mask="right", pads=True),
    _pretraining("pretraining-logits", 37, sizes(23, 12, 3, 1, 17, 3), "logits head-mask",
                 "no labels: gradients of both logits", L=5, labels={}, head_mask="heads"),
    _pretraining("pretraining-dropout", 38, sizes(
                 23, 12, 2, 1, 17, 3, hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.15),
                 "dropout loss-words loss-pairs", "train mode with both losses", mask="left",
                 train=102),
    Case("maskedlm-holes", "NezhaForMaskedLM", 39, sizes(31, 12, 3, 1, 17, 2, hidden_act="gelu_new"),
         ("loss-words", "gelu_new", "mask-2d", "labels-ignored"), "a mask with holes; gelu_new",
         mask="holes", labels=WORDS),
    Case("maskedlm-embeds", "NezhaForMaskedLM", 40, sizes(29, 12, 2, 1, 17, 2),
         ("loss-words", "inputs-embeds", "tied", "mask-3d"),
         "inputs_embeds and a tied decoder: the word embedding's gradient is the decoder's alone",
         embeds=True, mask="pairs", labels=WORDS),
    Case("nsp", "NezhaForNextSentencePrediction", 41, sizes(23, 12, 3, 1, 17, 3),
         ("loss-pairs", "token-types", "mask-2d"), "label 0 says that B follows A", B=4, L=6,
         mask="right", token_types=True, labels={"labels": "one ignored"}),
)
ADAMW = _pretraining(
    "adamw", 91, sizes(29, 12, 3, 1, 17, 3), "optimizer loss-words loss-pairs",
    "ten steps on one batch in eval mode; expected/ is the trace before the first", B=3, L=8,
    mask="right", token_types=True, steps=10)
# fmt: on

CASES = (*MODEL_CASES, *PRETRAINING_CASES, *HEAD_CASES, *DECODER_CASES, ADAMW)
