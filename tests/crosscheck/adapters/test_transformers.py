"""What the adapter records of a live Transformers model, array by array, and of another port in torch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the peers extra is not installed")
transformers = pytest.importorskip("transformers", reason="the peers extra is not installed")
if not hasattr(transformers, "NezhaModel"):
    pytest.skip("this Transformers has no Nezha (5 dropped it)", allow_module_level=True)

from make_transformers_vectors import build
from transformers_inputs import make_inputs

import minizha
from minizha import MinizhaError, NezhaConfig, crosscheck
from minizha.crosscheck.adapters import transformers as peer
from minizha.crosscheck.adapters.torch_recorder import TorchRecorder, run
from minizha.crosscheck.names import ATTENTION, FEED_FORWARD, in_order
from tests.crosscheck.adapters.test_adapters import (
    SINGLE_LOSSES,
    TOLERANCE,
    block,
    difference,
    first_divergence,
    inputs_of,
    model_of,
)
from tests.model.test_transformers_live import LABELS, random_case
from tests.support.adapter_example import MASKED, UNMASKED, Port, our_names

SEEDS = (*range(24), 27, 34, 98)  # few seeds draw an encoder


def both_of(seed):
    """A random model in minizha and in Transformers, and the arguments of a call."""
    case = random_case(seed)
    rng = np.random.default_rng(seed)
    theirs, parameters = build(case, rng)
    config = NezhaConfig.from_dict(case.config)
    ours = getattr(minizha, case.class_name)(config, dtype="float64", **case.class_arguments)
    ours.load_state_dict({name: p.detach().numpy() for name, p in parameters.items()})
    return ours, theirs, make_inputs(rng, case)


def their(ours):
    """The same model in Transformers."""
    config = transformers.NezhaConfig(**ours.config.to_dict())
    theirs = getattr(transformers, type(ours).__name__)(config).eval()
    theirs.to(getattr(torch, str(ours.dtype)))
    arrays = {name: torch.from_numpy(np.array(p)) for name, p in ours.state_dict().items()}
    theirs.load_state_dict(arrays, strict=False)
    return theirs


# --- equal to minizha -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_every_array_of_a_random_model_is_that_of_the_trace(seed):
    ours, theirs, inputs = both_of(seed)
    trace = crosscheck.trace(ours, inputs)
    found = peer.record(peer.exact_table(theirs), inputs)
    assert [name for name in trace if name not in SINGLE_LOSSES] == list(found)
    assert first_divergence(trace, found, TOLERANCE) is None


def test_the_seeds_reach_every_class_and_a_decoder_with_an_encoder():
    """Negative control of the random cases."""
    cases = [random_case(seed) for seed in SEEDS]
    assert {case.class_name for case in cases} == LABELS.keys()
    assert any(case.encoder for case in cases)
    assert any(case.embeds for case in cases)
    assert any(case.head_mask for case in cases)
    assert any("pruned_heads" in case.config for case in cases)
    assert any("chunk_size_feed_forward" in case.config for case in cases)


@pytest.mark.parametrize("class_name", LABELS)
def test_in_float32_nothing_needs_to_be_done_to_the_table(class_name):
    ours = model_of(class_name, "float32")
    inputs = inputs_of()
    if class_name == "NezhaForMultipleChoice":
        inputs = {name: array[:, None].repeat(2, axis=1) for name, array in inputs.items()}
    trace, found = crosscheck.trace(ours, inputs), peer.record(their(ours), inputs)
    assert {array.dtype.name for array in found.values()} == {"float32"}
    for name in found:
        zero = name.endswith("key.bias.grad")  # in theory
        assert zero or difference(trace[name], found[name]) < 1e-4, name


def test_in_float64_the_table_that_transformers_makes_is_seen():
    """Negative control of :func:`exact_table`."""
    ours = model_of("NezhaModel")
    trace, found = crosscheck.trace(ours, inputs_of()), peer.record(their(ours), inputs_of())
    assert first_divergence(trace, found, TOLERANCE) == "encoder.layer.0.attention.scores"
    assert first_divergence(trace, found, 1e-4) is None


@pytest.mark.parametrize("label", ["labels", "next_sentence_label"])
def test_a_loss_of_one_label_where_transformers_has_none(label):
    ours = model_of("NezhaForPreTraining")
    labels = {
        "labels": np.where(np.arange(14).reshape(2, 7) % 3, -100, 5),
        "next_sentence_label": [1, 0],
    }
    inputs = inputs_of() | {label: labels[label]}
    trace = crosscheck.trace(ours, inputs)
    found = peer.record(peer.exact_table(their(ours)), inputs)
    assert "loss" in found
    assert first_divergence(trace, found, TOLERANCE) is None


def test_the_way_back_from_asked_fields():
    rng = np.random.default_rng(3)
    ours = model_of("NezhaModel")
    states = tuple(rng.normal(size=(2, 7, 24)) for _ in range(3))
    upstream = {"hidden_states": states, "pooler_output": rng.normal(size=(2, 24))}
    inputs = inputs_of() | {"output_hidden_states": True}
    trace = crosscheck.trace(ours, inputs, upstream=upstream)
    theirs = peer.exact_table(their(ours))
    assert (
        first_divergence(trace, peer.record(theirs, inputs, upstream=upstream), TOLERANCE) is None
    )
    upstream["hidden_states"] = states[::-1]
    found = peer.record(theirs, inputs, upstream=upstream)
    assert first_divergence(trace, found, TOLERANCE) == "encoder.layer.1.grad"


def test_without_gradients_there_is_the_forward_pass_alone():
    ours = model_of("NezhaForMaskedLM")
    found = peer.record(their(ours), inputs_of(), gradients=False)
    assert list(found) == list(crosscheck.trace(ours, inputs_of(), gradients=False))


def test_a_recording_leaves_the_model_as_it_was():
    theirs = their(model_of("NezhaModel"))
    theirs.embeddings.requires_grad_(False)
    frozen = [p.requires_grad for p in theirs.parameters()]
    first = peer.record(theirs, inputs_of())
    assert "embeddings.word_embeddings.weight.grad" in first
    assert [p.requires_grad for p in theirs.parameters()] == frozen
    assert all(p.grad is None for p in theirs.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in theirs.modules())
    second = peer.record(theirs, inputs_of())
    assert all(np.array_equal(first[name], second[name]) for name in first)


# --- a planted change is seen, where it was planted -------------------------------------------------


def flip_distances(model):
    for module in model.modules():
        if hasattr(module, "positions_encoding"):
            module.positions_encoding = module.positions_encoding.transpose(0, 1)


def another_eps(model):
    model.encoder.layer[1].attention.output.LayerNorm.eps = 1e-5


def tanh_gelu(model):
    model.encoder.layer[0].intermediate.intermediate_act_fn = torch.nn.GELU(approximate="tanh")


def no_value_term(model):
    encoding = model.encoder.layer[1].attention.self.relative_positions_encoding
    whole, calls = encoding.forward, []

    def every_second_is_nothing(length):
        calls.append(length)
        return whole(length) * (len(calls) % 2)

    encoding.forward = every_second_is_nothing


def twice_the_gradient(model):
    """The forward values stay the same."""
    dense = model.encoder.layer[0].attention.output.dense
    dense.register_forward_hook(lambda _module, _taken, y: 2 * y - y.detach())


PLANTED = [
    (flip_distances, "encoder.layer.0.attention.scores"),
    (another_eps, "encoder.layer.1.attention.output"),
    (tanh_gelu, "encoder.layer.0.intermediate"),
    (no_value_term, "encoder.layer.1.attention.context"),
    (twice_the_gradient, "encoder.layer.0.attention.output.dense.weight.grad"),
]


@pytest.mark.parametrize(("plant", "first"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_change_is_seen_where_it_was_planted(plant, first):
    ours = model_of("NezhaModel")
    theirs = peer.exact_table(their(ours))
    plant(theirs)
    trace, found = crosscheck.trace(ours, inputs_of()), peer.record(theirs, inputs_of())
    assert first_divergence(trace, found, TOLERANCE) == first


# --- what can't be recorded -----------------------------------------------------------------------


def test_what_is_no_model():
    with pytest.raises(MinizhaError, match="expected a Nezha class of Transformers, found Linear"):
        peer.record(torch.nn.Linear(2, 2), {})


@pytest.mark.parametrize(
    ("upstream", "words"),
    [
        ({"pooled": np.ones(3)}, r"pooler_output \(2, 24\).*; found pooled \(3,\)"),
        ({"pooler_output": np.ones((24,))}, r"found pooler_output \(24,\)"),
    ],
)
def test_upstream_gradients_that_do_not_fit(upstream, words):
    with pytest.raises(MinizhaError, match=words):
        peer.record(their(model_of("NezhaModel")), inputs_of(), upstream=upstream)


def test_where_transformers_fails_it_is_said():
    theirs = their(model_of("NezhaModel", is_decoder=True))
    past = tuple((np.ones((2, 3, 2, 8)), np.ones((2, 3, 2, 8))) for _ in range(2))
    inputs = {"input_ids": np.ones((2, 1), int), "past_key_values": past}
    with pytest.raises(MinizhaError, match="Transformers failed on these inputs"):
        peer.record(theirs, inputs)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in theirs.modules())


# --- a port of one's own ----------------------------------------------------------------------------


def record_port(port, inputs):
    """The page's code for a new port."""
    names = {"port": port, "our_names": our_names(port), "inputs": inputs}
    exec(block("import TorchRecorder, run"), names)
    return names["theirs"]


