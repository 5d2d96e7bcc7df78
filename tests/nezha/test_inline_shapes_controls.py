"""Negative controls of the shapes at the ends of lines: each kind of wrong comment is found."""

import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.inline_faults import faults
from tests.support.inline_shapes import loose_comments, plain, read, watching_lines
from tests.support.op_cases import FUNCTIONS
from tests.support.shape_lines import ShapeError

RIGHT = '''
import numpy as np


def product(x, weight, twice=False):
    """Shapes: x (B, I), weight (O, I) → y (B, O)."""
    y = x @ weight.T  # (B, O): one product
    total, first = y.sum(axis=0), y[0]  # (O), (O)
    weight.flat[0] = 1.0
    if twice:
        y = np.concatenate((y, y))  # (2B, O)
        y = y[: len(x)]
    half, name = weight[1:], "none"  # (R, I)
    half *= 1.0
    return y
'''


def faults_of(source, folder, cases=({}, {"twice": True}), sizes=((3, 5, 7), (2, 4, 9))):
    """The faults found when the function in this source is called."""
    file, names = folder / "product.py", {}
    file.write_text(source, encoding="utf-8")
    exec(compile(source, file, "exec"), names)
    watched = read(names["product"])
    with watching_lines([watched]):
        for B, I, O in sizes:  # noqa: E741
            for case in cases:
                names["product"](np.ones((B, I)), np.ones((O, I)), **case)
    return [fault.partition(": ")[2] for fault in faults(watched, least=len(sizes))]


def test_right_comments(tmp_path):
    assert faults_of(RIGHT, tmp_path) == []


@pytest.mark.parametrize(
    ("right", "wrong", "text"),
    [
        # a wrong axis, exchanged axes, one too many
        ("# (B, O): one", "# (B, I): one", r"\(B, I\), found \(3, 7\)"),
        ("# (B, O): one", "# (O, B): one", r"\(O, B\), found \(3, 7\)"),
        ("# (B, O): one", "# (B, O, 1): one", r"\(B, O, 1\), found \(3, 7\)"),
        ("# (2B, O)", "# (B, O)", r"\(B, O\), found \(6, 7\)"),
        ("# (O), (O)", "# (O), (I)", r"\(I\), found \(7,\)"),
        # a missing comment
        ("# (B, O): one product", "", r"missing: # \(B, O\)$"),
        ("# (2B, O)", "", r"missing: # \(6, O\)$"),
        ("# (O), (O)", "# the sum (O), and (O)", r"missing: # \(O\), \(O\)$"),
        # a comment that can't be read
        ("# (B, O): one", "# (B, O) one", "can't read the comment"),
        ("# (O), (O)", "# (O) and (O)", "can't read the comment"),
        ("# (O), (O)", "# (O, (O)", "can't read the comment"),
        ("# (2B, O)", "# (2 B, O)", "can't read the axis '2 B'"),
        ("# (2B, O)", "# (Z+Y, O)", r"can't read the axis 'Z\+Y'"),
        # more or fewer shapes than arrays
        ("# (O), (O)", "# (O)", "1 shapes, but the arrays are: total, first"),
        ("# (B, O): one", "# (B, O), (O): one", "2 shapes, but the arrays are: y"),
        ("# (R, I)", "# (R, I), ()", "2 shapes, but the arrays are: half"),
        # a second name for a symbol
        ("# (B, O): one", "# (Q, O): one", "Q is B in every call"),
    ],
)
def test_a_wrong_comment_is_found(right, wrong, text, tmp_path):
    assert RIGHT.count(right) == 1
    (found,) = faults_of(RIGHT.replace(right, wrong), tmp_path)
    assert re.search(text, found), found


def test_a_line_that_no_case_reaches_is_found(tmp_path):
    found = faults_of(RIGHT, tmp_path, cases=({},))
    assert found == ["product: no case reaches this line"] * 2


def test_too_few_sizes_are_found(tmp_path):
    """Calls at sizes that do not tell two axes apart are not counted."""
    found = faults_of(RIGHT, tmp_path, sizes=((3, 5, 7), (3, 5, 3)))
    assert found[0] == "product: 1 sizes with all axes different, expected 2"


def test_a_symbol_keeps_its_size_within_a_call(tmp_path):
    source = RIGHT.replace("half *= 1.0", "other = weight[2:]  # (R, I)")
    assert re.search(r"\(R, I\), found \(5, 5\)", faults_of(source, tmp_path)[0])


def test_a_shape_behind_anything_else_is_found(tmp_path):
    for k, source in enumerate(
        (
            RIGHT.replace("return y", "return y  # (B, O)"),
            RIGHT.replace("= 1.0\n    if", "= 1.0  # (O, I)\n    if"),
            RIGHT.replace("    y = x @", "    x = (\n        x  # (B, I)\n    )\n    y = x @"),
            RIGHT + "\n\nZEROS = np.zeros((2, 3))  # (2, 3)\n",
        )
    ):
        assert source != RIGHT
        file, names = str(tmp_path / f"{k}.py"), {}
        Path(file).write_text(source, encoding="utf-8")
        exec(compile(source, file, "exec"), names)
        (found,) = loose_comments([file], [read(names["product"])])
        assert "no assignment in a function with Shapes ends here" in found


def test_assignments_that_can_not_be_noted_are_found(tmp_path):
    for old, text in (
        ("half *= 1.0", "if (n := 3) > 2: y = y"),
        ("half *= 1.0", "half = 1.0 * half; y = 1.0 * y"),
    ):
        with pytest.raises(ShapeError, match=r"an assignment inside|two assignments"):
            faults_of(RIGHT.replace(old, text), tmp_path)


def test_the_watch_leaves_nothing_behind():
    function = plain(FUNCTIONS["linear"])
    code = function.__code__
    with watching_lines([read(function)]):
        assert function.__code__ is not code
    assert function.__code__ is code
    assert "_note_shapes" not in function.__globals__
