"""Misuse that once gave a wrong answer or another library's error, by mistake or on purpose."""

import copy
import pickle
import threading

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForQuestionAnswering,
    NezhaModel,
    NezhaTokenizer,
    crosscheck,
)
from minizha.backend import to_host
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError
from minizha.predict import fill_mask
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training.optimizer import AdamW
from tests.support.tiny_models import SMALL

IDS = np.array([[2, 6, 7, 8, 3]])
BIAS = "cls.predictions.bias"


def changed(model, name, value):
    arrays = {n: to_host(a).copy() for n, a in model.state_dict().items()}
    arrays[name][...] = value
    model.load_state_dict(arrays)
    return model


@pytest.mark.parametrize("what", ["set_input_embeddings", "set_output_embeddings"])
def test_no_complex_numbers_in_a_real_model(what, backend):
    model = NezhaForMaskedLM(SMALL, dtype="float64", backend=backend)
    before = to_host(model.get_input_embeddings()).copy()
    with pytest.raises(ArgumentError, match="put embeddings: expected real numbers"):
        getattr(model, what)(np.ones((11, 8)) + 1j)
    assert np.array_equal(to_host(model.get_input_embeddings()), before)
    stepped = NezhaForMaskedLM(SMALL, dtype="complex128", backend=backend)
    getattr(stepped, what)(np.ones((11, 8)) + 1j)


@pytest.mark.parametrize("change", ["vocabulary", "heads"])
def test_an_optimizer_of_another_shape_is_refused(change, backend):
    model = NezhaForMaskedLM(SMALL, backend=backend)
    optimizer = AdamW(model)
    if change == "vocabulary":
        model.resize_token_embeddings(13)
    else:
        model.prune_heads({0: [1]})
    model(IDS, labels=IDS).backward()
    with pytest.raises(MinizhaError, match="make a new AdamW"):
        optimizer.step(model.gradients(), 0.1)
    assert optimizer.steps == 0
    AdamW(model).step(model.gradients(), 0.1)


def test_changes_that_change_nothing_leave_a_way_back(backend):
    model = NezhaForMaskedLM(SMALL.replace(pruned_heads={0: [1]}), backend=backend)
    out = model(IDS, labels=IDS)
    model.resize_token_embeddings(11)
    model.prune_heads({0: [1]})
    model.prune_heads({})
    out.backward()
    model.resize_token_embeddings(12)
    with pytest.raises(MinizhaError, match="the model was changed since"):
        out.backward()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_model_can_be_copied(again):
    model = NezhaForMaskedLM(SMALL, seed=4).train(seed=3)
    other = again(model)
    assert other.xp is model.xp
    assert np.array_equal(other(IDS).logits, again(model)(IDS).logits)  # the same dropout too
    other.resize_token_embeddings(12)
    assert model.get_input_embeddings().shape == (11, 8)
    assert other.get_input_embeddings() is not model.get_input_embeddings()


def test_numbers_beyond_the_range_are_refused(backend, tmp_path):
    model = NezhaModel(SMALL, backend=backend)
    embeds = np.zeros((1, 2, 8))
    for bad in (1e300, np.inf, np.nan):
        embeds[0, 1, 3] = bad
        with pytest.raises(ArgumentError, match=r"inputs_embeds: expected finite.*at \[0, 1, 3\]"):
            model(inputs_embeds=embeds)
    wide = NezhaModel(SMALL, dtype="float64", backend=backend)
    changed(wide, "pooler.dense.bias", 1e300)
    refused = r"pooler\.dense\.bias: .*range of float32"
    with pytest.raises(MinizhaError, match=refused):
        wide.astype("float32")
    wide.save_pretrained(tmp_path)
    with pytest.raises(MinizhaError, match=f"{tmp_path}: pooler.*in the range of float32"):
        NezhaModel.from_pretrained(tmp_path, dtype="float32", backend=backend)
    before = {name: to_host(array).copy() for name, array in model.state_dict().items()}
    for arrays in (wide.state_dict(), {n: to_host(a) for n, a in wide.state_dict().items()}):
        with pytest.raises(MinizhaError, match=refused):
            model.load_state_dict(arrays)  # from the device, and from the host
        assert all((to_host(a) == before[n]).all() for n, a in model.state_dict().items())
    words = wide.get_input_embeddings() + 1e300
    for value in (words, to_host(words)):
        with pytest.raises(MinizhaError, match=r"input embeddings: .*range of float32"):
            model.set_input_embeddings(value)
    # the control: what is infinite in the file was written so, and what fits is taken
    changed(wide, "pooler.dense.bias", np.inf)
    assert np.isinf(to_host(wide.astype("float32").state_dict()["pooler.dense.bias"])).all()
    changed(wide, "pooler.dense.bias", 3e38)
    assert (to_host(wide.astype("float32").state_dict()["pooler.dense.bias"]) > 2e38).all()
    with pytest.raises(ArgumentError, match="initializer_range: expected a number in"):
        SMALL.replace(initializer_range=1e308)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("do_sample", [False, True])
