"""The cases of make_v1.py as a data class, and the random numbers of a case.

Letters: B batch, L length, P tokens of the past, S tokens of an encoder, C choices, D hidden size,
N heads, d head size, F intermediate size, K largest relative position, V vocabulary. Within a case
the sizes differ from each other if they can, so that a transpose cannot hide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
IGNORED = -100
STD = 0.3  # of every parameter: at the usual 0.02 several mistakes would not show


@dataclass(frozen=True)
class Case:
    """One model and one batch.

    `mask` and `encoder_mask`: "right", "left", "holes", "empty-example" (2-D), "pairs", "empty-rows",
    "fractional" (3-D). `head_mask`: "heads" or "layers". `labels` gives for each argument the key
    of LABELS that draws it. `past` is the number of past arrays of a layer, 0, 2 or 4. `train` is the
    seed of the dropout, or None for eval mode.
    """

    name: str
    class_name: str
    seed: int
    config: dict[str, Any]
    covers: tuple[str, ...]
    notes: str
    B: int = 2
    L: int = 7
    P: int = 0
    S: int = 0
    choices: int = 0
    mask: str | None = None
    encoder_mask: str | None = None
    head_mask: str | None = None
    token_types: bool = False
    embeds: bool = False
    pads: bool = False
    past: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    class_arguments: dict[str, Any] = field(default_factory=dict)
    train: int | None = None
    steps: int = 0


def sizes(V: int, D: int, N: int, layers: int, F: int, K: int, **options: Any) -> dict[str, Any]:
    """The values of a NezhaConfig by letter; `options` are other values by name."""
    widths = {"vocab_size": V, "hidden_size": D, "num_attention_heads": N, "intermediate_size": F}
    return widths | {"num_hidden_layers": layers, "max_relative_position": K} | options


def make_parameters(rng: np.random.Generator, shapes: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Normal numbers with standard deviation STD; mean 1 for LayerNorm weights, else 0.

    The row of the padding token is not zeroed: a zero row would hide a wrong gradient there.
    """
    return {
        name: rng.normal(1.0 if name.endswith("LayerNorm.weight") else 0.0, STD, shape)
        for name, shape in shapes.items()
    }


def make_inputs(rng: np.random.Generator, case: Case) -> Arrays:
    """The arguments of the call by name: ids int64, the rest float64; the past as
    past_key_values.<layer>.<index>."""
    inputs = _text_inputs(rng, case)
    if case.head_mask:
        inputs["head_mask"] = _head_mask(rng, case)
    if case.S and case.past != 4:
        inputs["encoder_hidden_states"] = rng.normal(size=(case.B, case.S, _value(case, "D")))
    if case.encoder_mask:
        mask = _mask(rng, case.encoder_mask, case.B, case.L, case.S, 0)
        inputs["encoder_attention_mask"] = mask
    past = _past(rng, case)
    inputs |= {name: LABELS[key](rng, case) for name, key in case.labels.items()} | past
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}


def _text_inputs(rng: np.random.Generator, case: Case) -> Arrays:
    B, L = case.B * max(case.choices, 1), case.L
    inputs: Arrays = {}
    mask = _mask(rng, case.mask, B, L, case.P + L, case.P) if case.mask else None
    if case.embeds:
        inputs["inputs_embeds"] = rng.normal(0, 0.5, (B, L, _value(case, "D")))
    else:
        inputs["input_ids"] = _ids(rng, case, B, mask)
    if mask is not None:
        inputs["attention_mask"] = mask
    if case.token_types:
        inputs["token_type_ids"] = rng.integers(0, case.config.get("type_vocab_size", 2), (B, L))
    if case.choices:
        inputs = {n: a.reshape(case.B, case.choices, *a.shape[1:]) for n, a in inputs.items()}
    return inputs


def _ids(rng: np.random.Generator, case: Case, B: int, mask: np.ndarray | None) -> np.ndarray:
    V, pad = _value(case, "V"), case.config.get("pad_token_id", 0)
    ids = (pad + rng.integers(1, V, (B, case.L))) % V  # any but the padding token
    if case.L > 1:
        ids[0, 1] = ids[-1, 0] = ids[0, 0]  # the same word several times
    if mask is not None and mask.ndim == 2:
        ids[mask[:, case.P :] == 0] = pad
    if case.pads:
        ids[0, -1] = ids[-1, 1] = pad
    return ids


