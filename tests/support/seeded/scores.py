"""Mistakes in the scores: table, distances, clipping, scale."""

import math
from types import SimpleNamespace

import numpy as np

from minizha.model import base
from minizha.nezha import attention as blocks
from minizha.nezha import encoder
from minizha.ops import attention as ops
from tests.support.patching import (
    changed_arguments,
    changed_options,
    changed_y,
    remembering,
    replaced,
)
from tests.support.seeded.seeding import BODY, SCORES, Seed

D, REACH = BODY["hidden_size"], 16  # no distance here exceeds REACH

# --- the table ------------------------------------------------------------------------------------


def another_table(name, wrong):
    """The table has the rows ``wrong(K, d)``."""

    def make(monkeypatch):
        def relative_table(K, d, xp=np, dtype="float64"):
            return xp.asarray(np.array(wrong(K, d)), dtype=dtype)

        monkeypatch.setattr(base, "relative_table", relative_table)

    make.__name__ = name
    return make


def sinusoid(p, d, period=lambda m, d: 2 * m / d):
    """The right row p: sine and cosine of each frequency side by side."""
    angles = [p * 10000.0 ** -period(m, d) for m in range(d // 2)]
    return np.array([f(a) for a in angles for f in (math.sin, math.cos)])


def by_row(row):
    """The table whose row p is ``row(p, K, d)``."""
    return lambda K, d: [row(p, K, d) for p in range(2 * K + 1)]


def by_distance(row):
    """A table of ``row(distance, K, d)`` with so many rows that nothing is clipped."""
    return lambda K, d: [row(p - REACH, K, d) for p in range(2 * REACH + 1)]


def clipped(row):
    return by_distance(lambda x, K, d: row(max(-K, min(K, x)), K, d))


def halves(p, d, *period):
    return np.concatenate([sinusoid(p, d, *period)[0::2], sinusoid(p, d, *period)[1::2]])


def d_minus_2(m, d):
    return 2 * m / (d - 2)


def rounded(x, dtype):
    return np.array(x, dtype).astype(float)


def bfloat16(x):
    """The upper halves of the float32 numbers, rounded to even."""
    bits = np.array(x, np.float32).view(np.uint32)
    bits = bits + 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32).astype(float)


TABLES = {
    "zero_table": by_row(lambda p, K, d: np.zeros(d)),
    "unshifted_table": by_row(lambda p, K, d: sinusoid(p - K, d)),
    "halves_table": by_row(lambda p, K, d: halves(p, d)),
    "cosine_first_table": by_row(lambda p, K, d: sinusoid(p, d).reshape(-1, 2)[:, ::-1].ravel()),
    "frequencies_d_minus_2": by_row(lambda p, K, d: sinusoid(p, d, d_minus_2)),
    "halves_table_d_minus_2": by_row(lambda p, K, d: halves(p, d, d_minus_2)),
    "base_1000": by_row(lambda p, K, d: sinusoid(p, d, lambda m, d: 0.75 * 2 * m / d)),
    "base_100000": by_row(lambda p, K, d: sinusoid(p, d, lambda m, d: 1.25 * 2 * m / d)),
    "table_float32": by_row(lambda p, K, d: rounded(sinusoid(p, d), np.float32)),
    "table_float16": by_row(lambda p, K, d: rounded(sinusoid(p, d), np.float16)),
    "table_bfloat16": by_row(lambda p, K, d: bfloat16(sinusoid(p, d))),
    "distance_sign": clipped(lambda x, K, d: sinusoid(K - x, d)),
    "distance_absolute": clipped(lambda x, K, d: sinusoid(abs(x) + K, d)),
    "clip_one_less": by_distance(lambda x, K, d: sinusoid(max(1 - K, min(K - 1, x)) + K, d)),
    "clip_one_more": by_distance(lambda x, K, d: sinusoid(max(-K - 1, min(K + 1, x)) + K + 1, d)),
    "clip_upper_exclusive": by_distance(lambda x, K, d: sinusoid(max(-K, min(K - 1, x)) + K, d)),
    "clip_lower_exclusive": by_distance(lambda x, K, d: sinusoid(max(1 - K, min(K, x)) + K, d)),
    "distance_wraps": by_distance(lambda x, K, d: sinusoid((x + K) % (2 * K + 1), d)),
    "no_clip": by_distance(lambda x, K, d: sinusoid(x + K, d)),
    "clip_64": by_distance(lambda x, K, d: sinusoid(max(-64, min(64, x)) + 64, d)),
    "table_row_off": by_row(lambda p, K, d: sinusoid(min(p + 1, 2 * K), d)),
}

# --- scores ---------------------------------------------------------------------------------------


def another_root(name, root):
    def make(monkeypatch):
        monkeypatch.setattr(ops, "math", SimpleNamespace(sqrt=root))

    make.__name__ = name
    return make


def relative_key_after_scaling(monkeypatch):
    changed_y(monkeypatch, ops, "relative_key", lambda y, q, *_: y * math.sqrt(q.shape[-1]))


def relative_key_scaled_twice(monkeypatch):
    changed_y(monkeypatch, ops, "relative_key", lambda y, q, *_: y / math.sqrt(q.shape[-1]))


def no_relative_key(monkeypatch):
    changed_y(monkeypatch, ops, "relative_key", lambda y, *_: 0.0 * y)


def relative_by_key(monkeypatch):
    """k[j] · R[i, j]: the products of the keys with the reversed table, transposed."""
    memory, right = {}, ops.relative_key

    def of_the_keys(y, query, table, length_k, offset):
        key = memory["key"] / math.sqrt(query.shape[-1])
        return right(key, table[::-1], query.shape[-2])[0].swapaxes(-1, -2)

    replaced(monkeypatch, blocks, "attention", remembering(memory, "key", 1))
    changed_y(monkeypatch, ops, "relative_key", of_the_keys)


def offset_forgotten(monkeypatch):
    changed_options(monkeypatch, blocks, "attention", offset=0)


def cross_offset_forgotten(monkeypatch):
    """A block whose source is not its x is cross-attention."""
    changed_arguments(
        monkeypatch,
        encoder,
        "attention_block",
        lambda *a: a if a[3] is a[2] else (*a[:4], a[4]._replace(offset=0), a[5]),
    )


def offset_from_the_end(monkeypatch):
    changed_options(
        monkeypatch, blocks, "attention", offset=lambda q, k, *_: k.shape[2] - q.shape[2]
    )


def no_cross_relative(monkeypatch):
    changed_arguments(
        monkeypatch,
        encoder,
        "attention_block",
        lambda *a: a if a[3] is a[2] else (*a[:4], a[4]._replace(table=0.0 * a[4].table), a[5]),
    )


def split_not_transposed(monkeypatch):
    def split_heads(x, d):
        B, L, width = x.shape
        return x.reshape(B, width // d, L, d)

    monkeypatch.setattr(blocks, "split_heads", split_heads)


def heads_interleaved(monkeypatch):
    def split_heads(x, d):
        return x.reshape(*x.shape[:2], d, -1).transpose(0, 3, 1, 2)

    monkeypatch.setattr(blocks, "split_heads", split_heads)


def heads_reversed(monkeypatch):
    replaced(
        monkeypatch, blocks, "split_heads", lambda right: lambda x, d: right(x, d)[:, ::-1].copy()
    )


TABLES_OF_THREE_HEADS = {  # with two heads D is 2d, and both are one
    "frequencies_table": by_row(lambda p, K, d: sinusoid(p, d, lambda m, d: m / d)),
    "frequencies_hidden": by_row(lambda p, K, d: sinusoid(p, d, lambda m, d: 2 * m / 12)),
}
CROSS = "encoder.layer.0.crossattention.scores"
ROOTS = {"no_scale": lambda d: 1.0, "scale_d": float, "scale_hidden": lambda d: math.sqrt(D)}
SEEDS = [
    *(Seed(another_table(key, table), SCORES, key) for key, table in TABLES.items()),
    *(
        Seed(another_table(key, table), SCORES, key, "three heads")
        for key, table in TABLES_OF_THREE_HEADS.items()
    ),
    *(Seed(another_root(key, root), SCORES, key) for key, root in ROOTS.items()),
    Seed(relative_key_after_scaling, SCORES, "relative_key_after_scaling"),
    Seed(relative_key_scaled_twice, SCORES, "relative_key_scaled_twice"),
    Seed(no_relative_key, SCORES, "no_relative_key"),
    Seed(relative_by_key, SCORES, "relative_by_key"),
    Seed(offset_forgotten, SCORES, "offset_forgotten", "past"),
    Seed(cross_offset_forgotten, CROSS, "cross_offset_forgotten", "cross"),
    Seed(offset_from_the_end, CROSS, "offset_from_the_end", "cross"),
    Seed(no_cross_relative, CROSS, "no_cross_relative", "cross"),
    Seed(split_not_transposed, SCORES, "split_not_transposed"),
    Seed(heads_interleaved, SCORES, "heads_interleaved"),
    Seed(heads_reversed, SCORES, "heads_reversed"),
]
