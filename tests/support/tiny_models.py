"""Models of a few hundred parameters, all far from 0, and inputs for them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minizha
from minizha import NezhaConfig
from minizha.ops.cross_entropy import IGNORED
from tests.support.running import copied, perturb

SIZES = {
    "vocab_size": 11,
    "hidden_size": 4,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 5,
    "max_relative_position": 1,
    "type_vocab_size": 2,
    "initializer_range": 0.3,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.3,
}

SMALL = NezhaConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=12,
    max_relative_position=3,
)
"""Every axis has another length; for tests that need any model."""


def tiny_model(class_name, sizes, backend, dtype, train):
    """A model of these sizes, its parameters perturbed; in train mode with a fixed seed."""
    config = NezhaConfig(**sizes)
    model = getattr(minizha, class_name)(config, dtype="float64", backend=backend)
    perturb(model)
    model = model.astype(dtype)
    return model.train(seed=0) if train else model


@dataclass(frozen=True)
class Tiny:
    """A case: what differs from SIZES, and what the inputs hold.

    mask: "2d", "left" (2-D, padded on the left), "3d", "row" (3-D, one query sees nothing) or
    "example" (2-D, one example sees nothing); head_mask: "heads" or "layers"; pad: whether the ids
    hold the padding token.

    Of decoders: past: the number of cached arrays a layer, of P tokens; S: the number of tokens of an
    encoder; encoder_mask: "2d", "3d" or "row".
    """

    class_name: str = "NezhaForPreTraining"
    config: dict[str, Any] = field(default_factory=dict)
    B: int = 2
    L: int = 4
    mask: str | None = None
    types: bool = False
    head_mask: str | None = None
    embeds: bool = False
    pad: bool = False
    labels: tuple[str, ...] = ("labels", "next_sentence_label")
    ignoring: bool = False
    train: bool = False
    past: int = 0
    S: int = 0
    encoder_mask: str | None = None

    @property
    def P(self):
        return 2 if self.past else 0

    def model(self, backend, dtype="float64"):
        return tiny_model(self.class_name, SIZES | self.config, backend, dtype, self.train)

    def inputs(self):
        config, rng, shape = SIZES | self.config, np.random.default_rng(2), (self.B, self.L)
        inputs: dict[str, Any] = {}
        if self.embeds:
            inputs["inputs_embeds"] = rng.standard_normal((*shape, config["hidden_size"]))
        else:
            ids = rng.integers(1, config["vocab_size"], shape)
            ids[0, :2] = 7  # one word twice
            if self.pad:
                ids[-1, -2:] = 0
            inputs["input_ids"] = ids
        if self.types:
            inputs["token_type_ids"] = rng.integers(0, config["type_vocab_size"], shape)
        if self.mask:
            inputs["attention_mask"] = self._mask(self.mask, self.P + self.L, self.P, rng)
        if self.head_mask:
            heads = rng.random((config["num_hidden_layers"], config["num_attention_heads"]))
            inputs["head_mask"] = heads if self.head_mask == "layers" else heads[0]
        return inputs | self._labels(rng, config) | self._of_decoders(config, rng)

    def _mask(self, kind, keys, first, rng):
        if kind in ("2d", "left", "example"):
            mask = np.ones((self.B, keys), int)
            mask[-1, 0 if kind == "example" else keys // 2 :] = 0
            mask = mask[:, ::-1].copy() if kind == "left" else mask
        else:
            # each query sees at least its own token
            diagonal = np.eye(self.L, keys, first, dtype=int)
            mask = rng.integers(0, 2, (self.B, self.L, keys)) | diagonal
            if kind == "row":
                mask[0, 1] = 0
        return mask

    def _of_decoders(self, config, rng):
        inputs: dict[str, Any] = {}
        D, N = config["hidden_size"], config["num_attention_heads"]
        if self.S:
            inputs["encoder_hidden_states"] = rng.standard_normal((self.B, self.S, D))
        if self.encoder_mask:
            mask = self._mask(self.encoder_mask, self.S, 0, rng)
            mask[..., 0] |= self.encoder_mask == "3d"  # S may be less than L
            inputs["encoder_attention_mask"] = mask
        if self.past:
            pruned, S = config.get("pruned_heads", {}), self.S or 3
            inputs["past_key_values"] = tuple(
                tuple(
                    rng.standard_normal((self.B, N - len(pruned.get(i, ())), self.P, D // N))
                    if j < 2
                    else rng.standard_normal((self.B, N, S, D // N))
                    for j in range(self.past)
                )
                for i in range(config["num_hidden_layers"])
            )
        return inputs

    def _labels(self, rng, config):
        words, pairs = (
            rng.integers(0, config["vocab_size"], (self.B, self.L)),
            np.arange(self.B) % 2,
        )
        if self.ignoring:
            words[:, 1::2] = IGNORED
            pairs[-1] = IGNORED
        if self.class_name == "NezhaForNextSentencePrediction":
            return {"labels": pairs}
        every = {"labels": words, "next_sentence_label": pairs}
        names = ("labels",) if self.class_name == "NezhaForMaskedLM" else self.labels
        return {name: every[name] for name in names}


MLM, NSP = "NezhaForMaskedLM", "NezhaForNextSentencePrediction"
TWO_LAYERS = {"num_hidden_layers": 2}
UNTIED = {"tie_word_embeddings": False}
DECODER = {"is_decoder": True}
CROSS = DECODER | {"add_cross_attention": True}

TINY = {
    "plain": Tiny(),
    "one head": Tiny(config={"num_attention_heads": 1}),
    "three heads": Tiny(config={"num_attention_heads": 3, "hidden_size": 6}, B=1),
    "two layers": Tiny(config=TWO_LAYERS),
    "one token": Tiny(B=1, L=1),
    "K is 0": Tiny(config={"max_relative_position": 0}),
    "K below L": Tiny(config={"max_relative_position": 2}, L=5),
    "K above L": Tiny(config={"max_relative_position": 9}),
    "mask 2-D, padded": Tiny(mask="2d", pad=True),
    "mask 3-D": Tiny(mask="3d"),
    "mask 3-D, a row sees nothing": Tiny(mask="row", config=TWO_LAYERS, B=1),
    "mask 2-D, an example sees nothing": Tiny(mask="example", config={"max_relative_position": 2}),
    "head mask": Tiny(head_mask="heads"),
    "head mask by layers": Tiny(head_mask="layers", config=TWO_LAYERS),
    "token types": Tiny(types=True, config={"type_vocab_size": 3}),
    **{name: Tiny(config={"hidden_act": name}) for name in ("gelu_new", "relu", "silu", "tanh")},
    "untied": Tiny(config=UNTIED),
    "untied, padded": Tiny(config=UNTIED, pad=True, mask="2d"),
    "no padding token": Tiny(config={"pad_token_id": None}, pad=True),
    "large eps": Tiny(config={"layer_norm_eps": 0.1}),
    "labels partly ignored": Tiny(ignoring=True),
    "masked words alone": Tiny(labels=("labels",), ignoring=True),
    "next sentence alone": Tiny(labels=("next_sentence_label",)),
    "inputs_embeds": Tiny(embeds=True, types=True),
    "dropout": Tiny(train=True),
    "dropout and everything": Tiny(
        train=True, mask="3d", head_mask="layers", types=True, ignoring=True, embeds=True,
        config=TWO_LAYERS | UNTIED | {"hidden_act": "gelu_new"},
    ),
    "masked lm": Tiny(MLM, ignoring=True, mask="2d", pad=True),
    "masked lm, untied, dropout": Tiny(MLM, config=UNTIED, train=True),
    "masked lm, inputs_embeds": Tiny(MLM, embeds=True, head_mask="heads"),
    "next sentence": Tiny(NSP, types=True),
    "next sentence, dropout": Tiny(NSP, config=TWO_LAYERS, train=True, ignoring=True),
}  # fmt: skip
DECODERS = {
    "decoder": Tiny(MLM, config=DECODER),
    "decoder with both heads": Tiny(config=DECODER),
    "decoder, padded": Tiny(MLM, config=DECODER, mask="2d", pad=True),
    "decoder, padded on the left": Tiny(MLM, config=DECODER | TWO_LAYERS, mask="left"),
    "decoder, mask 3-D": Tiny(MLM, config=DECODER, mask="row", ignoring=True),
    "decoder, untied, dropout": Tiny(MLM, config=DECODER | UNTIED, train=True),
    "decoder, inputs_embeds": Tiny(MLM, config=DECODER, embeds=True, types=True),
    "cross-attention": Tiny(MLM, config=CROSS, S=3),
    "cross-attention to nothing": Tiny(MLM, config=CROSS),
    "cross-attention to one token": Tiny(MLM, config=CROSS, S=1, head_mask="heads"),
    "cross-attention to more than L": Tiny(MLM, config=CROSS, S=6, encoder_mask="2d"),
    "cross-attention, mask 3-D": Tiny(MLM, config=CROSS, S=3, encoder_mask="3d", mask="2d"),
    "cross-attention, a row sees nothing": Tiny(MLM, config=CROSS, S=3, encoder_mask="row"),
    "cross-attention, dropout": Tiny(MLM, config=CROSS | TWO_LAYERS, S=3, L=2, train=True),
    "past": Tiny(MLM, config=DECODER | TWO_LAYERS, past=2, L=2),
    "past, mask 2-D": Tiny(MLM, config=DECODER, past=2, L=3, mask="left"),
    "past, mask 3-D": Tiny(MLM, config=DECODER, past=2, mask="3d"),
    "past of one's own alone": Tiny(MLM, config=CROSS, past=2, S=3, encoder_mask="2d"),
    "past of both": Tiny(MLM, config=CROSS, past=4, L=2),
    "past of both, the encoder given again": Tiny(MLM, config=CROSS, past=4, S=3, L=1),
    "past, K is 0": Tiny(MLM, config=CROSS | {"max_relative_position": 0}, past=2, S=3, L=2),
    "past, K above P + L": Tiny(MLM, config=CROSS | {"max_relative_position": 9}, past=2, S=5, L=2),
    "past, dropout": Tiny(MLM, config=CROSS | UNTIED, past=2, S=3, L=2, train=True),
    "past, pruned": Tiny(
        MLM, config=CROSS | {"pruned_heads": {0: [0]}}, past=4, L=2, head_mask="heads"),
    "past, chunked": Tiny(
        MLM, config=CROSS | {"chunk_size_feed_forward": 2}, past=2, S=2, L=3, train=True),
    "decoder and everything": Tiny(
        MLM, past=2, S=5, L=2, B=2, mask="3d", encoder_mask="3d", head_mask="layers", types=True,
        embeds=True, ignoring=True, train=True, config=CROSS | TWO_LAYERS | UNTIED | {
            "pruned_heads": {1: [0]}, "chunk_size_feed_forward": 2, "hidden_act": "gelu_new"},
    ),
}  # fmt: skip
TINY |= DECODERS


def gradients_of(tiny, backend, **changes):
    """The gradients of the loss, of inputs of which some are changed."""
    model = tiny.model(backend)
    model(**(tiny.inputs() | changes)).backward()
    return host_gradients(model)


def host_gradients(model):
    return copied(model.gradients())
