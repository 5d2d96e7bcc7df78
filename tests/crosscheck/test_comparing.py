"""Two traces: which arrays are compared, in which order, and how the result is reported."""

import json
import math
import tracemalloc
import types
from collections.abc import Mapping

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.comparing import compare
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.errors import ArgumentError, FileError
from tests.support.eight_models import inputs_and_labels_of, perturbed
from tests.support.tiny_models import TINY
from tests.support.traces import has_remark, model_and_inputs

MODEL_CLASS = "NezhaForPreTraining"
SCORES = "encoder.layer.1.attention.scores"


def traced(name):
    return crosscheck.trace(*model_and_inputs(TINY[name]))


@pytest.fixture(scope="module")
def ours():
    return crosscheck.trace(perturbed(MODEL_CLASS, "numpy"), inputs_and_labels_of(MODEL_CLASS))


@pytest.fixture(scope="module")
def theirs():
    return crosscheck.trace(
        perturbed(MODEL_CLASS, "numpy", "float32"), inputs_and_labels_of(MODEL_CLASS)
    )


def spoilt(arrays, name, by=0.1, where=...):
    array = arrays[name].copy()
    array[where] += by
    return dict(arrays) | {name: array}


# --- the whole ------------------------------------------------------------------------------------


def test_equal(ours):
    report = crosscheck.compare(ours, dict(ours))
    assert report.ok
    assert report.first_divergence is None
    assert [d.name for d in report] == list(ours)
    assert all(d.error == d.max_abs == d.ulp == 0 for d in report)
    assert all(
        d.dtype == "float64" and d.tolerance == pytest.approx(12 * d.expected) and d.tolerance > 0
        for d in report
    )
    assert (report.missing, report.left_over, report.remarks, report.location) == (
        (),
        (),
        (),
        None,
    )


def test_rounding_is_no_difference(ours, theirs):
    report = compare(ours, theirs)
    assert report.ok
    assert {d.dtype for d in report} == {"float32"}
    assert any(d.error > 0 for d in report)
    assert compare(theirs, ours).ok  # whichever is ours


@pytest.mark.parametrize(
    "name", [SCORES, "embeddings", "loss", "encoder.layer.0.output.dense.bias.grad"]
)
def test_one_that_differs(ours, theirs, name):
    report = compare(ours, spoilt(theirs, name), diagnose=False)
    assert not report.ok
    assert report.first_divergence == name
    found = report.divergence
    assert found.max_abs == pytest.approx(0.1, rel=1e-3)
    assert found.error == pytest.approx(0.1 / np.abs(ours[name]).max(), rel=1e-3)
    assert found.theirs - found.ours == pytest.approx(0.1, rel=1e-3)
    assert found.ours == ours[name][found.index]
    assert found.tolerance < found.error
    assert [d.name for d in report if not d.ok] == [name]
    assert report.location.share > 0.9
    assert has_remark(report, "no array after it differs")


def test_the_first_is_the_first_in_our_order(ours):
    wrong = spoilt(spoilt(ours, "encoder.layer.0"), SCORES)
    assert (
        compare(ours, dict(reversed(wrong.items())), diagnose=False).first_divergence
        == "encoder.layer.0"
    )
    assert compare(dict(reversed(ours.items())), wrong, diagnose=False).first_divergence == SCORES


def test_what_only_one_side_has_is_no_fault(ours):
    some = {name: a for name, a in ours.items() if not name.endswith(".grad")}
    report = compare(ours, some | {"else": np.zeros(7)})
    assert report.ok
    assert report.missing == tuple(name for name in ours if name not in some)
    assert report.left_over == ("else",)
    report = compare(some, ours)
    assert report.left_over == tuple(name for name in ours if name not in some)


def test_progress(ours):
    calls = []
    compare(ours, ours, progress=lambda done, total: calls.append((done, total)))
    assert calls == [(k + 1, len(ours)) for k in range(len(ours))]


