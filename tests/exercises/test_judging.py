"""What a reader is told: of wrong gradients, of errors in the code, of what it prints."""

import subprocess
import sys

import pytest

from minizha.errors import ArgumentError
from minizha.exercises import exercise, verdict

SOLUTION = exercise("5.2").solution


def told(*changes):
    """The verdict on the solution of RMSNorm with some texts replaced."""
    text = SOLUTION
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return verdict("5.2", text)


def line_of(part, text=SOLUTION):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_the_hint_comes_first_then_the_numbers():
    found = told(("(dn - n * (dn * n).mean(axis=-1, keepdims=True))", "dn"))
    first, second, third = found.text.splitlines()
    assert first == (
        "24 of 24 entries of x's gradient are wrong: "
        "each row along axis 1 is off by a multiple of x: "
        "such a term is missing, is too much, or has a wrong factor"
    )
    assert second.startswith("    at [1, 2]: expected -0.34")
    assert third == "the gradient of w is right"
    assert str(found) == found.text


def test_a_syntax_error_has_its_line():
    found = told(("dn = dy * w", "dn = dy *"))
    assert found.ok is False
    n = line_of("dn = dy * w")
    assert found.text == f"SyntaxError: invalid syntax, at line {n}: `dn = dy *`"
    assert verdict("5.2", "def f(:").text.startswith("SyntaxError: ")
    assert verdict("5.2", "x = '\0'").ok is False


@pytest.mark.parametrize(
    ("old", "new", "first"),
    [
        ("n = x * s", "n = x @ s", "rms_norm raised ValueError: matmul: "),
        (
            "dn = dy * w",
            "dn = dy * v",
            "rms_norm_backward raised NameError: name 'v' is not defined",
        ),
        ("dn = dy * w", "exit(3)", "rms_norm_backward raised SystemExit: 3"),
        ("import numpy as np", "raise SystemExit", "the code raised SystemExit"),
        ("import numpy as np", "import nump", "the code raised ModuleNotFoundError: No module"),
    ],
)
def test_an_error_has_its_type_its_message_and_its_line(old, new, first):
    found = told((old, new))
    assert found.ok is False
    assert found.text.startswith(first)
    assert f", at line {line_of(old)}: `{new}`" in found.text


def test_an_error_in_a_helper_of_the_reader_has_the_line_of_the_helper():
    text = (
        SOLUTION.replace("dn = dy * w", "dn = helped(dy)")
        + "\n\ndef helped(dy):\n    return [][1]\n"
    )
    found = verdict("5.2", text)
    assert found.text.endswith(f"at line {line_of('[][1]', text)}: `return [][1]`")


def test_there_is_no_input():
    found = told(("dn = dy * w", "dn = dy * float(input('w? '))"))
    assert found.text.startswith(
        "rms_norm_backward raised EOFError: EOF when reading a line, at line"
    )


@pytest.mark.parametrize("new", ["return Odd(), n", "return [[1.0], [1.0, 2.0]], n", "return 3, n"])
def test_a_y_that_is_no_array_is_told(new):
    odd = "class Odd:\n    def __array__(self, dtype=None, copy=None):\n        raise OSError('odd')\n"
    text = SOLUTION.replace("return w * n, (n, s, w)", new)
    found = verdict("5.2", f"{odd}{text}")
    assert found.ok is False
    assert "OSError: odd, at line 3" in found.text or "array of shape (3, 8), found" in found.text


def test_functions_that_take_no_complex_numbers():
    text = (
        "from math import fsum\n"
        "def variance(x):\n"
        "    c = x - x.mean(axis=1)[:, None]\n"
        "    return np.array([fsum((row * row).tolist()) / float(5) for row in c])\n"
    )
    found = verdict("2.1", text)
    assert found.text.startswith("a complex number does not pass: variance raised TypeError: ")
    assert found.text.endswith("remark: float() takes no complex numbers: leave it out")
    assert verdict("2.1", text, "zh").text.startswith("复数无法通过：variance 抛出 TypeError: ")


