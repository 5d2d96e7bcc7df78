"""What is measured: sizes, inputs, and the matrix products that a case can't do without."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

BASE = {
    "vocab_size": 21128, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072,
    "max_relative_position": 64, "max_position_embeddings": 512,
}  # fmt: skip
"""The sizes of nezha-cn-base."""
SMALL = {
    "vocab_size": 3350, "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 512,
    "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
"""What differs from them in the model that ``minizha pretrain`` trains."""
LABELLED = 0.15
"""The share of tokens that have a label in training."""
TASKS = ("body", "logits", "training", "loading")


class Case(NamedTuple):
    """``task``: "body" is NezhaModel's forward pass; "logits" that of NezhaForPreTraining, with the logits
    of every token; "training" a step with dropout, clipping and AdamW; "loading" reads the weights."""

    name: str
    task: str
    B: int
    L: int
    layers: int = 4
    changes: dict[str, Any] = {}  # noqa: RUF012  # read only

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of NezhaConfig."""
        sizes = BASE | {"num_hidden_layers": self.layers} | self.changes
        longest = max(self.L, sizes["max_position_embeddings"])
        return sizes | {"max_position_embeddings": longest}


CASES = (
    Case("body-8x128", "body", 8, 128),
    Case("body-2x512", "body", 2, 512),
    Case("logits-8x128", "logits", 8, 128),
    Case("logits-2x512", "logits", 2, 512),
    Case("body-1x128-12-layers", "body", 1, 128, 12),
    Case("body-1x16-12-layers", "body", 1, 16, 12),
    Case("body-1x1024", "body", 1, 1024),
    Case("body-1x2048", "body", 1, 2048),
    Case("training-8x128", "training", 8, 128),
    Case("training-2x512", "training", 2, 512),
    Case("training-8x128-12-layers", "training", 8, 128, 12),
    Case("training-small", "training", 32, 64, 3, SMALL),
    Case("loading-12-layers", "loading", 0, 0, 12),
)
"""Names say task, batch × length, and the layers if there are not 4."""

SCALING = {
    "L": [Case(f"L={L}", "body", 1, L, 2) for L in (64, 128, 256, 512, 1024, 2048, 4096)],
    "B": [Case(f"B={B}", "training", B, 128, 2) for B in (1, 2, 4, 8, 16)],
    "layers": [Case(f"layers={n}", "training", 4, 128, n) for n in (1, 2, 4, 8, 12)],
    "K": [
        Case(f"K={K}", "body", 2, 512, 2, {"max_relative_position": K}) for K in (4, 16, 64, 256)
    ],
}
"""Series in which one size grows: forward passes for L and K, training steps for B and the layers."""

_TINY = SMALL | {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64}
QUICK = (
    Case("quick-body", "body", 2, 16, 2, _TINY),
    Case("quick-logits", "logits", 2, 16, 2, _TINY),
    Case("quick-training", "training", 2, 16, 2, _TINY),
    Case("quick-loading", "loading", 0, 0, 2, _TINY),
)
"""A try of the harness in seconds; the figures mean nothing."""


def find(name: str) -> Case:
    """The case of that name.

    Raises:
        KeyError: there is none.
    """
    every = [*CASES, *QUICK, *(case for series in SCALING.values() for case in series)]
    return {case.name: case for case in every}[name]


def inputs(case: Case) -> dict[str, np.ndarray]:
    """Ids and token types, and labels in training; the same in every process."""
    rng, V = np.random.default_rng(0), case.config["vocab_size"]
    B, L = case.B, case.L
    batch = {
        "input_ids": rng.integers(1, V, (B, L)),
        "token_type_ids": np.tile(np.arange(L) >= L // 2, (B, 1)).astype(np.int64),
    }
    if case.task == "training":
        labelled = rng.random((B, L)) < LABELLED
        labelled[:, 0] = True  # at least one a row
        batch["labels"] = np.where(labelled, rng.integers(0, V, (B, L)), -100)
        batch["next_sentence_label"] = rng.integers(0, 2, B)
    return batch


class Product(NamedTuple):
    """``count`` products of (batch, m, k) with (batch, k, n)."""

    batch: int
    m: int
    k: int
    n: int
    count: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each pair of numbers."""
        return 2 * self.batch * self.m * self.k * self.n * self.count


def products(case: Case) -> list[Product]:
    """The matrix products of one run; in training the vocabulary sees labelled rows only."""
    if case.task == "loading":
        return []
    c = case.config
    D, F, N, V, K = (
        c[name]
        for name in (
            "hidden_size", "intermediate_size", "num_attention_heads", "vocab_size",
            "max_relative_position",
        )
    )  # fmt: skip
    B, L, layers, d = case.B, case.L, case.layers, D // N
    T = B * L
    found = [
        Product(1, T, D, D, 4 * layers),  # query, key, value, output
        Product(1, T, D, F, layers),
        Product(1, T, F, D, layers),
        Product(B * N, L, d, L, layers),  # scores
        Product(B * N, L, L, d, layers),  # context
        Product(1, T * N, d, 2 * K + 1, layers),  # relative keys
        Product(1, T * N, 2 * K + 1, d, layers),  # relative values
        Product(1, B, D, D, 1),  # pooler
    ]
    if case.task != "body":
        rows = int((inputs(case)["labels"] >= 0).sum()) if case.task == "training" else T
        found += [Product(1, rows, D, D, 1), Product(1, rows, D, V, 1)]
    if (
        case.task == "training"
    ):  # y = x w gives dx = dy wᵀ and dw = xᵀ dy; the table has no gradient
        backward = [(b, m, n, k, count) for b, m, k, n, count in found]
        backward += [
            (b, k, m, n, count) for i, (b, m, k, n, count) in enumerate(found) if i not in (5, 6)
        ]
        found += [Product(*sizes) for sizes in backward]
    return found


def gigaflops(case: Case) -> float:
    """10⁹ floating-point operations of the matrix products of one run."""
    return sum(product.flops for product in products(case)) / 1e9
