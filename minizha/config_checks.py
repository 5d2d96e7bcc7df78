"""The check of each configuration value: one of :mod:`minizha.checks` for each name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from minizha.checks import choice, flag, integer, mapping, number

ACTIVATION_NAMES = ("gelu", "gelu_new", "relu", "silu", "swish", "tanh")
PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")


def index(value: Any) -> int:
    """An int from an integer or, as in the keys of JSON, its digits; else ValueError or TypeError."""
    if isinstance(value, bool):
        raise TypeError("a bool")
    return int(value) if isinstance(value, str) else operator.index(value)


SIZES = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
FLAGS = (
    "use_cache",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
)

# the upper bounds make a damaged or hostile config.json fail here instead of filling the memory
_size = partial(integer, low=1, high=2**31 - 1)
_token_id = partial(integer, low=0, high=2**31 - 1, optional=True)
_probability = partial(number, interval="[0, 1)")
CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(SIZES, _size),
    "num_hidden_layers": partial(integer, low=1, high=1_000),
    "num_labels": partial(integer, low=1, high=30_000),  # each label has a name: 300 bytes
    "max_relative_position": partial(integer, low=0, high=100_000),
    "chunk_size_feed_forward": partial(integer, low=0, high=2**31 - 1),
    "bos_token_id": _token_id,
    # −1 says as None does that there is none: Transformers' tests of generation write it so
    **dict.fromkeys(("pad_token_id", "eos_token_id"), partial(_token_id, low=-1)),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), _probability),
    "classifier_dropout": partial(_probability, optional=True),
    "initializer_range": partial(number, interval="[0, 1e6)"),
    "layer_norm_eps": partial(number, interval="(0, inf)"),
    "hidden_act": partial(choice, choices=ACTIVATION_NAMES),
    "problem_type": partial(choice, choices=PROBLEM_TYPES),
    **dict.fromkeys(FLAGS, flag),
    "pruned_heads": mapping,
    **dict.fromkeys(("id2label", "label2id"), partial(mapping, optional=True)),
}


# one a line would hide the rest of this file
# fmt: off
KEYS_ELSEWHERE = {
    # of every configuration of Transformers (PretrainedConfig)
    "model_type", "torch_dtype", "torchscript", "use_bfloat16", "tf_legacy_loss",
    "is_encoder_decoder", "cross_attention_hidden_size", "tie_encoder_decoder", "max_length",
    "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "architectures", "finetuning_task",
    "tokenizer_class", "prefix", "sep_token_id", "decoder_start_token_id", "task_specific_params",
    "name_or_path", "_name_or_path", "_commit_hash", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "transformers_version", "dtype", "gradient_checkpointing",
    "auto_map", "xla_device", "output_past",
    # of published NEZHA and BERT configurations
    "use_relative_position", "relative_position_embedding_type", "position_embedding_type",
    "embedding_size", "directionality", "pooler_fc_size", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "layer_norm_type", "pre_trained",
    "fit_size", "pool_act", "init_class", "num_classes", "type",
}
# fmt: on
"""Keys of configurations that mean nothing here, and are no typing errors."""
