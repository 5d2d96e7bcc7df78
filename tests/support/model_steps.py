"""Whole steps of models, forward and backward, of any sizes: what the tests of shapes run."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForMultipleChoice,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaForQuestionAnswering,
    NezhaForSequenceClassification,
    NezhaForTokenClassification,
    NezhaModel,
)
from minizha.backend import to_host
from minizha.ops.activation import ACTIVATIONS


class Sizes(NamedTuple):
    """The axes' sizes, and some that are no axis: ``unpruned`` heads are left in the first layer of
    a pruned model, ``types`` is the number of token types, ``chunk`` the number of tokens that the
    feed-forward network takes at a time."""

    B: int
    L: int
    N: int
    d: int  # even: sines and cosines alternate
    K: int
    V: int
    F: int
    C: int
    P: int
    S: int
    M: int
    unpruned: int
    types: int
    chunk: int

    @property
    def D(self) -> int:
        return self.N * self.d

    def legend(self, *without: str, **changes: int) -> dict[str, int]:
        """The symbols that mean the same in every function of a step, but for those ``without``."""
        found = {
            name: getattr(self, name) for name in ("B", "L", "N", "d", "K", "V", "F", "D", "C")
        }
        return {name: n for name, n in (found | changes).items() if name not in without}

    def config(self, **changes: Any) -> NezhaConfig:
        """Two layers of these sizes."""
        sizes = {
            "vocab_size": self.V,
            "hidden_size": self.D,
            "num_hidden_layers": 2,
            "num_attention_heads": self.N,
            "intermediate_size": self.F,
            "max_relative_position": self.K,
            "type_vocab_size": self.types,
            "num_labels": self.C,
        }
        return NezhaConfig(**(sizes | changes))

    def decoder(self, **changes: Any) -> NezhaConfig:
        """The same as a decoder with cross-attention."""
        return self.config(is_decoder=True, add_cross_attention=True, **changes)

    def pruned(self) -> dict[int, list[int]]:
        """The first layer's heads that ``unpruned`` leaves out."""
        return {0: list(range(self.N - self.unpruned))}


# in each row all axes differ, and so do the sums and products among shapes: P+L, P+S, N·d, 2K+1
# and B·L; K is above L, below it, and 1
SIZES = (
    Sizes(B=7, L=10, N=5, d=6, K=9, V=34, F=22, C=4, P=3, S=11, M=15, unpruned=2, types=9, chunk=4),
    Sizes(
        B=10, L=9, N=4, d=8, K=14, V=23, F=25, C=11, P=5, S=16, M=13, unpruned=3, types=7, chunk=2
    ),
    Sizes(
        B=5, L=11, N=3, d=8, K=4, V=27, F=30, C=23, P=4, S=13, M=12, unpruned=2, types=7, chunk=3
    ),
    Sizes(
        B=6, L=7, N=5, d=8, K=1, V=30, F=24, C=19, P=2, S=10, M=20, unpruned=4, types=14, chunk=4
    ),
    Sizes(
        B=4, L=8, N=5, d=10, K=6, V=29, F=28, C=17, P=11, S=15, M=16, unpruned=3, types=9, chunk=3
    ),
)


def pretraining_step(sizes: Sizes, backend: str, **changes: Any) -> None:
    """In train mode, with every argument of a call; ``changes`` are the configuration's."""
    model = NezhaForPreTraining(sizes.config(**changes), backend=backend).train()
    rng, shape = np.random.default_rng(0), (sizes.B, sizes.L)
    labels = np.full(sizes.B * sizes.L, -100)
    labels[rng.permutation(labels.size)[: sizes.M]] = rng.integers(0, sizes.V, sizes.M)
    out = model(
        input_ids=rng.integers(1, sizes.V, shape),
        attention_mask=rng.integers(0, 2, shape),
        token_type_ids=rng.integers(0, sizes.types, shape),
        head_mask=rng.random((2, sizes.N)),
        labels=labels.reshape(shape),
        next_sentence_label=np.resize([0, 1, 1, -100, 0], sizes.B),
    )
    out.backward()
    out.backward(loss=2.0, prediction_logits=np.ones((*shape, sizes.V)))


def classifying_step(sizes: Sizes, backend: str, problem: str, labels: Any) -> None:
    """One of the three losses that ``problem_type`` names."""
    config = sizes.config(problem_type=problem)
    model = NezhaForSequenceClassification(config, backend=backend)
    model(np.ones((sizes.B, sizes.L), int), labels=labels).backward()