# --- tolerances -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ok"),
    [
        ({}, False),
        ({"rtol": 1e-3}, False),
        ({"rtol": 2.1e-3}, True),
        ({"atol": 1e-12}, False),
        ({"atol": 1.0}, True),
        ({"rtol": 1e-3, "atol": 1.0}, True),
        ({"rtol": 0.0}, False),
    ],
)
def test_given_tolerances_hold_entry_by_entry(ours, options, ok):
    name = "encoder.layer.0.attention.context"
    wrong = dict(ours) | {name: ours[name] * 1.002}
    report = compare(ours, wrong, diagnose=False, **options)
    assert report.ok == ok
    expected = np.allclose(wrong[name], ours[name], options.get("rtol", 0), options.get("atol", 0))
    assert expected == ok or not options
    if options and not ok:
        found = report.divergence
        allowed = options.get("atol", 0) + options.get("rtol", 0) * abs(found.ours)
        assert found.max_abs >= abs(found.ours - found.theirs) > allowed
        assert found.tolerance * np.abs(ours[name]).max() == pytest.approx(allowed)


def test_key_biases_are_measured_by_their_weights(ours, theirs):
    """Their gradients are 0 in theory: their relative error would be arbitrary."""
    name = "encoder.layer.1.attention.self.key.bias.grad"
    found = next(d for d in compare(ours, theirs) if d.name == name)
    weight = np.abs(ours[name.replace("bias", "weight")]).max()
    assert found.error == found.max_abs / weight < 1e-5
    assert found.max_abs > 10 * np.abs(ours[name]).max()  # the control
    report = compare(ours, spoilt(theirs, name, 1e-2 * weight), diagnose=False)
    assert report.first_divergence == name


def test_widened_float32_is_float32(ours, theirs):
    wide = {name: a.astype("float64") for name, a in theirs.items()}
    report = compare(ours, wide)
    assert report.ok
    assert has_remark(report, "holds float32 numbers")
    assert {d.dtype for d in report} == {"float32"}
    noisy = {name: a * (1 + 1e-9) for name, a in wide.items()}
    assert not compare(ours, noisy, diagnose=False).ok  # the control


def test_word_vectors_of_float32_in_both_say_nothing(theirs):
    """A float32 checkpoint: our side computes in float64, their side in float32."""
    model = perturbed(MODEL_CLASS, "numpy", "float32")
    ours = crosscheck.trace(model.astype("float64"), inputs_and_labels_of(MODEL_CLASS))
    assert {d.dtype for d in compare(ours, ours)} == {"float64"}
    report = compare(ours, {name: a.astype("float64") for name, a in theirs.items()})
    assert report.ok
    first = next(d for d in report if d.dtype == "float32")
    assert first.name == "embeddings.LayerNorm"


def test_relu_has_a_kink():
    """Where an input is 0 up to rounding, both slopes are accepted as the gradient."""
    model, inputs = (
        perturbed(MODEL_CLASS, "numpy", hidden_act="relu"),
        inputs_and_labels_of(MODEL_CLASS),
    )
    name = "encoder.layer.0.intermediate.dense"
    before = crosscheck.trace(model, inputs)[name]
    at = np.unravel_index(np.abs(before).argmin(), before.shape)
    bias = next(n for n in model.state_dict() if n.endswith(name + ".bias"))

    def with_entry(value):
        """The trace of the model whose bias makes the entry ``value``."""
        copy, parameters = model.copy_with(), model.state_dict()
        moved = parameters[bias].copy()
        moved[at[-1]] += value - before[at]
        copy.load_state_dict(parameters | {bias: moved})
        return crosscheck.trace(copy, inputs)

    ours, theirs = with_entry(1e-16), with_entry(-1e-16)
    slopes = [np.abs(t[name + ".grad"][at]) for t in (ours, theirs)]
    assert min(slopes) == 0 < max(slopes)
    assert compare(ours, theirs).ok
    # the control: an entry that is not beside the kink
    report = compare(ours, spoilt(theirs, name + ".grad", 1.0, (0, 0, at[-1] - 1)), diagnose=False)
    assert report.first_divergence == name + ".grad"


# --- what can't be compared -----------------------------------------------------------------------


def test_other_shapes(ours):
    wrong = dict(ours) | {SCORES: ours[SCORES][:, :2]}
    report = compare(ours, wrong, diagnose=False)
    assert report.first_divergence == SCORES
    found = report.divergence
    assert found.reason == "shape (3, 2, 7, 7) where (3, 3, 7, 7) is expected"
    assert math.isnan(found.error)
    assert report.location is None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none(ours, value):
    report = compare(ours, spoilt(ours, SCORES, value, (1, 2, 0, 4)), diagnose=False)
    assert report.first_divergence == SCORES
    assert report.divergence.index == (1, 2, 0, 4)
    assert report.divergence.error == math.inf
    assert "where ours is finite" in report.divergence.reason
    assert "heads: 1 of 3 (2)" in report.location.lines


