"""Every hidden state, attention, logit, loss and gradient against numbers that Transformers made.

vectors/README.md says how. The numbers are float64, the weights have standard deviation 0.1 (at
the initial 0.02 several known mistakes would drown in the noise).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import minizha
from minizha import NezhaConfig
from minizha.backend import to_host

FOLDER = Path(__file__).parents[1] / "vectors" / "transformers-4.37.2"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in MANIFEST["cases"] if case["name"] != "adamw"}
TOLERANCE = 1e-11


class Recorded:
    """The model rebuilt from recorded parameters, and what the record says should come out."""

    def __init__(self, arrays, class_name, config, class_arguments, backend="numpy"):
        self.groups = {}
        for key, array in arrays.items():
            group, _, field = key.partition("/")
            self.groups.setdefault(group, {})[field] = array
        kind = getattr(minizha, class_name)
        config = NezhaConfig.from_dict(config)
        self.model = kind(config, dtype="float64", backend=backend, **class_arguments)
        self.model.load_state_dict(self.groups["parameters"])

    @classmethod
    def from_file(cls, name, backend):
        about = CASES[name]
        arrays = load_file(FOLDER / about["file"])
        return cls(arrays, about["class"], about["config"], about["class_arguments"], backend)

    def run(self):
        return self.model(
            **self.groups["inputs"], output_attentions=True, output_hidden_states=True, record=True
        )

    def backward(self, out):
        upstream = {}
        for name, array in self.groups.get("upstream", {}).items():
            field, _, place = name.partition(".")
            if place:
                upstream.setdefault(field, [None] * len(out[field]))[int(place)] = array
            else:
                upstream[field] = array
        return out.backward(**upstream)


def fields(out):
    for name, value in out.items():
        if isinstance(value, tuple):
            yield from ((f"{name}.{i}", to_host(array)) for i, array in enumerate(value))
        else:
            yield name, to_host(value)


def largest_difference(out, expected):
    found = dict(fields(out))
    assert expected.keys() <= found.keys()
    return max(np.abs(found[name] - array).max() for name, array in expected.items())


def largest_gradient_difference(gradients, expected):
    """Relative in norm; absolute where the exact gradient is 0, as for every key bias."""
    assert gradients.keys() == expected.keys()
    worst = 0.0
    for name, array in expected.items():
        scale = np.linalg.norm(array)
        difference = np.linalg.norm(to_host(gradients[name]) - array)
        worst = max(worst, difference / scale if scale > 1e-12 else difference)
    return worst


def differences(case):
    """The largest difference of any output, and of any gradient."""
    out = case.run()
    given = case.backward(out)
    gradients = case.model.gradients() | given
    return (
        largest_difference(out, case.groups["outputs"]),
        largest_gradient_difference(gradients, case.groups["gradients"]),
    )


@pytest.mark.parametrize("name", CASES)
def test_outputs_and_gradients_equal_those_of_transformers(name, backend):
    assert max(differences(Recorded.from_file(name, backend))) <= TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_the_one_that_the_manifest_describes(name):
    data = (FOLDER / CASES[name]["file"]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == CASES[name]["sha256"]


@pytest.mark.parametrize("name", ["model-no-pooler", "pretraining-clipped", "maskedlm-holes"])
def test_a_small_mistake_is_seen(name, backend):
    """Negative control: the distance with its sign flipped."""
    case = Recorded.from_file(name, backend)
    case.model.table = case.model.table[::-1]
    assert min(differences(case)) > 1e-4