def test_no_text_from_what_is_no_number(bad, do_sample, backend):
    decoder = NezhaForMaskedLM(SMALL.replace(is_decoder=True), dtype="float64", backend=backend)
    arrays = {n: to_host(a).copy() for n, a in decoder.state_dict().items()}
    arrays[BIAS][...] = bad
    with np.errstate(invalid="ignore"):
        decoder.load_state_dict(arrays)
        with pytest.raises(MinizhaError, match="no longer numbers"):
            decoder.generate(IDS, max_new_tokens=2, do_sample=do_sample)
    arrays[BIAS][...] = 0.0
    arrays[BIAS][6:] = -np.inf  # those are forbidden, the others allowed
    decoder.load_state_dict(arrays)
    text = to_host(decoder.generate(IDS, max_new_tokens=9, do_sample=do_sample, eos_token_id=-1))
    assert text.shape == (1, 14)
    assert (text[:, 5:] < 6).all()


def test_no_guess_from_what_is_no_number():
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])
    model = changed(NezhaForMaskedLM(SMALL), BIAS, np.nan)
    with np.errstate(invalid="ignore"), pytest.raises(MinizhaError, match="expected finite"):
        fill_mask(model, tokenizer, "一[MASK]")


def test_an_answer_saved_has_as_many_labels_as_outputs(tmp_path):
    model = NezhaForQuestionAnswering(SMALL.replace(num_labels=7))
    assert model.config.num_labels == 2
    model.save_pretrained(tmp_path)
    assert NezhaConfig.from_pretrained(tmp_path).num_labels == 2


def test_names_in_a_file_can_not_write_to_the_terminal(tmp_path):
    model = NezhaModel(SMALL)
    model.save_pretrained(tmp_path)
    arrays = load_file(tmp_path / "model.safetensors")
    save_file(arrays | {"\x1b[31mred\nline": np.ones(1)}, tmp_path / "model.safetensors")
    with pytest.warns(CheckpointWarning, match="left over") as warned:
        NezhaModel.from_pretrained(tmp_path)
    assert str(warned[0].message).isprintable()


def test_threads_may_share_a_tokenizer():
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])
    wrong = []

    def encode(length):
        for _ in range(300):
            found = tokenizer("一二" * 20, max_length=length)["input_ids"].shape
            wrong.extend([found] if found != (1, length) else [])

    threads = [threading.Thread(target=encode, args=(5 + i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_model_read_while_another_is_saved_is_one_of_them(tmp_path):
    """Three configurations of one shape: a mixture would load, and give wrong answers."""
    models = [
        NezhaForMaskedLM(SMALL.replace(hidden_act=act), seed=i)
        for i, act in enumerate(("gelu", "relu", "tanh"))
    ]
    name = "cls.predictions.transform.dense.weight"
    by_act = {model.config.hidden_act: model.state_dict()[name] for model in models}
    models[0].save_pretrained(tmp_path)
    done, seen = threading.Event(), set()

    def save():
        while not done.is_set():
            for model in models:
                model.save_pretrained(tmp_path)

    writer = threading.Thread(target=save)
    writer.start()
    try:
        for _ in range(150):
            found = NezhaForMaskedLM.from_pretrained(tmp_path)
            act = found.config.hidden_act
            seen.add(act)
            assert np.array_equal(found.state_dict()[name], by_act[act])
    finally:
        done.set()
        writer.join()
    assert len(seen) > 1


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda m, d: m.save_pretrained(d, tokenizer="x"), "tokenizer: expected a NezhaTokenizer"),
        (lambda m, d: crosscheck.gradcheck(m, [1]), "inputs: expected keyword arguments"),
        (lambda m, d: m.load_state_dict(m.state_dict(), strict="no"), "strict: expected True"),
        (
            lambda m, d: NezhaModel.from_pretrained(d, config=False),
            "config: expected a NezhaConfig",
        ),
        (
            lambda m, d: NezhaModel.from_pretrained(d, ignore_mismatched_sizes="no"),
            "ignore_mismatched_sizes: expected True",
        ),
    ],
)
def test_errors_are_ours_and_name_the_argument(use, message, tmp_path):
    model = NezhaModel(SMALL)
    model.save_pretrained(tmp_path)
    with pytest.raises(MinizhaError, match=message) as caught:
        use(model, tmp_path)
    assert not isinstance(caught.value, FileError)
    assert "\n" not in str(caught.value)
