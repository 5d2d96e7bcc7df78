"""The negative cases of make_v1.py: inputs that must be refused, each with a control that must not.

A case differs from its control in one argument. It must be refused when the model is made if
`fails` is "model", and at the latest when the model is called if it is "call".
"""

from typing import Any

V, D, N, LAYERS, B, L, P, S = 11, 8, 2, 2, 2, 3, 2, 4
CONFIG = {
    "vocab_size": V,
    "hidden_size": D,
    "num_attention_heads": N,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 9,
    "max_relative_position": 2,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "is_decoder": False,
    "add_cross_attention": False,
    "num_labels": 3,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
}
IDS = [[1, 2, 3], [4, 5, 0]]


def full(value: float, *shape: int) -> Any:
    """Nested lists of the given shape, filled with one number."""
    return [full(value, *shape[1:]) for _ in range(shape[0])] if shape else value


def past(
    layers: int = LAYERS, arrays: int = 2, batch: int = B, heads: int = N, d: int = D // N
) -> Any:
    """past_key_values of P tokens; the third and fourth array of a layer have S tokens."""
    lengths = (P, P, S, S)[:arrays]
    return [[full(0.5, batch, heads, length, d) for length in lengths] for _ in range(layers)]


def _control(name: str, class_name: str, inputs: dict, config: dict | None = None) -> dict:
    config = CONFIG | (config or {})
    return {"name": name, "class": class_name, "config": config, "inputs": inputs}


MODEL, PRETRAINING, MASKED = "NezhaModel", "NezhaForPreTraining", "NezhaForMaskedLM"
SEQUENCE, CHOICE = "NezhaForSequenceClassification", "NezhaForMultipleChoice"
TOKEN, QUESTION = "NezhaForTokenClassification", "NezhaForQuestionAnswering"
DECODER = {"is_decoder": True}
CROSS = DECODER | {"add_cross_attention": True}
MULTI, REGRESSION = {"problem_type": "multi_label_classification"}, {"problem_type": "regression"}

ENCODER_INPUTS = {
    "input_ids": IDS,
    "attention_mask": full(1, B, L),
    "token_type_ids": [[0, 0, 1], [0, 1, 1]],
    "head_mask": full(1.0, LAYERS, N),
}
CROSS_INPUTS = {
    "input_ids": IDS,
    "attention_mask": full(1, B, P + L),
    "past_key_values": past(),
    "encoder_hidden_states": full(0.5, B, S, D),
    "encoder_attention_mask": full(1, B, S),
}
CONTROLS = [
    _control("model", MODEL, ENCODER_INPUTS),
    _control("embeds", MODEL, {"inputs_embeds": full(0.5, B, L, D)}),
    _control("masks-3d", MODEL, {"input_ids": IDS, "attention_mask": full(0, B, L, L),
                                 "head_mask": full(1.0, N)}),
    _control("pretraining", PRETRAINING,
             {"input_ids": IDS, "labels": [[1, -100, V - 1], [-100, 0, 2]],
              "next_sentence_label": [1, -100]}),
    _control("decoder", MODEL, CROSS_INPUTS, CROSS),
    _control("past-of-both", MODEL, {"input_ids": IDS, "past_key_values": past(arrays=4)}, CROSS),
    _control("sequence", SEQUENCE, {"input_ids": IDS, "labels": [2, -100]}),
    _control("sequence-several", SEQUENCE, {"input_ids": IDS, "labels": [[0.0, 1.0, 0.5]] * B}, MULTI),
    _control("sequence-numbers", SEQUENCE,
             {"input_ids": IDS, "labels": [[-7.5, 1.0, 0.5]] * B}, REGRESSION),
    _control("choice", CHOICE, {"input_ids": [IDS, IDS, IDS], "labels": [1, 0, -100]}),
    _control("token", TOKEN, {"input_ids": IDS, "labels": [[0, 1, 2], [-100, -100, 0]]}),
    _control("question", QUESTION, {"input_ids": IDS, "start_positions": [0, 9], "end_positions": [2, L]}),
]  # fmt: skip
_BY_NAME = {case["name"]: case for case in CONTROLS}


