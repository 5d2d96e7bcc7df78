"""What the four heads refuse: each time an ArgumentError that names the argument."""

from dataclasses import replace

import numpy as np
import pytest

from minizha.errors import ArgumentError
from tests.support.tiny_heads import ANSWER, CHOICE, SEQUENCE, TOKENS, TinyHead

PLAIN = {
    SEQUENCE: TinyHead(SEQUENCE, None),
    CHOICE: TinyHead(CHOICE, None, choices=5, B=2),
    TOKENS: TinyHead(TOKENS, None),
    ANSWER: TinyHead(ANSWER, None),
}
# labels that no head accepts
RUBBISH = {
    "a word": "labels",
    "words": ["a", "b", "c"],
    "bytes": b"abc",
    "a dictionary": {0: 1},
    "a set": {0, 1, 2},
    "a generator": (i for i in range(3)),
    "None inside": [0, None, 1],
    "ragged": [[0, 1], [2]],
    "complex": [1j, 0, 1],
    "dates": np.asarray([1, 2, 3], dtype="datetime64[s]"),
    "objects": np.asarray([object()] * 3),
    "beyond 64 bits": [0, 2**70, 1],
    "one number": 1,
}


def refused(head, backend, match, **labels):
    model = head.model(backend)
    with pytest.raises(ArgumentError, match=match) as caught:
        model(**head.inputs(), **labels)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 400
    assert all(array is not None for array in model.state_dict().values())


@pytest.mark.parametrize("what", RUBBISH)
@pytest.mark.parametrize("class_name", PLAIN)
def test_rubbish(class_name, what, backend):
    if class_name == ANSWER:
        labels = {"start_positions": RUBBISH[what], "end_positions": [0, 1, 2]}
        refused(PLAIN[class_name], backend, r"^start_positions: expected", **labels)
        labels = {"start_positions": [0, 1, 2], "end_positions": RUBBISH[what]}
        refused(PLAIN[class_name], backend, r"^end_positions: expected", **labels)
    else:
        refused(PLAIN[class_name], backend, r"^labels: expected", labels=RUBBISH[what])


SINGLE, SEVERAL = "single_label_classification", "multi_label_classification"
BAD = [
    (SEQUENCE, SINGLE, 3, [0, 1, 3], r"\[0, 3\) or -100, found 3 at \[2\]"),
    (SEQUENCE, SINGLE, 3, [0, -1, 2], r"\[0, 3\) or -100, found -1 at \[1\]"),
    (SEQUENCE, SINGLE, 3, [0, 1], r"shape \(3,\), found \(2,\)"),
    (SEQUENCE, SINGLE, 3, [[0], [1], [2]], r"shape \(3,\), found \(3, 1\)"),
    (SEQUENCE, SINGLE, 3, [0.0, 1.0, 2.0], "integers, found float64"),
    (SEQUENCE, SINGLE, 3, [True, False, True], "integers, found bool"),
    (SEQUENCE, None, 3, [0, 1, 3], r"\[0, 3\) or -100, found 3 at \[2\]"),
    (SEQUENCE, None, 3, [[0, 1, 0]] * 3, r"shape \(3,\), found \(3, 3\)"),
    (SEQUENCE, None, 3, [0.0, 1.0, 1.0], r"shape \(3, 3\), found \(3,\)"),
    (SEQUENCE, SEVERAL, 3, [[0.0, 1.5, 1.0]] * 3, r"\[0, 1\], found 1.5 at \[0, 1\]"),
    (SEQUENCE, SEVERAL, 3, [[0.0, -100, 1.0]] * 3, r"\[0, 1\], found -100.0 at \[0, 1\]"),
    (SEQUENCE, SEVERAL, 3, [[0.0, 1.0, np.nan]] * 3, r"\[0, 1\], found nan at \[0, 2\]"),
    (SEQUENCE, SEVERAL, 3, [[0.0, 1.0]] * 3, r"shape \(3, 3\), found \(3, 2\)"),
    (SEQUENCE, SEVERAL, 3, [0, 1, 2], r"shape \(3, 3\), found \(3,\)"),
    (SEQUENCE, "regression", 1, [0.0, np.nan, 1.0], r"numbers in .*, found nan at \[1, 0\]"),
    (SEQUENCE, "regression", 1, [0.0, 1.0, -np.inf], r"numbers in .*, found -inf at \[2, 0\]"),
    (SEQUENCE, "regression", 1, [0.0, 1e200, 1.0], r"numbers in .*, found 1e\+200 at \[1, 0\]"),
    (SEQUENCE, "regression", 1, [0.0, 1.0], r"shape \(3, 1\), found \(2,\)"),
    (SEQUENCE, "regression", 1, [[0.0, 1.0, 2.0]], r"shape \(3, 1\), found \(1, 3\)"),
    (SEQUENCE, "regression", 3, [0.0, 1.0, 2.0], r"shape \(3, 3\), found \(3,\)"),
    (SEQUENCE, None, 1, [[0.0, 1.0]] * 3, r"shape \(3, 1\), found \(3, 2\)"),
    (CHOICE, None, 3, [0, 5], r"\[0, 5\) or -100, found 5 at \[1\]"),
    (CHOICE, None, 3, [0, -5], r"\[0, 5\) or -100, found -5 at \[1\]"),
    (CHOICE, None, 3, [0] * 10, r"shape \(2,\), found \(10,\)"),
    (CHOICE, None, 3, [0.0, 1.0], "integers, found float64"),
    (TOKENS, None, 3, [[0, 1, 2, 3]] * 3, r"\[0, 3\) or -100, found 3 at \[0, 3\]"),
    (TOKENS, None, 3, [[0, 1, 2, -99]] * 3, r"\[0, 3\) or -100, found -99 at \[0, 3\]"),
    (TOKENS, None, 3, [0, 1, 2], r"shape \(3, 4\), found \(3,\)"),
    (TOKENS, None, 3, [[0.5] * 4] * 3, "integers, found float64"),
]  # fmt: skip


