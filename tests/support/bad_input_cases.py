"""Calls with one bad argument each, and what the error message must say."""

import re

import numpy as np

from minizha import NezhaConfig
from minizha.model.pretraining import ItemsInBatch

V, B, L, D, N, LAYERS = 11, 2, 5, 8, 2, 3
CONFIG = NezhaConfig(
    vocab_size=V,
    hidden_size=D,
    num_hidden_layers=LAYERS,
    num_attention_heads=N,
    intermediate_size=12,
    max_relative_position=3,
)
IDS = np.arange(B * L).reshape(B, L)
GOOD = {
    "input_ids": IDS,
    "attention_mask": np.ones((B, L)),
    "token_type_ids": np.zeros((B, L), dtype=np.int64),
    "head_mask": np.ones((LAYERS, N)),
    "labels": IDS,
    "next_sentence_label": [0, 1],
}


class Unreadable:
    """Like a tensor of torch that requires a gradient."""

    def __array__(self, *_, **__):
        raise RuntimeError("call detach() first")


def with_value(name, value, dtype=None):
    """The good argument with one entry replaced."""
    array = np.array(GOOD[name], dtype=dtype)
    array.flat[1] = value
    return {name: array}


def nested(depth):
    return [nested(depth - 1)] if depth else 1


OBJECTS = {
    "text": ("一二", "<U2"),
    "bytes": (b"12", "S2"),
    "a number": (1, r"\(\)"),
    "None inside": ([[1, None]], "None"),
    "a number inside that is too long": ([[2**70]], "1180591620717411303424|11805916207.*303424"),
    "ragged": ([[1, 2], [1]], "inhomogeneous"),
    "no array": (object(), "<object objec"),
    "unreadable": (Unreadable(), "detach"),
    "nested 100 deep": (nested(100), "maximum number of dimension"),
    "dates": (np.array([["2020-01-01"]], dtype="M8[D]"), "datetime64"),
    "records": (np.zeros((1, 2), dtype="i4,i4"), "f0"),
}
INTEGERS = ("input_ids", "token_type_ids", "labels", "next_sentence_label")
FLOATS = ("attention_mask", "head_mask")
CASES = {
    f"{name}: {what}": ({name: value}, f"^{name}: expected .*{found}")
    for name in (*INTEGERS, *FLOATS)
    for what, (value, found) in OBJECTS.items()
}
CASES |= {
    f"{name}: {what}": (change, f"^{name}: expected integers, found {found}$")
    for name in INTEGERS
    for what, change, found in (
        ("floats", with_value(name, 1, float), "float64"),
        ("booleans", with_value(name, 1, bool), "bool"),
        ("complex", with_value(name, 1, complex), "complex128"),
    )
}
RANGES = {
    "input_ids": (V, r"\[0, 11\)", r"\[0, 1\]", (-1, V, 2**40)),
    "token_type_ids": (2, r"\[0, 2\)", r"\[0, 1\]", (-1, 2, 2**40)),
    "labels": (V, r"\[0, 11\) or -100", r"\[0, 1\]", (-1, -99, V, 2**40)),
    "next_sentence_label": (2, r"\[0, 2\) or -100", r"\[1\]", (-1, 2, 2**40)),
}
CASES |= {
    f"{name}: {value}": (
        with_value(name, value),
        f"^{name}: expected values in {span}, found {value} at {place}$",
    )
    for name, (_, span, place, values) in RANGES.items()
    for value in values
}
CASES |= {
    # converted to int64 this would be -100, and the entry would be ignored without an error
    "labels: 2**64 - 100": (
        with_value("labels", 2**64 - 100, np.uint64),
        r"^labels: expected values in .*, found 18446744073709551516 at \[0, 1\]$",
    ),
    "attention_mask: complex": (with_value("attention_mask", 1, complex), "complex128"),
    "head_mask: complex": (with_value("head_mask", 1, complex), "complex128"),
    "head_mask: inf": (
        with_value("head_mask", np.inf),
        r"head_mask: expected finite .*\[1.0, inf\]",
    ),
    "head_mask: nan": (
        with_value("head_mask", np.nan),
        r"head_mask: expected finite .*\[1.0, nan\]",
    ),
}
CASES |= {
    f"attention_mask: {value}": (
        with_value("attention_mask", value),
        f"^attention_mask: expected 1 .* and 0 .*, found {re.escape(str(value))} at " r"\[0, 1\]$",
    )
    for value in (np.nan, np.inf, -np.inf, -1.0, 2.0, 1.0 + 1e-9, -1e-30)
}
SHAPES = {
    "input_ids": ("(B, L)", [(), (L,), (B, L, 1), (0,)]),
    "token_type_ids": (f"({B}, {L})", [(L,), (B, L - 1), (1, L), (B, L, 1), (B, 0)]),
    "attention_mask": (
        f"(B, L) = ({B}, {L}) or (B, L, L) = ({B}, {L}, {L})",
        [(L,), (B, L + 1), (1, L), (B, 1, L), (B, L - 1, L), (B, 1, 1, L), (B, 1, L, L)],
    ),
    "head_mask": (
        f"(N,) = ({N},) or (layers, N) = ({LAYERS}, {N})",
        [(), (LAYERS,), (1, N), (N, LAYERS), (LAYERS, 1, N, 1, 1)],
    ),
    "labels": (f"({B}, {L})", [(B,), (B, L + 1), (L, B), (0, L)]),
    "next_sentence_label": (f"({B},)", [(), (B, 1), (B + 1,), (0,)]),
}
CASES |= {
    f"{name}: shape {shape}": (
        {name: np.ones(shape, dtype=np.int64)},
        "^" + re.escape(f"{name}: expected shape {expected}, found {shape}") + "$",
    )
    for name, (expected, shapes) in SHAPES.items()
    for shape in shapes
}
EMBEDS = np.ones((B, L, D))
CASES |= {
    "both": ({"inputs_embeds": EMBEDS}, "exactly one of input_ids and inputs_embeds, found both"),
    "neither": ({"input_ids": None}, "exactly one of input_ids and inputs_embeds, found neither"),
    "no token": ({"input_ids": np.zeros((B, 0), dtype=int)}, "at least one token, found L = 0"),
    "an empty list": ({"input_ids": []}, r"^input_ids: expected shape \(B, L\), found \(0,\)$"),
    "an empty row": ({"input_ids": [[]]}, "at least one token, found L = 0"),
}
CASES |= {
    f"inputs_embeds: {what}": (
        {"input_ids": None, "inputs_embeds": value},
        f"^inputs_embeds: expected {found}",
    )
    for what, value, found in (
        ("rank 2", EMBEDS[0], r"shape \(B, L, 8\), found \(5, 8\)$"),
        ("width", EMBEDS[..., :-1], r"shape \(B, L, 8\), found \(2, 5, 7\)$"),
        ("booleans", EMBEDS > 0, "numbers, found bool$"),
        ("text", "一", "numbers, found <U1$"),
        ("None", [[[None] * D]], "numbers, found None$"),
        ("ragged", [[1.0], [1.0, 2.0]], "an array or nested lists"),
    )
}
CASES |= {
    f"{name}={value!r}": ({name: value}, f"^{name}: expected True, False or None, found ")
    for name in ("output_attentions", "output_hidden_states", "return_dict", "record")
    for value in ("no", 1, 0.0, [], np.array([True, False]))
}
CASES |= {
    f"num_items_in_batch={value!r}": (
        {"num_items_in_batch": value},
        "^num_items_in_batch: expected an ItemsInBatch or None, found "
        if type(value) is not ItemsInBatch
        else "^num_items_in_batch.labels: expected an integer of at least 1 or None, found ",
    )
    for value in (3, "3", (1, 2), *map(ItemsInBatch, (0, -1, 1.5, True, "x", float("nan"))))
}
