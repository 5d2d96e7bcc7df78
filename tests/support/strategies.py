"""The strategies of the properties: axes, masks, flags and a seed, which fills the arrays.

The legend of axes is the project's: B batch, L length, D hidden, N heads, d head size, K largest
relative position, V vocabulary, F intermediate. Sizes are small and mostly different, so that exchanged
axes show.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from minizha import (
    MinizhaError,
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
)
from minizha.config_checks import ACTIVATION_NAMES

CLASSES = (
    NezhaModel,
    NezhaForPreTraining,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
)
VISIBLE = ("none", "right", "left", "holes", "square")  # every query sees some key
MASKS = (*VISIBLE, "empty", "empty square")  # some see none
HEAD_MASKS = ("none", "heads", "layers")

B = range(1, 4)
L = range(1, 8)
# LayerNorm of two features gives ±1, and its gradient is 0 or huge: at least four
N_AND_d = ((2, 2), (1, 4), (3, 2), (2, 4), (1, 6), (3, 4), (2, 6), (3, 6))
K = st.integers(0, 8)
V = range(3, 14)
F = range(1, 10)
LAYERS = (1, 1, 2)  # two layers show more mistakes, and take twice the time
TYPES = (1, 2, 3)
PAD = (None, 0, 1, -1)
EPS = (1e-12, 1e-5)
TIED = (True, False)
SEED = st.integers(0, 2**32 - 1)


def one_of_all(*axes):
    """One combination of the values of the axes, in a single draw, which is faster than several."""
    return st.sampled_from(tuple(itertools.product(*axes)))


DEPTHS = one_of_all(N_AND_d, LAYERS)
WIDTHS = one_of_all(V, F)
VARIANTS = one_of_all(ACTIVATION_NAMES, EPS, TIED)
EMBEDDINGS = one_of_all(TYPES, PAD)


@st.composite
def configs(draw, **fixed):
    """A small NezhaConfig; the values in ``fixed`` are not drawn."""
    (heads, head_size), layers = draw(DEPTHS)
    vocabulary, intermediate = draw(WIDTHS)
    activation, eps, tied = draw(VARIANTS)
    types, pad = draw(EMBEDDINGS)
    drawn = {
        "vocab_size": vocabulary,
        "hidden_size": heads * head_size,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "intermediate_size": intermediate,
        "max_relative_position": draw(K),
        "type_vocab_size": types,
        "hidden_act": activation,
        "layer_norm_eps": eps,
        "pad_token_id": None if pad is None else pad % vocabulary,
        "tie_word_embeddings": tied,
    }
    return NezhaConfig.from_dict(drawn | fixed)  # which keeps any key


@dataclass(frozen=True)
class Case:
    """A configuration, the sizes and kinds of the inputs, and the seed of all numbers."""

    config: NezhaConfig
    B: int
    L: int
    mask: str
    head_mask: str
    seed: int

    def rng(self, purpose):
        """A generator for one purpose, independent of the others."""
        return np.random.default_rng([self.seed, *purpose.encode()])

    def pick(self, purpose, options):
        """One of the options, by the seed."""
        return options[int(self.rng(purpose).integers(len(options)))]

    def with_config(self, **changes):
        """The same case with some values of its configuration changed."""
        return replace(self, config=self.config.replace(**changes))

    def model(self, model_class, backend, dtype="float64", **options):
        """A model whose weights are large enough for mistakes to show."""
        model = model_class(self.config, dtype=dtype, backend=backend, **options)
        model.load_state_dict(weights(model, self.rng("weights")))
        return model

    def inputs(self):
        """The keyword arguments that every class takes, without those that are None."""
        config, rng = self.config, self.rng("inputs")
        inputs = {
            "input_ids": rng.integers(0, config.vocab_size, (self.B, self.L)),
            "token_type_ids": rng.integers(0, config.type_vocab_size, (self.B, self.L)),
            "attention_mask": attention_mask(self.mask, self.B, self.L, rng),
            "head_mask": head_mask(self.head_mask, config, rng),
        }
        return {name: array for name, array in inputs.items() if array is not None}

    def labels(self, model_class, labelled=0.6):
        """Labels for a class: each entry is labelled with this probability, at least one of each."""
        rng = self.rng("labels")
        words = rng.integers(0, self.config.vocab_size, (self.B, self.L))
        sentences = rng.integers(0, 2, self.B)
        for labels in (words, sentences):
            mask = rng.random(labels.shape) < labelled
            mask.flat[rng.integers(mask.size)] = True
            labels[~mask] = -100
        return {
            NezhaModel: {},
            NezhaForPreTraining: {"labels": words, "next_sentence_label": sentences},
            NezhaForMaskedLM: {"labels": words},
            NezhaForNextSentencePrediction: {"labels": sentences},
        }[model_class]


def cases(masks=MASKS, head_masks=HEAD_MASKS, lengths=L, batches=B, **fixed):
    """A :class:`Case`; the keywords narrow it, those left over are the configuration's."""
    inputs = one_of_all(batches, lengths, masks, head_masks)
    return st.builds(
        lambda config, inputs, seed: Case(config, *inputs, seed), configs(**fixed), inputs, SEED
    )


def weights(model, rng, std=0.4):
    """Random values for every parameter, biases and LayerNorm included."""
    arrays = {}
    for name, array in model.state_dict().items():
        centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        arrays[name] = (centre + std * rng.standard_normal(array.shape)).astype(model.dtype)
    return arrays


def attention_mask(kind, B, L, rng):
    """1 where a token may be seen; (B, L), (B, L, L) for the square kinds, or None."""
    if kind == "none":
        return None
    if kind in ("right", "left"):
        real = rng.integers(1, L + 1, (B, 1))
        mask = (np.arange(L) < real).astype(np.int64)
        return mask if kind == "right" else mask[:, ::-1].copy()
    shape = (B, L, L) if "square" in kind else (B, L)
    mask = rng.integers(0, 2, shape)
    seen = rng.integers(0, L, shape[:-1])
    np.put_along_axis(mask, seen[..., None], 1, axis=-1)
    if "empty" in kind:
        rows = mask.reshape(-1, L)
        rows[rng.random(len(rows)) < 0.4] = 0
        rows[rng.integers(len(rows))] = 0
    return mask


def head_mask(kind, config, rng):
    """Zeros, ones and fractions, (N,) or (layers, N), or None."""
    if kind == "none":
        return None
    heads = config.num_attention_heads
    shape = (heads,) if kind == "heads" else (config.num_hidden_layers, heads)
    return np.where(rng.random(shape) < 0.5, rng.integers(0, 2, shape), rng.uniform(-1, 2, shape))


def holds_for(strategy):
    """``given(case=strategy)``; the controls find the strategy again under ``test.strategy``."""

    def decorate(check):
        test = given(case=strategy)(check)
        test.strategy = strategy
        return test

    return decorate


def fails(test, backend, examples) -> bool:
    """Whether the property fails on one of so many examples of its strategy, by an assertion or an
    error of minizha."""
    failed = []

    @settings(max_examples=examples, phases=[Phase.generate])
    @given(case=test.strategy)
    def search(case):
        if failed:
            return
        try:
            test.hypothesis.inner_test(case, backend)
        except (AssertionError, MinizhaError):
            failed.append(case)

    search()
    return bool(failed)