def test_integers(ours):
    mine = {"input_ids": np.arange(3), **ours}
    report = compare(mine, mine | {SCORES: np.zeros(ours[SCORES].shape, int)}, diagnose=False)
    assert "input_ids" not in [d.name for d in report]
    assert report.divergence.reason == "int64 numbers where floats are expected"


def test_lists_and_numbers_are_arrays(ours):
    assert compare({"loss": 2.5, "pooler": [[1.0]]}, {"loss": 2.5, "pooler": [[1.0]]}).ok
    assert not compare({"loss": 2.5}, {"loss": 2.6}, diagnose=False).ok


@pytest.mark.parametrize(
    ("other", "text"),
    [
        ([1.0], "other: expected .* found list"),
        (None, "other: expected .* found NoneType"),
        ({}, "other: expected arrays, found none"),
        ({3: np.zeros(2)}, "other: expected strings as names, found 3"),
        ({"x": np.zeros(2)}, "expected float arrays under equal names on both sides, found none"),
        ({"loss": "2.5"}, "theirs: loss: expected numbers"),
    ],
)
def test_unusable(ours, other, text):
    with pytest.raises(ArgumentError, match=text) as raised:
        compare(ours, other)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [-1e-3, math.nan, math.inf, "1e-3", True])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_odd_tolerances(ours, name, value):
    with pytest.raises(ArgumentError, match=f"{name}: expected a finite number"):
        compare(ours, ours, **{name: value})


# --- what the mask hides --------------------------------------------------------------------------


def hidden(ours, name):
    return ~np.broadcast_to(visible_entries(ours, name, ours[name].shape), ours[name].shape)


HIDING = [
    name
    for name, tiny in TINY.items()
    if (tiny.mask or tiny.config.get("is_decoder")) and tiny.L > 1
]


ROWS_ALONE = [
    name
    for name in HIDING
    if TINY[name].mask == "example" and not TINY[name].config.get("is_decoder")
]
"""Cases in which nothing is hidden but whole rows, whose gradients count: the mask is added to their
scores."""
HIDDEN = [(name, "") for name in HIDING]
HIDDEN += [(name, ".grad") for name in HIDING if name not in ROWS_ALONE]


@pytest.mark.parametrize(("name", "end"), HIDDEN)
def test_hidden_scores_are_not_compared(name, end):
    ours = traced(name)
    scores = f"encoder.layer.0.attention.scores{end}"
    places = hidden(ours, scores)
    wrong = dict(ours) | {scores: np.where(places, -1e4, ours[scores])}
    assert compare(ours, wrong).ok
    # the control: a visible entry
    at = tuple(np.argwhere(~places)[-1])
    found = compare(ours, spoilt(ours, scores, 0.1, at), diagnose=False)
    assert found.first_divergence == scores
    plain = compare(dict(ours), wrong, diagnose=False)  # without inputs everything counts
    assert plain.first_divergence == scores


@pytest.mark.parametrize("name", ROWS_ALONE)
def test_gradients_of_rows_without_a_key_are_compared(name):
    ours = traced(name)
    scores = "encoder.layer.0.attention.scores.grad"
    assert not hidden(ours, scores).any()
    row = tuple(np.argwhere(hidden(ours, scores.removesuffix(".grad")))[0])
    found = compare(ours, spoilt(ours, scores, 0.1, row), diagnose=False)
    assert found.first_divergence == scores


@pytest.mark.parametrize("name", HIDING)
def test_hidden_is_what_has_no_probability(name):
    """The oracle is softmax itself: a hidden entry has probability 0, or no entry of its row is
    visible and all have the same probability."""
    ours = traced(name)
    for scores in (n for n in ours if n.endswith("attention.scores")):
        probs = ours[scores.replace("scores", "probs")]
        visible = visible_entries(ours, scores, probs.shape)
        if visible is None:
            assert (probs > 0).all()
            continue
        visible = np.broadcast_to(visible, probs.shape)
        blind = ~visible.any(-1)
        assert np.allclose(probs[blind], 1 / probs.shape[-1])
        assert np.array_equal(probs[~blind] > 0, visible[~blind])


def test_cases_of_hiding():
    assert {TINY[name].mask for name in HIDING} >= {"2d", "3d", "row", "example"}
    assert any(TINY[name].past for name in HIDING)
    assert any(TINY[name].encoder_mask for name in TINY)