def test_ctrl_c_is_not_caught():
    with pytest.raises(KeyboardInterrupt):
        told(("dn = dy * w", "raise KeyboardInterrupt"))


def test_a_missing_function_is_named():
    found = told(("def rms_norm_backward", "def rms_backward"))
    assert (found.ok, found.text) == (False, "expected a function rms_norm_backward, found none")
    assert verdict("5.2", "rms_norm = 3").text == "expected a function rms_norm, found int"


def test_another_forward_does_not_pass():
    found = told(("n = x * s", "n = x * s * 2"))
    assert found.text.startswith(
        "the y of rms_norm: 24 of 24 entries are wrong: it is 2 times what it should be\n    at "
    )
    found = told(("return w * n, (n, s, w)", "return w, (n, s, w)"), ("dx = s", "dx = 0 * s"))
    assert found.text == "the y of rms_norm: expected an array of shape (3, 8), found shape (8,)"
    assert told(("return w * n, (n, s, w)", "return w * n")).text == (
        "rms_norm: expected a pair (y, cache), found ndarray"
    )


@pytest.mark.parametrize(
    ("new", "text"),
    [
        (
            "return dx",
            "backward: expected 2 gradients, one for each float argument of forward (x, w)",
        ),
        (
            "return dx, None",
            "the gradient of w is wrong: expected an array of shape (8,), found NoneType",
        ),
        (
            "return dx[0], dw",
            "the gradient of x is wrong: expected an array of shape (3, 8), found shape",
        ),
        ("return dx * np.nan, dw", "24 of 24 entries of x's gradient are wrong\n    at [0, 0]: "),
    ],
)
def test_gradients_that_are_none(new, text):
    assert told(("return dx, dw", new)).text.startswith(text)


def test_what_is_printed_is_shown_and_cut(capsys):
    found = told(("dn = dy * w", "print('dy', dy.shape)\n    dn = dy * w"))
    assert found.ok is True
    assert "your code printed:\ndy (3, 8)\n" in found.text
    found = told(("dn = dy * w", "print('long' * 5000)\n    dn = dy * w"))
    assert len(found.text) < 4500
    assert found.text.endswith("…")
    assert capsys.readouterr() == ("", "")


def test_a_warning_is_a_remark():
    found = told(("dn = dy * w", "np.log(np.zeros(1))\n    dn = dy * w"))
    assert found.ok is True
    assert "remark: RuntimeWarning: divide by zero encountered in log" in found.text


def test_a_forward_that_stops_the_complex_step_is_judged_by_differences():
    found = told(("(x * x)", "(np.abs(x) ** 2)"))
    assert found.ok is True
    assert "np.abs drops imaginary parts" in found.text


def test_a_verdict_knows_nothing_of_the_one_before():
    assert verdict("5.2", SOLUTION).ok
    text = SOLUTION.partition("def rms_norm_backward")[0]
    assert verdict("5.2", text).text == "expected a function rms_norm_backward, found none"
    assert verdict("5.2", SOLUTION).text == verdict("5.2", SOLUTION).text


def test_arguments_are_checked():
    with pytest.raises(ArgumentError, match="language: expected one of 'en', 'zh', found 'de'"):
        verdict("5.2", SOLUTION, "de")
    with pytest.raises(ArgumentError, match="text: expected a string, found bytes"):
        verdict("5.2", SOLUTION.encode())
    with pytest.raises(ArgumentError, match=r"found '0\.0'"):
        verdict("0.0", SOLUTION)


def test_a_verdict_needs_numpy_alone():
    """As in the browser, where nothing else is installed."""
    program = (
        "import sys\n"
        "for name in ('safetensors', 'tokenizers', 'huggingface_hub', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "from minizha.exercises import exercise, verdict\n"
        "assert verdict('5.2', exercise('5.2').solution).ok\n"
        "import minizha\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_does_not_import_exercises():
    program = "import sys, minizha; assert not [m for m in sys.modules if 'exercises' in m]"
    subprocess.run([sys.executable, "-c", program], check=True)