def _mask(rng: np.random.Generator, name: str, B: int, L: int, J: int, first: int) -> np.ndarray:
    """(B, J), or (B, L, J) for L queries, the first of which is at the position of key `first`."""
    lengths = np.maximum(2, J - 2 - 2 * np.arange(B))
    padded = (np.arange(J) < lengths[:, None]).astype(np.int64)
    pairs = rng.integers(0, 2, (B, L, J)) | np.eye(L, J, first, dtype=np.int64)
    pairs[:, :, 0] = 1  # each query sees a key, even if J < L
    if name == "empty-rows":
        pairs[0, 2] = pairs[-1, 0] = pairs[-1, -1] = 0
    holes = rng.integers(0, 2, (B, J))
    holes[:, J // 2], holes[0, 1], holes[-1, 0] = 1, 0, 0
    fractional = rng.integers(0, 5, (B, L, J)) / 4
    fractional[0, 1] = rng.integers(0, 4, J) / 4
    empty = padded * (np.arange(B) < B - 1)[:, None]
    masks = {
        "right": padded,
        "left": padded[:, ::-1],
        "holes": holes,
        "empty-example": empty,
        "pairs": pairs,
        "empty-rows": pairs,
        "fractional": fractional,
    }
    return masks[name]


def _head_mask(rng: np.random.Generator, case: Case) -> np.ndarray:
    N, layers = _value(case, "N"), case.config["num_hidden_layers"]
    values = np.round(rng.uniform(0.1, 1.5, (layers, N) if case.head_mask == "layers" else N), 2)
    values[..., -1] = 0.0
    return values


def _past(rng: np.random.Generator, case: Case) -> Arrays:
    N, pruned = _value(case, "N"), case.config.get("pruned_heads", {})
    d, arrays = _value(case, "D") // N, {}
    for layer in range(case.config["num_hidden_layers"]):
        for index in range(case.past):
            heads, length = (N - len(pruned.get(layer, ())), case.P) if index < 2 else (N, case.S)
            shape = (case.B, heads, length, d)
            arrays[f"past_key_values.{layer}.{index}"] = rng.normal(size=shape)
    return arrays


def _word_labels(rng: np.random.Generator, case: Case) -> np.ndarray:
    chosen = rng.random((case.B, case.L)) < 0.4
    chosen[0, 0] = chosen[-1, -1] = True
    chosen[0, -1] = False
    labels = case.config.get("num_labels", 2)
    classes = labels if "Token" in case.class_name else _value(case, "V")
    return np.where(chosen, rng.integers(0, classes, chosen.shape), IGNORED)


def _classes(rng: np.random.Generator, case: Case) -> np.ndarray:
    return rng.integers(0, case.choices or case.config.get("num_labels", 2), case.B)


def _one_ignored(rng: np.random.Generator, case: Case) -> np.ndarray:
    labels = _classes(rng, case)
    labels[1] = IGNORED
    return labels


def _numbers(rng: np.random.Generator, case: Case) -> np.ndarray:
    C = case.config["num_labels"]
    return rng.normal(size=case.B if C == 1 else (case.B, C))


def _outside(rng: np.random.Generator, case: Case) -> np.ndarray:
    positions = rng.integers(0, case.L, case.B)
    positions[rng.integers(0, case.B)] = case.L + rng.integers(0, 3)
    return positions


LABELS = {
    "words": _word_labels,
    "no words": lambda rng, case: np.full((case.B, case.L), IGNORED),
    "classes": _classes,
    "one ignored": _one_ignored,
    "all ignored": lambda rng, case: np.full(case.B, IGNORED),
    "numbers": _numbers,
    "targets": lambda rng, case: rng.integers(0, 3, (case.B, case.config["num_labels"])) / 2,
    "positions": lambda rng, case: rng.integers(0, case.L, case.B),
    "outside": _outside,
}


def _value(case: Case, letter: str) -> int:
    names = {"V": "vocab_size", "D": "hidden_size", "N": "num_attention_heads"}
    return case.config[names[letter]]