def test_fractional_masks():
    mask = np.array([[0.5, 1.0, 0.25, 1.0], [0.5, 0.5, 0.0, 0.25], [0.0, 0.0, 0.0, 0.0]])
    case = types.SimpleNamespace(inputs={"attention_mask": mask}, config=None)
    seen = visible_entries(case, "encoder.layer.0.attention.scores", (3, 2, 4, 4))
    assert seen.shape == (3, 1, 1, 4)
    assert seen[:, 0, 0].tolist() == [[False, True, False, True], [False] * 4, [False] * 4]
    assert visible_entries(case, "encoder.layer.0.attention.probs", (3, 2, 4, 4)) is None
    odd = types.SimpleNamespace(inputs={"attention_mask": mask[:2]}, config=None)
    assert visible_entries(odd, "encoder.layer.0.attention.scores", (3, 2, 4, 4)) is None


def test_choices_share_a_mask():
    model_class = "NezhaForMultipleChoice"
    ours = crosscheck.trace(perturbed(model_class, "numpy"), inputs_and_labels_of(model_class))
    places = hidden(ours, SCORES)
    assert places.any()
    wrong = dict(ours) | {SCORES: np.where(places, 7.0, ours[SCORES])}
    assert compare(ours, wrong).ok


# --- names ----------------------------------------------------------------------------------------


def test_prefixes_are_told(ours, theirs):
    report = compare(ours, {"bert." + name: a for name, a in theirs.items()})
    assert report.ok
    assert len(report.differences) == len(ours)
    assert has_remark(report, f"{len(ours)} names matched without their prefix: bert.embeddings")


def test_a_mapping(ours, theirs, tmp_path):
    other = {f"array {k}": a for k, a in enumerate(theirs.values())}
    mapping = dict(zip(ours, other, strict=True))
    path = tmp_path / "names.json"
    path.write_text(json.dumps(mapping))
    wrong = other | {mapping[SCORES]: theirs[SCORES] + 0.1}
    for given in (mapping, path, str(path)):
        report = compare(ours, wrong, mapping=given, diagnose=False)
        assert report.first_divergence == SCORES
        assert report.divergence.their_name == mapping[SCORES]
        assert len(report.differences) == len(ours)
    with pytest.raises(ArgumentError, match="loos is not one of our names"):
        compare(ours, other, mapping={"loos": "array 0"})


def test_by_shape_and_value(ours, theirs):
    other = {f"array {k}": a for k, a in enumerate(theirs.values())}
    names = dict(zip(other, theirs, strict=True))
    report = compare(ours, other)
    assert report.ok
    assert all(np.array_equal(theirs[names[d.their_name]], theirs[d.name]) for d in report)
    # gradients of key biases are 0 in theory, so their values identify none of them
    assert all(name.endswith("key.bias.grad") for name in report.missing)
    assert has_remark(report, "arrays matched by shape and value")
    assert not has_remark(report, "matches none of their arrays")
    # a wrong array has no match, and a remark says so
    at = f"array {list(ours).index(SCORES)}"
    report = compare(ours, other | {at: theirs[SCORES] + 0.1})
    assert SCORES in report.missing
    assert has_remark(report, f"{SCORES} matches none of their arrays, but some left over")
    assert report.undecided == (SCORES,)
    assert not report.ok
    assert report.first_divergence is None


def test_layouts_are_told(ours, theirs):
    name = "encoder.layer.0.attention.self.query"
    heads = theirs[name].reshape(3, 7, 3, 4).swapaxes(1, 2)
    report = compare(ours, theirs | {name: heads})
    assert report.ok
    assert has_remark(report, f"read as heads first: {name}")
    wrong = compare(ours, theirs | {name: heads + np.arange(3)[:, None, None]}, diagnose=False)
    assert wrong.location.lines == ("heads: 2 of 3 (1–2)",)


# --- how it spreads -------------------------------------------------------------------------------


def test_it_grows(ours):
    names = list(ours)
    start = names.index("encoder.layer.0")
    wrong = {n: a * (1 + 1e-3 * max(0, k - start + 1)) for k, (n, a) in enumerate(ours.items())}
    report = compare(ours, wrong, diagnose=False)
    assert has_remark(report, "the error grows from 1.0e-03 to")
    assert has_remark(report, f"of the {len(names) - start - 1} arrays after it")
    some = {n: a for n, a in wrong.items() if "key.bias" not in n}
    assert has_remark(compare(ours, some, diagnose=False), "from there on every array differs")


