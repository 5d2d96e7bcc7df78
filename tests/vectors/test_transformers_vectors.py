"""Every hidden state, attention, logit, loss and gradient compared with Transformers' numbers.

vectors/README.md says how these were computed. The numbers are float64. The weights have standard
deviation 0.1: at the usual 0.02 the effect of several known mistakes would be below rounding noise.
"""

import hashlib
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import minizha
from minizha import NezhaConfig
from minizha.backend import to_host
from tests.support.paths import VECTORS

FOLDER = VECTORS / "transformers-4.37.2"
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in MANIFEST["cases"] if case["name"] != "adamw"}
TOLERANCE = 1e-11


class Recorded:
    """A model with the recorded parameters, and its recorded inputs, outputs and gradients."""

    def __init__(self, arrays, class_name, config, class_arguments, backend="numpy"):
        self.groups = {}
        for key, array in arrays.items():
            group, _, field = key.partition("/")
            self.groups.setdefault(group, {})[field] = array
        model_class = getattr(minizha, class_name)
        config = NezhaConfig.from_dict(config)
        self.model = model_class(config, dtype="float64", backend=backend, **class_arguments)
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
        upstream = self.groups.get("upstream", {})
        given = {name.partition(".")[0] for name in upstream}
        return out.backward(**{name: nested(name, out[name], upstream) for name in given})


def nested(name, like, arrays):
    """The arrays called name, or name.0, name.1, …, or name.0.0, …, in tuples as `like` has them."""
    if isinstance(like, tuple):
        return tuple(nested(f"{name}.{i}", part, arrays) for i, part in enumerate(like))
    return arrays[name]


def fields(values):
    for name, value in values:
        if isinstance(value, tuple):
            yield from fields((f"{name}.{i}", part) for i, part in enumerate(value))
        else:
            yield name, to_host(value)


def largest_difference(out, expected):
    found = dict(fields(out.items()))
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
    gradients.pop(
        "head_mask", None
    )  # not in the files: tests/model/test_transformers_live.py has it
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


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name]["class"] == "NezhaModel"])
def test_only_a_decoder_that_uses_the_cache_returns_it(name, backend):
    config, case = CASES[name]["config"], Recorded.from_file(name, backend)
    expected = config["is_decoder"] and config["use_cache"]
    assert any(field.startswith("past_key_values") for field in case.groups["outputs"]) == expected
    assert (case.run().past_key_values is not None) == expected


FLIPPED = (
    "model-no-pooler",
    "pretraining-clipped",
    "maskedlm-holes",
    "decoder-clipped-right",
    "cross-right",
    "cross-maskedlm",
    "pruned-cross",
    "chunked-model",
    "sequence-multi",
    "choice-right",
    "token-left",
    "question-outside",
)


@pytest.mark.parametrize("name", FLIPPED)
def test_a_small_mistake_is_seen(name, backend):
    """Negative control: the distance with its sign flipped."""
    case = Recorded.from_file(name, backend)
    case.model.table = case.model.table[::-1]
    assert min(differences(case)) > 1e-4


def not_causal(inputs):
    B, L = inputs["input_ids"].shape
    inputs["attention_mask"] = np.ones((B, L, L))


def blind_to_the_encoder_mask(inputs):
    del inputs["encoder_attention_mask"]


def states_reversed(inputs):
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][:, ::-1].copy()


def ignored_label_counted(inputs):
    inputs["labels"] = np.maximum(inputs["labels"], 0)


def labels_rounded(inputs):
    inputs["labels"] = np.round(inputs["labels"])


def choices_swapped(inputs):
    inputs["input_ids"] = inputs["input_ids"].transpose(1, 0, 2).reshape(inputs["input_ids"].shape)


def outside_taken_as_the_last(inputs):
    last = inputs["input_ids"].shape[1] - 1
    inputs["start_positions"] = np.minimum(inputs["start_positions"], last)


MISTAKES = [
    ("decoder-plain", not_causal),
    ("decoder-maskedlm-upstream", not_causal),
    ("cross-right", blind_to_the_encoder_mask),
    ("cross-pairwise", blind_to_the_encoder_mask),
    ("cross-maskedlm", blind_to_the_encoder_mask),
    ("cross-plain", states_reversed),
    ("sequence-single", ignored_label_counted),
    ("sequence-regression", labels_rounded),
    ("sequence-multi-given", labels_rounded),
    ("choice-plain", choices_swapped),
    ("token-plain", ignored_label_counted),
    ("question-outside", outside_taken_as_the_last),
]


@pytest.mark.parametrize(
    ("name", "mistake"), MISTAKES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_mistake_in_the_inputs_is_seen(name, mistake, backend):
    """Negative control: the numbers depend on the feature that each case tests."""
    case = Recorded.from_file(name, backend)
    mistake(case.groups["inputs"])
    assert min(differences(case)) > 1e-4


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("cross-right", "past_key_values"),
        ("decoder-clipped-right", "past_key_values"),
        ("cross-right", "cross_attentions"),
    ],
)
def test_a_dropped_upstream_gradient_is_seen(name, field, backend):
    """Negative control: the gradient depends on the upstream gradients of these outputs."""
    case = Recorded.from_file(name, backend)
    for key in [key for key in case.groups["upstream"] if key.startswith(field)]:
        case.groups["upstream"][key][:] = 0
    output, gradient = differences(case)
    assert output <= TOLERANCE
    assert gradient > 1e-4
