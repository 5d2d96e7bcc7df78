"""The complex step against backward: every entry of every parameter, on many tiny models."""

import numpy as np
import pytest

from minizha import MinizhaError, crosscheck
from minizha.backend import to_backend, to_host
from minizha.errors import ArgumentError
from tests.support.tiny_models import DECODERS, TINY, Tiny


def test_there_are_enough_configurations():
    kinds = [tiny.class_name for tiny in TINY.values()]
    assert kinds.count("NezhaForPreTraining") >= 14
    assert len(set(kinds)) == 3
    assert len(DECODERS) >= 20


@pytest.mark.parametrize("name", TINY)
def test_every_entry_of_every_parameter(name, backend):
    """How many entries of each array to check: five on a device, where every pass is slow."""
    tiny = TINY[name]
    model, inputs = tiny.model(backend), tiny.inputs()
    entries = None if backend == "numpy" else 5
    report = crosscheck.gradcheck(model, inputs, entries=entries, tolerance=1e-12)
    assert report.ok, report
    if entries is not None:
        return
    expected = model.num_parameters()
    for name in ("inputs_embeds", "encoder_hidden_states"):
        expected += inputs[name].size if name in inputs else 0
    expected += sum(a.size for layer in inputs.get("past_key_values", ()) for a in layer)
    if tiny.pad and model.config.pad_token_id is not None:
        # by convention the lookup of the padding row has no gradient
        expected -= model.config.hidden_size
    assert report.checked == expected


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "dropout and everything",
        "masked lm",
        "next sentence",
        "cross-attention",
        "decoder and everything",
    ],
)
def test_no_gradient_is_0_for_want_of_a_path(name, backend):
    """Negative control of the models: if all gradients were 0, the check would prove nothing."""
    tiny = TINY[name]
    model = tiny.model(backend)
    model(**tiny.inputs()).backward()
    for parameter, gradient in model.gradients().items():
        largest = np.abs(to_host(gradient)).max()
        # the past keys do not contain the bias, so it adds more than a constant to the scores
        if parameter.endswith("key.bias") and (not tiny.past or "crossattention" in parameter):
            assert largest <= 1e-15
        elif not (tiny.embeds and parameter.endswith(".word_embeddings.weight")):
            assert largest > 1e-5, parameter


# --- the check itself -----------------------------------------------------------------------------


def test_a_past_of_nested_lists_is_the_same_past(backend):
    model, inputs = TINY["past"].model(backend), TINY["past"].inputs()
    past = [[array.tolist() for array in layer] for layer in inputs["past_key_values"]]
    reports = [
        crosscheck.gradcheck(model, given, entries=2)
        for given in (inputs, inputs | {"past_key_values": past})
    ]
    assert reports[0] == reports[1]
    assert reports[0].ok


def test_the_model_is_not_touched(backend):
    tiny = TINY["dropout"]
    model, inputs = tiny.model(backend), tiny.inputs()
    model(**inputs).backward()
    before = [
        {name: to_host(array).copy() for name, array in named.items()}
        for named in (model.state_dict(), model.gradients(), inputs)
    ]
    generator = model._rng.bit_generator.state
    assert crosscheck.gradcheck(model, inputs, entries=1).ok
    assert model.training
    assert model.dtype == "float64"
    assert model._rng.bit_generator.state == generator
    for old, new in zip(before, (model.state_dict(), model.gradients(), inputs), strict=True):
        assert old.keys() == new.keys()
        assert all((old[name] == to_host(new[name])).all() for name in old)


def test_a_float32_model_is_checked_in_float64(backend):
    tiny = TINY["inputs_embeds"]
    model, inputs = tiny.model(backend, "float32"), tiny.inputs()
    inputs["inputs_embeds"] = inputs["inputs_embeds"].astype("float32")
    assert crosscheck.gradcheck(model, inputs, entries=3).ok


def test_inputs_may_lie_on_the_device(backend):
    tiny = TINY["inputs_embeds"]
    model = tiny.model(backend)
    inputs = {name: to_backend(array, model.xp) for name, array in tiny.inputs().items()}
    assert crosscheck.gradcheck(model, inputs, entries=3).ok


def test_entries_are_so_many_of_each_parameter_drawn_with_the_seed(backend):
    tiny = TINY["plain"]
    model, inputs = tiny.model(backend), tiny.inputs()
    first, again, other = (
        crosscheck.gradcheck(model, inputs, entries=2, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other
    assert first.checked == 2 * len(model.state_dict())


def test_the_report_names_the_worst_entry(backend):
    tiny = TINY["plain"]
    report = crosscheck.gradcheck(tiny.model(backend), tiny.inputs(), entries=2, tolerance=0.0)
    assert not report.ok
    assert report.error < 1e-14
    place = f"{report.name}[{', '.join(map(str, report.index))}]"
    assert place in str(report)
    assert f"{report.checked} derivatives" in str(report)
    assert "DIFFER" in str(report)
    assert "agree" in str(report._replace(ok=True))


def test_without_labels_there_is_nothing_to_check(backend):
    tiny = Tiny(labels=())
    with pytest.raises(ArgumentError, match="labels") as caught:
        crosscheck.gradcheck(tiny.model(backend), tiny.inputs())
    assert isinstance(caught.value, MinizhaError)


def test_a_nan_is_never_ok(backend, monkeypatch):
    from minizha.nezha import heads

    right = heads.linear_backward
    monkeypatch.setattr(
        heads,
        "linear_backward",
        lambda dy, cache: tuple(d * np.nan if d.ndim == 1 else d for d in right(dy, cache)),
    )
    tiny = TINY["next sentence"]
    report = crosscheck.gradcheck(tiny.model(backend), tiny.inputs())
    assert not report.ok
    assert np.isnan(report.error)
    assert report.name == "nezha.pooler.dense.bias"