@pytest.mark.parametrize("mask_by", [*MASKED, *UNMASKED])
def test_scores_are_found_however_the_mask_joins_them(mask_by):
    torch.manual_seed(0)
    port = Port(mask_by=mask_by).double()
    inputs = {
        "input_ids": inputs_of()["input_ids"] % 13,
        "attention_mask": inputs_of()["attention_mask"],
    }
    found = record_port(port, inputs)
    visible = np.broadcast_to(inputs["attention_mask"][:, None, None, :], (2, 2, 7, 7)) != 0
    for i, part in enumerate(port.blocks):
        name = f"encoder.layer.{i}.attention"
        probs = found[f"{name}.probs"]
        assert np.array_equal(found[f"{name}.scores"], part.attention.scores.numpy())
        assert np.array_equal(probs, part.attention.probs.detach().numpy())
        assert (probs[~visible] == 0).all() == (mask_by in MASKED)
        dprobs = found[f"{name}.probs.grad"]
        dscores = probs * (dprobs - (probs * dprobs).sum(-1, keepdims=True))
        assert np.abs(found[f"{name}.scores.grad"] - dscores).max() < 1e-15
        assert np.abs(dscores).max() > 1e-3


def test_every_array_of_a_layer_is_recorded_in_the_order_of_execution_and_back():
    inputs = {"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}
    found = list(record_port(Port(layers=1), inputs))
    assert found == in_order(found)
    layer = "encoder.layer.0"
    every = [f"{layer}.attention.{row.name}" for row in ATTENTION if row.name != "weights"]
    every += [f"{layer}.{row.name}".removesuffix(".") for row in FEED_FORWARD]
    assert found[: len(every) + 1] == ["embeddings.LayerNorm", *every]
    gradients = found[len(every) + 1 :]
    assert {f"{name}.grad" for name in every} < set(gradients)
    assert gradients[:3] == [
        f"{layer}.grad",
        f"{layer}.output.LayerNorm.weight.grad",
        f"{layer}.output.LayerNorm.bias.grad",
    ]
    assert gradients[-1] == "embeddings.word_embeddings.weight.grad"


def test_the_gradient_is_the_total_over_all_uses():
    weight = torch.nn.Parameter(torch.tensor([2.0, 3.0], dtype=torch.float64))
    double = torch.nn.Identity()
    recorder = TorchRecorder()
    recorder.output(double, "embeddings")

    def call(given):
        x = double(given["x"] * weight)
        return {"logits": x * x + 5 * x}

    upstream = {"logits": np.array([1.0, 10.0])}
    names = {"embeddings.word_embeddings.weight": weight}
    found = run(recorder, call, {"x": [1.0, 2.0]}, names, True, upstream)
    assert found["embeddings.grad"].tolist() == [9.0, 170.0]  # (2x + 5) · upstream
    assert found["embeddings.word_embeddings.weight.grad"].tolist() == [9.0, 340.0]


def test_the_page_on_transformers_runs():
    ours = model_of("NezhaModel", "float32")
    names = {"their_model": their(ours), "inputs": inputs_of()}
    exec(block("peer.record"), names)
    trace = crosscheck.trace(ours, inputs_of(), gradients=False)
    assert first_divergence(trace, names["theirs"], 1e-5) is None
