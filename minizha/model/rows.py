"""The rows of a batch dealt to threads, in inference: each thread runs the whole body for its rows.

Kernels and products use all cores by themselves, but all wait for each other after every one of them, and
what is between them runs on one core. Threads that have rows of their own wait once, at the end.

Measured on two cores, calls in turn, 4 layers of base width: (B, L) = (8, 128) and (2, 512) take 6 % less.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.kernels.cores import available_threads, share
from minizha.nezha.attention import AttentionInputs, KeysAndValues
from minizha.nezha.body import Inputs, nezha
from minizha.nezha.encoder import LayerInputs, NezhaResult, Wanted
from minizha.nezha.parameters import Tree

LEAST = 131072  # numbers of a hidden state that a thread gets: with fewer, its NumPy calls are too short


def number_of_parts(rows: int, length: int, hidden_size: int) -> int:
    """Into how many parts the rows are best dealt: one a core, or 1 for not at all.

    Every part must have enough to do, and the largest at most a tenth more than the mean.
    """
    parts = available_threads()
    most = -(-rows // parts)
    fair, enough = most * parts <= 1.1 * rows, most * length * hidden_size >= LEAST
    return parts if fair and enough else 1


def nezha_by_rows(
    p: Tree, config: NezhaConfig, inputs: Inputs, wanted: Wanted, parts: int
) -> NezhaResult:
    """:func:`~minizha.nezha.body.nezha` without dropout and record, in ``parts`` parts at once."""
    B = inputs.token_type_ids.shape[0]
    edges = [B * i // parts for i in range(parts + 1)]
    results: list[Any] = [None] * parts

    def work(start: int, stop: int) -> None:
        for part in range(start, stop):
            rows = slice(edges[part], edges[part + 1])
            results[part], _ = nezha(p, config, take_rows(inputs, rows), None, wanted)

    share(parts, work)
    return NezhaResult(*map(_joined, *results))


def take_rows(inputs: Inputs, rows: slice) -> Inputs:
    """The inputs of some of the rows, at least two of which there are."""

    def take(x: Array | None) -> Array | None:
        return x if x is None or x.shape[0] == 1 else x[rows]  # 1: the same for every row

    def attention(a: AttentionInputs | None) -> Any:
        if a is None:
            return None
        past = None if a.past is None else KeysAndValues(*map(take, a.past))
        return a._replace(mask=take(a.mask), head_mask=take(a.head_mask), past=past)

    layers = tuple(
        LayerInputs(
            attention(x.attention), attention(x.crossattention), take(x.encoder_hidden_states)
        )
        for x in inputs.layers
    )
    ids, embeds = take(inputs.input_ids), take(inputs.inputs_embeds)
    return Inputs(ids, embeds, inputs.token_type_ids[rows], layers)


def _joined(*parts: Any) -> Any:
    """The arrays of all rows, from those of the parts, also in tuples; None for None."""
    if isinstance(parts[0], tuple):
        return tuple(map(_joined, *parts))
    return None if parts[0] is None else np.concatenate(parts)