def test_only_gradients_differ(ours):
    wrong = {n: a * 1.5 if n.endswith(".grad") else a for n, a in ours.items()}
    report = compare(ours, wrong, diagnose=False)
    assert report.first_divergence == next(n for n in ours if n.endswith(".grad"))
    assert has_remark(report, "the activations agree, only gradients differ")
    assert not has_remark(compare(ours, spoilt(ours, "loss"), diagnose=False), "only gradients")


def test_noise_that_hides_everything_is_told():
    scores = np.random.default_rng(0).standard_normal((1, 1, 4, 4)) * 1e6
    ours = {
        "encoder.layer.0.attention.scores": scores,
        "encoder.layer.0.attention.probs": (scores == scores.max(-1, keepdims=True)) * 1.0,
    }
    report = compare(ours, {n: a.astype("float32") for n, a in ours.items()})
    assert has_remark(report, "a finer dtype would show more")
    assert not has_remark(compare(ours, ours), "a finer dtype would show more")


# --- why ------------------------------------------------------------------------------------------


def test_the_diagnosis_gets_their_arrays_under_our_names(ours, theirs, monkeypatch):
    from minizha.crosscheck import diagnosis
    from minizha.crosscheck.comparison import errors

    calls = []

    def explain(mine, other, name, **options):
        calls.append((mine, {n: other[n].shape for n in other}, name))
        return diagnosis.Diagnosis((), ("a remark",))

    monkeypatch.setattr(errors, "diagnose", explain)
    other = {"bert." + n: a for n, a in spoilt(theirs, SCORES).items()}
    other["bert.embeddings"] = other["bert.embeddings"].swapaxes(0, 1)
    report = compare(ours, other)
    assert calls == [(ours, {n: a.shape for n, a in ours.items()}, SCORES)]
    assert report.remarks[-1] == "a remark"
    assert not has_remark(compare(ours, other, diagnose=False), "a remark")
    compare(ours, theirs)
    assert len(calls) == 1


def test_a_known_mistake_is_named(ours, theirs):
    wrong = dict(theirs) | {
        n: a * 2.0 for n, a in theirs.items() if n.endswith("layer.0.attention.scores")
    }
    report = compare(ours, wrong)
    assert report.first_divergence == "encoder.layer.0.attention.scores"
    assert "1/√d" in report.findings[0].text


# --- files ----------------------------------------------------------------------------------------


def test_files(ours, theirs, tmp_path):
    mine, other = tmp_path / "ours.safetensors", str(tmp_path / "theirs.safetensors")
    ours.save(mine)
    theirs.save(other, parameters=False)
    plain, stored = compare(ours, theirs), compare(mine, other)
    assert stored == plain
    with pytest.raises(FileError, match="nothing"):
        compare(mine, tmp_path / "nothing")


class Lazy(Mapping):
    """Arrays that are made when they are read."""

    def __init__(self, count, shape, off=0.0):
        self.names = [f"encoder.layer.{k}" for k in range(count)]
        self.size, self.off = shape, off

    def __getitem__(self, name):
        array = np.full(self.size, 1.0, "float32")
        array[..., 0] += 1e-7 + self.off * (name == "encoder.layer.3")
        return array

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)

    def shape(self, name):
        return self.size


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_no_more_than_a_pair_is_held(off):
    shape = (8, 256, 1024)
    one = 4 * math.prod(shape)  # 8 MiB
    tracemalloc.start()
    try:
        report = compare(Lazy(12, shape), Lazy(12, shape, off), diagnose=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        dict(Lazy(4, shape).items())  # the control: all four arrays in memory at once
        control = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.ok == (off == 0)
    assert len(report.differences) == 12
    assert 2 * one <= peak < 3 * one
    assert control >= 4 * one


def test_shapes_are_asked_for_without_reading():
    """Arrays with a partner of the same name are read once, the first that differs twice."""
    read = []

    class Counted(Lazy):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    names = Lazy(5, (2, 3, 4)).names
    assert compare(Lazy(5, (2, 3, 4)), Counted(5, (2, 3, 4))).ok
    assert read == names
    read.clear()
    assert not compare(Lazy(5, (2, 3, 4)), Counted(5, (2, 3, 4), 0.1), diagnose=False).ok
    assert read == [*names, names[3]]
