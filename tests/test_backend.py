"""backend.py: the choice of the array library, and the functions that differ between the two."""

import sys
from types import ModuleType

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaTokenizer, backend, crosscheck
from minizha.errors import ArgumentError, BackendError, MinizhaError
from minizha.ops.gelu import gelu
from minizha.ops.layer_norm import layer_norm
from minizha.ops.softmax import softmax, softmax_backward
from minizha.text.masking import mask_tokens
from minizha.text.pairs import PairSampler
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training.optimizer import AdamW, clip_by_global_norm
from tests.support import standin

cupy = standin.cupy


@pytest.fixture(autouse=True)
def stand_in_for_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)


# --- choosing a library ---------------------------------------------------------------------------


def refusal(name):
    with pytest.raises(BackendError) as caught:
        backend.get_backend(name)
    assert isinstance(caught.value, MinizhaError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_get_backend_by_name():
    assert backend.get_backend("numpy") is np
    assert backend.get_backend("cupy") is cupy


@pytest.mark.parametrize("name", ["torch", "CuPy", "", None, 1, np])
def test_unknown_backend_names_the_known(name):
    message = refusal(name)
    assert repr(name) in message
    assert "numpy, cupy" in message


def test_missing_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install cupy-cuda12x" in refusal("cupy")


def test_broken_cupy_fits_on_one_line(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ImportError(
                    "\n=====\nFailed to import CuPy.\n\nlibnvrtc.so.12 is missing\n=====\n"
                )

    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert "libnvrtc.so.12 is missing" in refusal("cupy")


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver")


@pytest.mark.parametrize("answer", [lambda: False, no_driver])
def test_cupy_without_a_gpu_says_so(answer, monkeypatch):
    fake = ModuleType("cupy")
    fake.is_available = answer
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert "no usable GPU" in refusal("cupy")


# --- which library an array belongs to ------------------------------------------------------------


def test_namespace_follows_the_arrays():
    x, y = np.ones(2), cupy.ones((2,))
    assert backend.namespace(x) is backend.namespace(None, 2.0, x, x[:1]) is np
    assert backend.namespace(x.sum()) is np  # NumPy's reductions are scalars
    assert backend.namespace(y) is backend.namespace(None, y, True, y.sum()) is cupy


def test_namespace_without_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy")
    assert backend.namespace(np.ones(2)) is np
    monkeypatch.setitem(sys.modules, "cupy", None)  # a failed import leaves this
    assert backend.namespace(np.ones(2)) is np
    assert "cupy" not in sys.modules or sys.modules["cupy"] is None


def test_namespace_of_two_libraries_says_how_to_move():
    x, y = np.ones(2), cupy.ones((2,))
    for mix in ((x, y), (y, x), (None, y, 1.0, x)):
        with pytest.raises(BackendError, match="to_backend"):
            backend.namespace(*mix)


@pytest.mark.parametrize("arguments", [(), (None,), (1.0, None), ([1.0],)])
def test_namespace_of_no_array(arguments):
    with pytest.raises(BackendError, match="expected NumPy or CuPy arrays"):
        backend.namespace(*arguments)


def test_is_array():
    assert backend.is_array(np.ones(2))
    assert backend.is_array(cupy.ones((2,)))
    assert not any(map(backend.is_array, (None, 1.0, [1.0], "x", np.float32(1))))


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, cupy.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("xp", [np, cupy])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_to_backend_and_back(make, xp, dtype):
    values = np.arange(6.0).reshape(2, 3)
    moved = backend.to_backend(make(values), xp, dtype)
    assert isinstance(moved, xp.ndarray)
    assert moved.dtype == (dtype or np.float64)
    back = backend.to_host(moved)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, values)


def test_only_leaving_the_device_waits():
    with standin.count_synchronisations() as found:
        x = backend.to_backend([1.0, 2.0], cupy)
        backend.to_backend(x, cupy)
        backend.to_host([1.0])
    assert found == []
    with standin.count_synchronisations() as found:
        backend.to_backend(x, np)
        backend.to_host(x)
    assert [what for what, _ in found] == ["get", "get"]


# --- masked arrays --------------------------------------------------------------------------------

IDS = np.ma.array([[5, 6, 7]], mask=[[0, 1, 0]])
FLOATS = np.ma.array(np.ones((1, 3, 8)), mask=np.ones((1, 3, 8)))
SIZES = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def masked_state(model):
    return {name: np.ma.array(a, mask=True) for name, a in model.state_dict().items()}


def compare_masked(model):
    trace = crosscheck.trace(model, {"input_ids": [[5, 6, 7]]})
    return crosscheck.compare(trace, {name: np.ma.array(a) for name, a in trace.items()})


def save_masked(model, path="t.safetensors"):
    trace = crosscheck.trace(model, {"input_ids": [[5, 6, 7]]})
    trace["loss"] = np.ma.array(1.0, mask=True)
    trace.save(path)


ENTRANCES = {
    "is_array": lambda model: backend.is_array(IDS),
    "namespace": lambda model: backend.namespace(np.ones(2), FLOATS),
    "to_host": lambda model: backend.to_host(IDS),
    "to_backend": lambda model: backend.to_backend([IDS], np),
    "input_ids": lambda model: model(input_ids=IDS),
    "input_ids in a list": lambda model: model(input_ids=[IDS[0]]),
    "an id": lambda model: model(input_ids=[[5, np.ma.masked, 7]]),
    "attention_mask": lambda model: model(input_ids=[[5, 6, 7]], attention_mask=IDS),
    "head_mask": lambda model: model(input_ids=[[5]], head_mask=np.ma.ones(2)),
    "labels": lambda model: model(input_ids=[[5, 6, 7]], labels=IDS),
    "inputs_embeds": lambda model: model(inputs_embeds=FLOATS),
    "backward": lambda model: model(input_ids=[[5, 6, 7]], record=True).backward(
        prediction_logits=np.ma.ones((1, 3, 9))
    ),
    "load_state_dict": lambda model: model.load_state_dict(masked_state(model)),
    "trace": lambda model: crosscheck.trace(model, {"input_ids": IDS}),
    "save of a trace": save_masked,
    "compare": compare_masked,
    "gradcheck": lambda model: crosscheck.gradcheck(model, {"input_ids": [[5]], "labels": IDS}),
    "check_pair": lambda model: crosscheck.check_pair(softmax, softmax_backward, [FLOATS[0]]),
    "an operation": lambda model: layer_norm(FLOATS, np.ones(8), np.zeros(8), 1e-5),
    "a kernel": lambda model: gelu(FLOATS),
    "clip_by_global_norm": lambda model: clip_by_global_norm({"a": FLOATS}, 1.0),
    "AdamW.step": lambda model: AdamW(model).step(masked_state(model), 0.1),
    "mask_tokens": lambda model: mask_tokens(
        IDS, [0], np.random.default_rng(0), mask_token_id=4, vocab_size=9
    ),
    "decode": lambda model: NezhaTokenizer([*SPECIAL_TOKENS, *"中国天"]).decode(IDS[0]),
    "batch_decode": lambda model: NezhaTokenizer([*SPECIAL_TOKENS, *"中国天"]).batch_decode(IDS),
    "PairSampler": lambda model: PairSampler([[IDS[0], IDS[0]]] * 2, 8, 1, 2, 3),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_masked_arrays_are_refused(entrance, tmp_path, monkeypatch):
    """As a plain array a masked one would show what is under its mask."""
    monkeypatch.chdir(tmp_path)
    model = NezhaForPreTraining(NezhaConfig(vocab_size=9, hidden_size=8, **SIZES))
    with pytest.raises(ArgumentError, match=r"found a masked one \(np\.ma\): fill it first"):
        ENTRANCES[entrance](model)
    assert not list(tmp_path.iterdir())


class OtherArray(np.ndarray):
    pass


def test_filled_arrays_are_accepted():
    """The negative control, and other subclasses of NumPy's array."""
    model = NezhaForPreTraining(NezhaConfig(vocab_size=9, hidden_size=8, **SIZES))
    expected = model(input_ids=[[5, 0, 7]]).prediction_logits
    assert (model(input_ids=IDS.filled(0)).prediction_logits == expected).all()
    assert (
        model(input_ids=np.array([[5, 0, 7]]).view(OtherArray)).prediction_logits == expected
    ).all()
    assert backend.is_array(np.array([[5, 0, 7]]).view(OtherArray))