def tagging_step(sizes: Sizes, backend: str) -> None:
    """A class for each token, from word vectors that are passed in."""
    rng, shape = np.random.default_rng(0), (sizes.B, sizes.L)
    model = NezhaForTokenClassification(sizes.config(), backend=backend).train()
    words = rng.standard_normal((*shape, sizes.D))
    model(inputs_embeds=words, labels=rng.integers(0, sizes.C, shape)).backward()


def answering_step(sizes: Sizes, backend: str) -> None:
    """Where the answer starts and ends; one of the ends is beyond the text."""
    model = NezhaForQuestionAnswering(sizes.config(), backend=backend)
    ends = np.arange(sizes.B) + sizes.L - sizes.B // 2
    out = model(np.ones((sizes.B, sizes.L), int), start_positions=ends - 1, end_positions=ends)
    out.backward(loss=1.0, start_logits=np.ones((sizes.B, sizes.L)))


def choosing_step(sizes: Sizes, backend: str) -> None:
    """One of C choices."""
    model = NezhaForMultipleChoice(sizes.config(), backend=backend)
    labels = np.arange(sizes.B) % sizes.C
    model(np.ones((sizes.B, sizes.C, sizes.L), int), labels=labels).backward()


def next_sentence_step(sizes: Sizes, backend: str) -> None:
    """The second pre-training task alone."""
    model = NezhaForNextSentencePrediction(sizes.config(), backend=backend)
    model(np.ones((sizes.B, sizes.L), int), labels=np.arange(sizes.B) % 2).backward()


def decoding_step(sizes: Sizes, backend: str, arrays: int, **changes: Any) -> None:
    """With a past of 2 or of 4 ``arrays`` a layer; of 4, two are keys and values of the encoder.
    Every output of the call gets an upstream gradient."""
    B, L, N, d, P, S = sizes.B, sizes.L, sizes.N, sizes.d, sizes.P, sizes.S
    rng, model = np.random.default_rng(0), NezhaModel(sizes.decoder(**changes), backend=backend)
    past = [
        [rng.standard_normal((B, heads, P, d)) for _ in range(2)]
        + [rng.standard_normal((B, N, S, d)) for _ in range(arrays - 2)]
        for heads in (sizes.unpruned if changes.get("pruned_heads") else N, N)
    ]
    out = model(
        rng.integers(1, sizes.V, (B, L)),
        head_mask=None if changes.get("pruned_heads") else rng.random(N),
        past_key_values=past,
        encoder_hidden_states=rng.standard_normal((B, S, sizes.D)),
        output_attentions=True,
        output_hidden_states=True,
        record=True,
    )
    out.backward(last_hidden_state=rng.standard_normal((B, L, sizes.D)))
    names = ("hidden_states", "attentions", "cross_attentions", "past_key_values")
    out.backward(**{name: _ones_like(out[name]) for name in names})


def _ones_like(tree: Any) -> Any:
    if isinstance(tree, (tuple, list)):
        return tuple(_ones_like(node) for node in tree)
    return np.ones_like(to_host(tree))


def generating_step(sizes: Sizes, backend: str) -> None:
    """Two tokens after one: the second call reads one token and a past of one."""
    model = NezhaForMaskedLM(sizes.decoder(), backend=backend)
    model.generate(np.ones((sizes.B, 1), int), max_new_tokens=2)


def every_step(sizes: Sizes, backend: str) -> Iterator[tuple[Callable[[], None], dict[str, int]]]:
    """Steps that together reach every line of every layer, each with its legend."""
    b, legend = backend, sizes.legend
    for act in ACTIVATIONS:
        yield lambda act=act: pretraining_step(sizes, b, hidden_act=act), legend()
    chunks = {"chunk_size_feed_forward": sizes.chunk, "tie_word_embeddings": False}
    yield lambda: pretraining_step(sizes, b, **chunks), legend()
    yield lambda: pretraining_step(sizes, b, pruned_heads=sizes.pruned()), legend("N")
    yield from ((lambda a=a: decoding_step(sizes, b, a), legend()) for a in (2, 4))
    yield lambda: decoding_step(sizes, b, 2, pruned_heads=sizes.pruned()), legend("N")
    wanted = np.ones((sizes.B, sizes.C))
    for problem in ("regression", "multi_label_classification"):
        yield lambda p=problem: classifying_step(sizes, b, p, wanted), legend()
    labels = np.arange(sizes.B) % sizes.C
    yield lambda: classifying_step(sizes, b, "single_label_classification", labels), legend()
    yield lambda: tagging_step(sizes, b), legend()
    yield lambda: next_sentence_step(sizes, b), legend("C")
    yield lambda: answering_step(sizes, b), legend("C")
    yield lambda: choosing_step(sizes, b), legend("B", "C")  # B·C texts and one column
    yield lambda: generating_step(sizes, b), legend(L=1)
