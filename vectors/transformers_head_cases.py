"""Cases of make_transformers_vectors.py: the four fine-tuning heads.

The letters are those of transformers_inputs.py.
"""

from typing import Any

from transformers_inputs import EVERYTHING, Case, sizes

REGRESSION, SINGLE_LABEL, MULTI_LABEL = PROBLEMS = (
    "regression",
    "single_label_classification",
    "multi_label_classification",
)


def _head(
    head: str, name: str, seed: int, B: int, L: int, config: dict, note: str, **options: Any
) -> Case:
    labels = options.pop("labels", ("labels",))
    if "upstream" in options:
        labels = ()
    return Case(name, f"NezhaFor{head}", seed, B, L, config, note, labels=labels, **options)


def _sequence(name: str, *facts: Any, **options: Any) -> Case:
    return _head("SequenceClassification", f"sequence-{name}", *facts, **options)


def _choice(name: str, *facts: Any, **options: Any) -> Case:
    return _head("MultipleChoice", f"choice-{name}", *facts, **options)


def _token(name: str, *facts: Any, **options: Any) -> Case:
    return _head("TokenClassification", f"token-{name}", *facts, **options)


def _question(name: str, *facts: Any, **options: Any) -> Case:
    labels = ("start_positions", "end_positions")
    return _head("QuestionAnswering", f"question-{name}", *facts, labels=labels, **options)


# fmt: off
HEAD_CASES = (
    _sequence("regression", 901, 4, 7, sizes(29, 12, 2, 1, 17, 64, num_labels=1),
              "one label, problem_type inferred: mean squared error", problem=REGRESSION,
              token_types=True),
    _sequence("regression-three", 902, 4, 9, sizes(
              31, 12, 2, 1, 17, 3, num_labels=3, problem_type=REGRESSION),
              "problem_type given: mean over examples and labels", problem=REGRESSION,
              mask="right"),
    _sequence("single", 903, 5, 8, sizes(29, 12, 2, 1, 17, 2, num_labels=4),
              "problem_type inferred from whole-numbered labels, one of them ignored (-100)",
              mask="left", pads=True),
    _sequence("single-given", 904, 4, 7, sizes(
              29, 12, 2, 1, 17, 2, num_labels=3, problem_type=SINGLE_LABEL, hidden_act="relu"),
              "problem_type given, one label ignored; head_mask (layers, N); relu",
              head_mask="per-layer", mask="holes"),
    _sequence("multi", 905, 3, 7, sizes(29, 12, 2, 1, 17, 4, num_labels=5),
              "problem_type inferred from float labels 0, .5 and 1", problem=MULTI_LABEL,
              mask="right"),
    _sequence("multi-given", 906, 4, 8, sizes(
              23, 12, 2, 1, 17, 3, num_labels=5, problem_type=MULTI_LABEL, hidden_act="tanh"),
              "problem_type given; inputs_embeds; tanh", problem=MULTI_LABEL, embeds=True),
    _sequence("upstream", 907, 2, 9, sizes(29, 12, 3, 1, 17, 2, num_labels=5, hidden_act="silu"),
              "upstream gradients on logits, hidden states and attentions; silu", mask="holes",
              upstream=("logits", *EVERYTHING)),
    _sequence("decoder", 908, 5, 7, sizes(
              23, 12, 3, 1, 17, 2, num_labels=2, is_decoder=True),
              "causal: the pooled first token sees itself alone", mask="right"),
    _choice("plain", 911, 5, 7, sizes(29, 12, 2, 1, 17, 64),
            "ids (B, C, L): three choices, no mask", choices=3),
    _choice("right", 912, 2, 9, sizes(31, 12, 3, 1, 17, 3, hidden_act="gelu_new"),
            "five choices, right padding that differs from choice to choice, token types; gelu_new",
            choices=5, mask="right", token_types=True, pads=True),
    _choice("embeds", 913, 5, 7, sizes(23, 12, 3, 1, 17, 2),
            "inputs_embeds (B, C, L, D), two choices, head_mask (N,), mask with holes",
            choices=2, embeds=True, head_mask="shared", mask="holes"),
    _choice("upstream", 914, 2, 7, sizes(29, 12, 3, 1, 17, 2),
            "upstream gradients on logits (B, C), hidden states (B C, L, D) and attentions",
            choices=5, upstream=("logits", *EVERYTHING)),
    _token("plain", 921, 3, 9, sizes(31, 12, 2, 1, 17, 64, num_labels=5),
           "one label a token, some ignored (-100)", token_types=True),
    _token("left", 922, 2, 11, sizes(29, 12, 3, 1, 17, 3, num_labels=5, layer_norm_eps=1e-5),
           "left padding, labels also at masked tokens; head_mask (N,) with a removed head; "
           "layer_norm_eps 1e-5", mask="left", head_mask="one-removed", pads=True),
    _token("decoder", 923, 5, 7, sizes(29, 12, 3, 1, 17, 2, num_labels=2, is_decoder=True),
           "causal", mask="right"),
    _token("upstream", 924, 2, 8, sizes(23, 12, 3, 1, 17, 2, num_labels=7),
           "inputs_embeds; upstream gradients on logits, hidden states and attentions",
           embeds=True, upstream=("logits", *EVERYTHING)),
    _question("plain", 931, 2, 7, sizes(29, 12, 3, 1, 17, 64), "positions inside the sequence"),
    _question("outside", 932, 4, 9, sizes(29, 12, 2, 2, 17, 3, hidden_act="silu"),
              "a start at L and an end beyond it are not counted; right padding; silu",
              mask="right", token_types=True),
    _question("pruned", 933, 5, 8, sizes(
              29, 12, 3, 1, 17, 2, pruned_heads={0: [0]}, chunk_size_feed_forward=2),
              "a pruned head, and feed-forward two tokens at a time", mask="left", pads=True),
    _question("upstream", 934, 5, 10, sizes(23, 12, 3, 1, 17, 2),
              "upstream gradients on both logits, hidden states and attentions", mask="holes",
              upstream=("start_logits", "end_logits", *EVERYTHING)),
)
# fmt: on