def _differs(control: str, name: str, why: str, **inputs: Any) -> dict:
    """The control with other inputs; None removes one."""
    case = _BY_NAME[control]
    changed = {n: v for n, v in (case["inputs"] | inputs).items() if v is not None}
    return case | {"name": name, "inputs": changed, "control": control, "fails": "call", "why": why}


def _configured(name: str, why: str, control: str = "model", **config: Any) -> dict:
    """The control with other values in its configuration."""
    case = _BY_NAME[control]
    changed = case["config"] | config
    return case | {
        "name": name,
        "config": changed,
        "control": control,
        "fails": "model",
        "why": why,
    }


# fmt: off
NEGATIVE = [
    _differs("model", "id-too-large", "an id of vocab_size", input_ids=[[1, 2, V], [4, 5, 0]]),
    _differs("model", "id-negative", "a negative id, which some libraries count from the end",
             input_ids=[[1, 2, 3], [4, -1, 0]]),
    _differs("model", "ids-as-floats", "ids that are no integers",
             input_ids=[[1.5, 2.0, 3.0], [4.0, 5.0, 0.0]]),
    _differs("model", "ids-of-one-axis", "input_ids (L,)", input_ids=[1, 2, 3],
             attention_mask=None, token_type_ids=None),
    _differs("model", "no-token", "L = 0", input_ids=[[], []], attention_mask=None,
             token_type_ids=None),
    _differs("model", "token-type-too-large", "a token type of type_vocab_size",
             token_type_ids=[[0, 0, 2], [0, 1, 1]]),
    _differs("model", "token-types-shorter", "token_type_ids of another length than the ids",
             token_type_ids=[[0, 0], [0, 1]]),
    _differs("model", "neither-ids-nor-embeds", "neither input_ids nor inputs_embeds", input_ids=None,
             attention_mask=None, token_type_ids=None),
    _differs("embeds", "both-ids-and-embeds", "both input_ids and inputs_embeds", input_ids=IDS),
    _differs("embeds", "embeds-too-narrow", "inputs_embeds of another width than hidden_size",
             inputs_embeds=full(0.5, B, L, D - 1)),
    _differs("model", "mask-longer", "a mask (B, L + 1) without a past",
             attention_mask=full(1, B, L + 1)),
    _differs("model", "mask-of-one-example", "a mask (1, L) for two examples",
             attention_mask=full(1, 1, L)),
    _differs("model", "mask-4d", "a mask (B, 1, 1, L), as some libraries want it",
             attention_mask=full(1, B, 1, 1, L)),
    _differs("model", "mask-to-be-added", "a mask of 0 and -10000, to be added",
             attention_mask=[[0, 0, -10000], [0, 0, 0]]),
    _differs("masks-3d", "mask-3d-other-queries", "a mask (B, L - 1, L)",
             attention_mask=full(1, B, L - 1, L)),
    _differs("masks-3d", "head-mask-of-layers", "a head mask (layers + 1,) where (N,) is expected",
             head_mask=full(1.0, LAYERS + 1)),
    _differs("model", "head-mask-transposed", "a head mask of three rows for two layers",
             head_mask=full(1.0, LAYERS + 1, N)),
    _differs("pretraining", "label-too-large", "a label of vocab_size",
             labels=[[1, -100, V], [-100, 0, 2]]),
    _differs("pretraining", "label-minus-one", "-1 as the label to ignore; only -100 is",
             labels=[[1, -1, 2], [-1, 0, 2]]),
    _differs("pretraining", "labels-shorter", "labels of another length than the ids",
             labels=[[1, -100], [-100, 0]]),
    _differs("pretraining", "pair-label-two", "a next-sentence label of 2", next_sentence_label=[1, 2]),
    _differs("pretraining", "pair-labels-of-two-axes", "next_sentence_label (B, 1)",
             next_sentence_label=[[1], [0]]),
    _differs("model", "past-without-decoder", "past_key_values where is_decoder is False",
             past_key_values=past(), attention_mask=None),
    _differs("decoder", "past-of-other-layers", "past_key_values with one layer too many",
             past_key_values=past(layers=LAYERS + 1)),
    _differs("decoder", "past-of-three-arrays", "three arrays a layer in the past",
             past_key_values=past(arrays=3)),
    _differs("decoder", "past-of-other-heads", "past_key_values with one head too many",
             past_key_values=past(heads=N + 1)),
    _differs("decoder", "past-of-other-batch", "past_key_values of another batch size",
             past_key_values=past(batch=B + 1)),
    _differs("decoder", "mask-without-past", "a mask (B, L) that leaves the past out",
             attention_mask=full(1, B, L)),
    _differs("model", "encoder-without-cross-attention",
             "encoder_hidden_states where add_cross_attention is False",
             encoder_hidden_states=full(0.5, B, S, D)),
    _differs("decoder", "encoder-mask-alone", "encoder_attention_mask without an encoder's states",
             encoder_hidden_states=None),
    _differs("decoder", "encoder-mask-of-the-decoder", "encoder_attention_mask (B, L) where S > L",
             encoder_attention_mask=full(1, B, L)),
    _differs("decoder", "encoder-of-other-width", "an encoder of another hidden_size",
             encoder_hidden_states=full(0.5, B, S, D + 1)),
    _differs("past-of-both", "past-mixed", "four arrays in one layer and two in the other",
             past_key_values=[past(arrays=4)[0], past(arrays=2)[0]]),
    _differs("sequence", "class-too-large", "a label of num_labels", labels=[3, 0]),
    _differs("sequence-several", "target-above-one", "a target of several labels above 1",
             labels=[[0.0, 2.0, 0.5]] * B),
    _differs("sequence-numbers", "regression-other-columns", "two numbers where three are expected",
             labels=[[-7.5, 1.0]] * B),
    _differs("choice", "choice-too-large", "a label as large as the number of choices",
             labels=[2, 0, 1]),
    _differs("choice", "choices-without-an-axis", "input_ids (B, L) for multiple choice",
             input_ids=IDS, labels=[0, 0]),
    _differs("token", "token-class-negative", "a label of -2", labels=[[0, 1, -2], [-100, -100, 0]]),
    _differs("question", "start-without-end", "start_positions without end_positions",
             end_positions=None),
    _differs("question", "positions-as-floats", "positions that are no integers",
             start_positions=[0.5, 1.0]),
    _configured("hidden-not-divisible", "hidden_size is no multiple of num_attention_heads",
                num_attention_heads=3),
    _configured("head-size-odd", "an odd head size: sines and cosines come in pairs", hidden_size=6),
    _configured("activation-unknown", "an activation function that nobody knows",
                hidden_act="gelu_10"),
    _configured("vocab-size-zero", "an empty vocabulary", vocab_size=0, pad_token_id=None),
    _configured("eps-negative", "a negative layer_norm_eps", layer_norm_eps=-1e-12),
    _configured("k-negative", "a negative max_relative_position", max_relative_position=-1),
    _configured("dropout-one", "a dropout that leaves nothing", hidden_dropout_prob=1.0),
    _configured("pad-outside", "a padding token outside of the vocabulary", pad_token_id=V),
    _configured("all-heads-pruned", "a layer without a head", pruned_heads={"0": [0, 1]}),
    _configured("cross-without-decoder", "add_cross_attention without is_decoder", "decoder",
                is_decoder=False),
    _configured("other-architecture", "the configuration of another architecture",
                model_type="bert"),
]
# fmt: on