@pytest.mark.parametrize(("class_name", "problem", "C", "labels", "match"), BAD)
def test_labels_that_do_not_fit(class_name, problem, C, labels, match, backend):
    head = replace(PLAIN[class_name], config={"num_labels": C, "problem_type": problem})
    refused(head, backend, f"^labels: expected (values in |numbers in )?{match}", labels=labels)


@pytest.mark.parametrize(
    ("start", "end", "match"),
    [
        ([0, 1, 2], None, "^end_positions: expected both start and end, found None"),
        (None, [0, 1, 2], "^start_positions: expected both start and end, found None"),
        ([0, 1], [0, 1, 2], r"^start_positions: expected shape \(3,\), found \(2,\)"),
        ([0, 1, 2], [[0], [1], [2]], r"^end_positions: expected shape \(3,\), found \(3, 1\)"),
        ([0.0, 1.0, 2.0], [0, 1, 2], "^start_positions: expected integers, found float64"),
        ([0, 1, 2], [True] * 3, "^end_positions: expected integers, found bool"),
    ],
)
def test_positions_that_do_not_fit(start, end, match, backend):
    refused(PLAIN[ANSWER], backend, match, start_positions=start, end_positions=end)


def test_positions_as_far_away_as_they_like(backend):
    """Positions outside of the text are ignored, up to the ends of 64 bits."""
    head = PLAIN[ANSWER]
    far = np.asarray([2**62, -(2**63), 2**63 - 2])
    out = head.model(backend)(**head.inputs(), start_positions=far, end_positions=far)
    assert float(out.loss) == 0.0


IDS = np.ones((2, 5, 4), int)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "exactly one of input_ids and inputs_embeds, found neither"),
        ({"attention_mask": IDS}, "exactly one of input_ids and inputs_embeds, found neither"),
        ({"input_ids": IDS, "inputs_embeds": np.ones((2, 5, 4, 4))}, "found both"),
        ({"input_ids": IDS[0]}, r"^input_ids: expected shape \(B, C, L\), found \(5, 4\)"),
        ({"inputs_embeds": np.ones((2, 5, 4))}, r"^inputs_embeds: expected shape \(B, C, L, D\)"),
        ({"input_ids": IDS[:, :0]}, r"^input_ids: expected at least one choice"),
        ({"input_ids": IDS[:, :, :0]}, "expected at least one token, found L = 0"),
        ({"input_ids": [[[1, 2], [3]]]}, "^input_ids: expected an array or nested lists"),
        ({"input_ids": IDS + 6}, r"^input_ids: expected values in \[0, 7\), found 7"),
        ({"input_ids": IDS, "attention_mask": IDS[:, :4]}, r"^attention_mask: expected \(B, C, L\) ="),
        ({"input_ids": IDS, "attention_mask": IDS[..., :3]}, r"^attention_mask: expected \(B, C, L\) ="),
        ({"input_ids": IDS, "attention_mask": IDS[0]}, r"^attention_mask: expected shape \(B, C, L\)"),
        ({"input_ids": IDS, "token_type_ids": IDS + 1}, r"^token_type_ids: expected values in \[0, 2\)"),
        ({"input_ids": IDS, "head_mask": [1, 1, 1]}, "^head_mask: expected shape"),
    ],
)  # fmt: skip
def test_choices_that_do_not_fit(arguments, match, backend):
    model = PLAIN[CHOICE].model(backend)
    with pytest.raises(ArgumentError, match=match):
        model(**arguments)


@pytest.mark.parametrize("class_name", PLAIN)
def test_a_flag_is_true_or_false(class_name, backend):
    head = PLAIN[class_name]
    for name in ("output_attentions", "output_hidden_states", "return_dict", "record"):
        refused(head, backend, f"^{name}: expected True, False or None, found 1", **{name: 1})


@pytest.mark.parametrize("class_name", PLAIN)
def test_a_batch_may_be_empty(class_name, backend):
    head = replace(PLAIN[class_name], B=0)
    model = head.model(backend)
    labels = {
        SEQUENCE: {"labels": np.zeros(0, int)},
        CHOICE: {"labels": []},
        TOKENS: {"labels": np.zeros((0, 4), int)},
        ANSWER: {"start_positions": [], "end_positions": []},
    }[class_name]
    out = model(**head.inputs(), **labels)
    assert float(out.loss) == 0.0
    out.backward()
    assert all(not d.any() for d in model.gradients().values())
