"""The formulas of the book's widgets are right: Node computes what Python computes."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from minizha.ops.cross_entropy import cross_entropy, cross_entropy_backward
from minizha.ops.softmax import softmax
from tests.support.paths import ROOT

STATIC = ROOT / "docs/book/_static"


def in_node(expression, tmp_path, name="step-size"):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node, which the book is built with, is not installed")
    script = tmp_path / "widget.cjs"
    script.write_text((STATIC / f"{name}.js").read_text("utf-8"), "utf-8")
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


@pytest.mark.parametrize("z", [[1.0, 0.0, -1.0], [6.0, 0.0, -6.0], [800.0, 0.5, -3.0]])
@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_simplex_shows_softmax_its_loss_and_the_gradient(z, label, tmp_path):
    loss, cache = cross_entropy(np.array([z]), np.array([label]))
    expected = [*softmax(np.array(z))[0], *cross_entropy_backward(1.0, cache)[0], loss]
    call = f"[...w.softmax({z}), ...w.gradient({z}, {label}), w.loss({z}, {label})]"
    found = in_node(call, tmp_path, "simplex")
    assert np.allclose(found, expected, rtol=1e-14, atol=1e-15)
