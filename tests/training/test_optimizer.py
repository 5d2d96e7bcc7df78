"""AdamW, clipping and schedule compared with ten steps of torch.optim.AdamW."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.backend import to_host
from minizha.errors import ArgumentError
from minizha.training.optimizer import AdamW, clip_by_global_norm
from minizha.training.schedule import linear_schedule
from tests.support.paths import VECTORS

FOLDER = VECTORS / "transformers-4.37.2"
CASE = next(
    c
    for c in json.loads((FOLDER / "manifest.json").read_text("utf-8"))["cases"]
    if c["name"] == "adamw"
)


def run_ten_steps(backend, **options):
    arrays = load_file(FOLDER / CASE["file"])
    groups = {}
    for key, array in arrays.items():
        group, _, name = key.partition("/")
        groups.setdefault(group, {})[name] = array
    model = NezhaForPreTraining(
        NezhaConfig.from_dict(CASE["config"]), dtype="float64", backend=backend
    )
    model.load_state_dict(groups["parameters"])
    optimizer = AdamW(model, **options)
    losses, norms = [], []
    for rate in groups["history"]["learning_rates"]:
        model.zero_grad()
        out = model(**groups["inputs"])
        out.backward()
        gradients, norm = clip_by_global_norm(model.gradients(), 1.0)
        optimizer.step(gradients, float(rate))
        losses.append(float(out.loss))
        norms.append(float(norm))
    final = {name: to_host(p) for name, p in model.state_dict().items()}
    return groups, losses, norms, final


def test_ten_steps_follow_torch(backend):
    groups, losses, norms, final = run_ten_steps(backend)
    history = groups["history"]
    assert np.abs(np.array(losses) - history["losses"]).max() <= 1e-10
    assert np.abs(np.array(norms) - history["gradient_norms"]).max() <= 1e-10
    assert final.keys() == groups["final"].keys()
    for name, array in groups["final"].items():
        assert np.abs(final[name] - array).max() <= 1e-10, name


@pytest.mark.parametrize("wrong", [{"betas": (0.9, 0.99)}, {"eps": 1e-4}, {"weight_decay": 0.0}])
def test_another_optimizer_is_told_apart(backend, wrong):
    groups, _, _, final = run_ten_steps(backend, **wrong)
    worst = max(np.abs(final[name] - array).max() for name, array in groups["final"].items())
    assert worst > 1e-6


def test_the_schedule_is_the_one_that_made_the_vectors():
    rates = load_file(FOLDER / CASE["file"])["history/learning_rates"]
    ours = [linear_schedule(s, rates.max(), 3, 10) for s in range(10)]
    assert np.allclose(ours, rates, rtol=1e-15, atol=0)
    assert linear_schedule(10, 1.0, 3, 10) == 0.0
    assert linear_schedule(0, 1.0, 0, 10) == 1.0


@pytest.mark.parametrize(("warmup", "total"), [(-1, 10), (11, 10), (0, 0)])
def test_an_impossible_schedule_is_refused(warmup, total):
    with pytest.raises(ArgumentError, match="warmup, total"):
        linear_schedule(0, 1.0, warmup, total)
