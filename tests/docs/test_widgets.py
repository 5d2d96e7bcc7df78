"""The formulas of the book's widgets are right: Node computes what Python computes."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from tests.support.paths import ROOT

STATIC = ROOT / "docs/book/_static"


def in_node(expression, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node, which the book is built with, is not installed")
    script = tmp_path / "widget.cjs"
    script.write_text((STATIC / "step-size.js").read_text("utf-8"), "utf-8")
    code = (
        f"const w = require({json.dumps(str(script))}); console.log(JSON.stringify({expression}))"
    )
    done = subprocess.run([node, "-e", code], check=True, capture_output=True, text=True)
    return np.array(json.loads(done.stdout))


def test_the_widget_of_steps_computes_three_derivatives(tmp_path):
    def f(x):
        return x / np.sqrt(1 + x * x)

    x, steps = 0.7, [0.3, 1e-2, 1e-5, 1e-30]
    forward = [(f(x + h) - f(x)) / h for h in steps]
    central = [(f(x + h) - f(x - h)) / (2 * h) for h in steps]
    complex_step = [f(x + 1j * h).imag / h for h in steps]
    found = in_node(f"{steps}.map((h) => w.derivatives({x}, h))", tmp_path)
    # rounding of f, which may differ between the two languages, is divided by h
    allowed = np.array([[4e-16 / h, 4e-16 / h, 4e-16] for h in steps])
    assert (np.abs(found - np.array([forward, central, complex_step]).T) <= allowed).all()


def test_the_widget_of_steps_shows_their_errors(tmp_path):
    x, h = 0.7, 1e-2
    slope = (1 + x * x) ** -1.5
    expected = in_node(f"w.derivatives({x}, {h})", tmp_path)
    found = in_node(f"w.errors({h})", tmp_path)
    assert np.allclose(found, np.abs(expected - slope) / slope, rtol=1e-9, atol=0)
    assert found[0] > 10 * found[1] > 0
