"""Backward passes of the four heads: the complex step over every entry, upstream gradients of any
field. (The mistakes that it must find are in test_head_mistakes.py.)"""

import numpy as np
import pytest

from minizha import crosscheck
from minizha.backend import to_host
from minizha.errors import ArgumentError, MinizhaError
from tests.support.running import random_upstream, recorded
from tests.support.tiny_heads import ANSWER, CHOICE, HEADS, SEQUENCE, TOKENS, TinyHead

# --- the complex step -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_every_entry_of_every_parameter(name, backend):
    """On a device, where each pass is slow, three entries of each parameter."""
    head = HEADS[name]
    model, inputs = head.model(backend), head.inputs()
    entries = None if backend == "numpy" else 3
    report = crosscheck.gradcheck(model, inputs, entries=entries, tolerance=1e-12)
    assert report.ok, report
    if entries is None:
        embeds = inputs["inputs_embeds"].size if head.embeds else 0
        assert report.checked == model.num_parameters() + embeds


# softmax ignores a shift of all keys, of all choices, of all positions
SHIFTS = {
    CHOICE: ("key.bias", "classifier.bias"),
    ANSWER: ("key.bias", "qa_outputs.bias", "layer.0.output.LayerNorm.bias"),
}


@pytest.mark.parametrize("name", HEADS)
def test_no_gradient_is_0_for_want_of_a_path(name, backend):
    """Negative control: if all gradients were 0, the check would prove nothing."""
    head = HEADS[name]
    model = head.model(backend)
    model(**head.inputs()).backward()
    for parameter, gradient in model.gradients().items():
        largest = np.abs(to_host(gradient)).max()
        if parameter.endswith(SHIFTS.get(head.class_name, ("key.bias",))):
            assert largest <= 1e-15
        elif not (head.embeds and parameter.endswith(".word_embeddings.weight")):
            assert largest > 1e-5, parameter


def test_there_is_a_case_for_each_head_and_loss_and_each_with_dropout():
    for train in (False, True):
        cases = {(h.class_name, h.label_type) for h in HEADS.values() if h.train is train}
        assert {class_name for class_name, _ in cases} == {SEQUENCE, CHOICE, TOKENS, ANSWER}
        assert {(SEQUENCE, label_type) for label_type in ("single", "multi", "regression")} <= cases


# --- upstream gradients ---------------------------------------------------------------------------


FIELDS = {
    SEQUENCE: {"logits"},
    CHOICE: {"logits"},
    TOKENS: {"logits"},
    ANSWER: {"start_logits", "end_logits"},
}
LABEL_TYPES = {SEQUENCE: "multi", CHOICE: "choice", TOKENS: "tokens", ANSWER: "positions"}
LABELLED = {
    class_name: TinyHead(
        class_name,
        label_type,
        {"num_hidden_layers": 2},
        B=2,
        choices=3 * (class_name == CHOICE),
        embeds=True,
    )
    for class_name, label_type in LABEL_TYPES.items()
}


def weighted(out, upstream):
    """``Σ ⟨upstream[f], out[f]⟩``."""
    total = 0.0
    for name, u in upstream.items():
        pairs = zip(u, out[name], strict=True) if isinstance(u, tuple) else [(u, out[name])]
        total = total + sum((weight * to_host(array)).sum() for weight, array in pairs)
    return total


@pytest.mark.parametrize("fields", ["every one", "all but the loss", "logits", "inner ones"])
@pytest.mark.parametrize("class_name", FIELDS)
def test_upstream_gradients(class_name, fields, backend):
    """Along a random direction of all parameters and inputs at once, against the complex step."""
    head, rng = LABELLED[class_name], np.random.default_rng(3)
    model, inputs = head.model(backend), head.inputs()
    upstream = {"loss": rng.standard_normal(())} | random_upstream(recorded(model, inputs), rng)
    chosen = {
        "every one": set(upstream),
        "all but the loss": set(upstream) - {"loss"},
        "logits": FIELDS[class_name],
        "inner ones": {"hidden_states", "attentions"},
    }[fields]
    upstream = {name: d for name, d in upstream.items() if name in chosen}
    gradients = recorded(model, inputs).backward(**upstream)
    assert {name: d.shape for name, d in gradients.items()} == {
        "inputs_embeds": inputs["inputs_embeds"].shape
    }
    gradients |= model.gradients()
    direction = {name: rng.standard_normal(d.shape) for name, d in gradients.items()}
    stepped = model.astype("complex128")
    stepped.load_state_dict(
        {n: to_host(a) + 1e-30j * direction[n] for n, a in model.state_dict().items()}
    )
    embeds = inputs["inputs_embeds"] + 1e-30j * direction["inputs_embeds"]
    expected = (
        weighted(recorded(stepped, inputs | {"inputs_embeds": embeds}), upstream).imag / 1e-30
    )
    found = sum((to_host(d) * direction[name]).sum() for name, d in gradients.items())
    assert abs(found - expected) <= 1e-11 * max(1.0, abs(expected))
    assert abs(expected) > 1e-3


@pytest.mark.parametrize("class_name", FIELDS)
def test_the_loss_is_a_field_like_the_others(class_name, backend):
    """``backward()`` is ``backward(loss=1)``, gradients add up, and shapes are checked."""
    head = LABELLED[class_name]
    model, inputs = head.model(backend), head.inputs()

    def gradients(*calls):
        model.zero_grad()
        out = model(**inputs)
        for upstream in calls:
            out.backward(**upstream)
        return {name: to_host(d) for name, d in model.gradients().items()}

    once, one, twice = gradients({}), gradients({"loss": 1.0}), gradients({}, {"loss": -0.5})
    for name, expected in once.items():
        np.testing.assert_array_equal(one[name], expected)
        np.testing.assert_allclose(twice[name], 0.5 * expected, rtol=1e-12, atol=1e-14)
    out = model(**inputs)
    field = min(FIELDS[class_name])
    with pytest.raises(ArgumentError, match=f"backward: {field}: expected shape"):
        out.backward(**{field: np.ones(3)})
    with pytest.raises(ArgumentError, match="no field of this output"):
        out.backward(pooler_output=np.ones((2, 4)))


@pytest.mark.parametrize("class_name", FIELDS)
def test_without_labels_there_is_a_way_back_from_the_logits(class_name, backend):
    head = LABELLED[class_name]
    model = head.model(backend)
    inputs = {name: a for name, a in head.inputs().items() if name == "inputs_embeds"}
    out = model(**inputs)
    assert out.loss is None
    with pytest.raises(MinizhaError, match="nothing was recorded"):
        out.backward()
    out = model(**inputs, record=True)
    with pytest.raises(MinizhaError, match="no loss to start from"):
        out.backward()
    d = out.backward(**random_upstream(out, 0))["inputs_embeds"]
    assert np.abs(to_host(d)).max() > 1e-3
