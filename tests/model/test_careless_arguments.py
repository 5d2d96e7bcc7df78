"""Arguments of the public functions around a model that once ended in another library's traceback, or
gave a wrong answer."""

import threading
import time

import numpy as np
import pytest

import minizha
from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
    NezhaTokenizer,
    crosscheck,
    fill_mask,
    next_sentence_probability,
)
from minizha.backend import to_host
from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.files import check_target, make_folder, read_bytes, read_json_object, write_atomic
from minizha.model.pretraining import ItemsInBatch
from minizha.nezha import parameters as tree_module
from minizha.text.corpus import (
    Document,
    character_vocabulary,
    hold_out,
    read_corpus,
    split_sentences,
)
from minizha.text.masking import mask_tokens
from minizha.text.pairs import tokenize_documents
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training.evaluation import evaluate
from minizha.training.step import loss_and_gradients
from minizha.training.workers import Workers
from tests.support.tiny_models import SMALL

IDS = np.array([[2, 6, 7, 8, 3]])
TOKENIZER = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])
BATCH = {"input_ids": IDS, "labels": IDS, "next_sentence_label": np.array([1])}
NAN = float("nan")


def damaged(model_class, name):
    model = model_class(SMALL)
    arrays = {n: np.array(p) for n, p in model.state_dict().items()}
    arrays[name][0] = NAN
    model.load_state_dict(arrays)
    return model


# --- parameters ---------------------------------------------------------------------------------


class Tensor:
    """Like torch's: what has gradients does not convert, and NumPy has no bfloat16."""

    def __init__(self, array, dtype="torch.float32", detached=False):
        self.array, self.dtype, self.detached = array, dtype, detached

    def detach(self):
        return type(self)(self.array, self.dtype, True)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array, "torch.float32", self.detached)

    def __array__(self, *_, **__):
        if not self.detached:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        if self.dtype == "torch.bfloat16":
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.array


class Unreadable(Tensor):
    def cpu(self):
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")


FORMS = {
    "tensors": Tensor,
    "bfloat16": lambda a: Tensor(a, "torch.bfloat16"),
    "big-endian": lambda a: a.astype(">f4"),
    "big-endian, double": lambda a: a.astype(">f8"),
    "little-endian": lambda a: a.astype("<f4"),
    "half": lambda a: a.astype(np.float16).astype(">f2"),
    "Fortran order": np.asfortranarray,
}


@pytest.mark.parametrize("form", FORMS)
def test_parameters_come_in_many_forms(form, backend):
    source = NezhaForPreTraining(SMALL, seed=1)
    arrays = {n: FORMS[form](np.array(p)) for n, p in source.state_dict().items()}
    model = NezhaForPreTraining(SMALL, seed=2, backend=backend)
    assert model.load_state_dict(arrays) == ((), ())
    for name, p in model.state_dict().items():
        expected = source.state_dict()[name]
        expected = expected.astype(np.float16) if form == "half" else expected
        assert np.array_equal(to_host(p), expected.astype(np.float32))
        assert p.dtype == np.float32
        assert p.dtype.isnative


def test_parameters_that_are_no_numbers_are_refused():
    model = NezhaForPreTraining(SMALL)
    arrays = {n: np.array(p) for n, p in model.state_dict().items()}
    name = "cls.predictions.bias"
    for value, message in (
        (arrays[name].astype(">i4"), f"{name}: expected an array of real numbers"),
        (arrays[name].tolist(), f"{name}: expected an array, found list"),
        (Unreadable(arrays[name]), f"{name}: .*Unreadable that it can't read: Cannot copy out"),
        (Tensor(arrays[name][:2]), f"{name}: expected shape"),
    ):
        with pytest.raises(ArgumentError, match=message):
            model.load_state_dict(arrays | {name: value})
    with pytest.raises(ArgumentError, match="expected a mapping"):
        model.load_state_dict(None)


def test_torch_itself():
    torch = pytest.importorskip("torch")
    source, model = NezhaForPreTraining(SMALL, seed=1), NezhaForPreTraining(SMALL, seed=2)
    arrays = {n: torch.nn.Parameter(torch.tensor(p)) for n, p in source.state_dict().items()}
    model.load_state_dict(arrays)
    assert all(np.array_equal(model.state_dict()[n], p) for n, p in source.state_dict().items())
    with pytest.raises(ArgumentError, match="expected numbers that NumPy can hold"):
        model.load_state_dict({n: t.detach().to("meta") for n, t in arrays.items()})


# --- losses and gradients -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [10**400, 2**63])
def test_a_count_that_no_array_has_is_refused(count):
    for items in (ItemsInBatch(count), ItemsInBatch(None, count)):
        with pytest.raises(ArgumentError, match=r"num_items_in_batch\..*: expected .* of at most"):
            NezhaForPreTraining(SMALL)(**BATCH, num_items_in_batch=items)
    for name, labels in (("MaskedLM", IDS), ("SequenceClassification", [1])):
        model = getattr(minizha, f"NezhaFor{name}")(SMALL)
        with pytest.raises(ArgumentError, match=r"num_items_in_batch: expected .* of at most"):
            model(IDS, labels=labels, num_items_in_batch=count)
        assert float(model(IDS, labels=labels, num_items_in_batch=2**62).loss) > 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_complex_gradients_in_a_real_model(dtype, backend):
    model = NezhaForPreTraining(SMALL, dtype=dtype, backend=backend)
    out = model(**BATCH, record=True)
    logits = np.ones((1, 5, 11), complex)
    for upstream in ({"loss": 1j}, {"prediction_logits": logits}):
        with pytest.raises(ArgumentError, match=r"backward: .*: expected real numbers"):
            out.backward(**upstream)
    assert all(not to_host(g).any() for g in model.gradients().values())
    stepped = NezhaForPreTraining(SMALL, dtype="complex128")
    stepped(**BATCH).backward(loss=1j)  # the control: the complex step needs them
    assert any(to_host(g).imag.any() for g in stepped.gradients().values())


def backward_twice_in_threads(model):
    outs, start, errors = [model(**BATCH) for _ in range(2)], threading.Barrier(2), []

    def run(out):
        start.wait()
        try:
            out.backward()
        except MinizhaError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(out,)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("locked", [True, False])
def test_two_threads_lose_no_gradient(locked, monkeypatch):
    model, once = (NezhaForPreTraining(SMALL, dtype="float64") for _ in range(2))
    once(**BATCH).backward()
    model(**BATCH).backward()  # the old sum
    add = tree_module.add

    def slow_add(a, b):
        time.sleep(0.005)  # meanwhile the other thread reads the same old sum
        return add(a, b)

    monkeypatch.setattr(tree_module, "add", slow_add)
    if not locked:  # the control: without the lock the sums are wrong
        monkeypatch.setattr(model, "_gradient_lock", NoLock())
    backward_twice_in_threads(model)
    wrong = [
        name
        for name, g in once.gradients().items()
        if not np.allclose(model.gradients()[name], 3 * g, rtol=1e-12, atol=1e-15)
    ]
    assert (wrong == []) == locked


class NoLock:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_replicas_and_copies_have_locks_of_their_own():
    model = NezhaForPreTraining(SMALL)
    for other in (model.replica(None), model.copy_with(), model.astype("float64")):
        assert other._gradient_lock is not model._gradient_lock


# --- functions of a model and of texts ----------------------------------------------------------


HEADLESS = ("NezhaModel", "NezhaForTokenClassification", "NezhaForQuestionAnswering")
HEADLESS += ("NezhaForSequenceClassification", "NezhaForMultipleChoice")


@pytest.mark.parametrize("name", [*HEADLESS, "NezhaForNextSentencePrediction"])
def test_a_model_without_that_head_fills_no_mask(name):
    with pytest.raises(ArgumentError, match=f"fill_mask: model: expected a .*, found {name}"):
        fill_mask(getattr(minizha, name)(SMALL), TOKENIZER, "一[MASK]", top_k=2)
    assert len(fill_mask(NezhaForMaskedLM(SMALL), TOKENIZER, "一[MASK]")) == 1


@pytest.mark.parametrize("name", [*HEADLESS, "NezhaForMaskedLM"])
def test_a_model_without_that_head_knows_no_next_sentence(name):
    message = f"next_sentence_probability: model: expected a .*, found {name}"
    with pytest.raises(ArgumentError, match=message):
        next_sentence_probability(getattr(minizha, name)(SMALL), TOKENIZER, "一", "二")


def test_a_damaged_model_knows_no_next_sentence():
    for model_class in (NezhaForPreTraining, NezhaForNextSentencePrediction):
        whole = next_sentence_probability(model_class(SMALL), TOKENIZER, "一", "二")
        assert 0 < whole < 1
        model = damaged(model_class, "nezha.pooler.dense.bias")
        with pytest.raises(MinizhaError, match=r"next_sentence_probability: .*model is damaged"):
            next_sentence_probability(model, TOKENIZER, "一", "二")


TRACE = crosscheck.trace(NezhaModel(SMALL), {"input_ids": IDS})
PAIRED = NezhaForPreTraining(SMALL)


def masked(**changes):
    good = {"special_ids": [0, 1], "mask_token_id": 4, "vocab_size": 11}
    rng = np.random.default_rng(0)
    return mask_tokens(IDS, rng=rng, **(good | changes))


CASES = {
    "mask_tokens, special_ids a number": (lambda: masked(special_ids=5), "special_ids: expected"),
    "mask_tokens, special_ids None": (lambda: masked(special_ids=None), "special_ids: expected"),
    "mask_tokens, special_ids a text": (lambda: masked(special_ids="ab"), "special_ids: expected"),
    "mask_tokens, a vocabulary of 10**30": (lambda: masked(vocab_size=10**30), "vocab_size: "),
    "mask_tokens, a vocabulary of 10**12": (lambda: masked(vocab_size=10**12), "vocab_size: "),
    "mask_tokens, a text for a flag": (lambda: masked(at_least_one="no"), "at_least_one: expected"),
    "save a trace, None": (lambda: TRACE.save(None), "path: expected a path, found NoneType"),
    "save a trace, a number": (lambda: TRACE.save(5), "path: expected a path, found int"),
    "save a trace, nothing": (lambda: TRACE.save(""), "path: expected a path, found ''"),
    "save a trace, a text for a flag": (lambda: TRACE.save("x", "no"), "parameters: expected True"),
    "open a trace, None": (lambda: crosscheck.open_trace(None), "path: expected a path"),
    "open a trace, bytes": (lambda: crosscheck.open_trace(b"x"), "path: expected a path"),
    "fill_mask, no tokenizer": (
        lambda: fill_mask(PAIRED, None, "[MASK]"),
        "tokenizer: expected a NezhaTokenizer",
    ),
    "next sentence, no model": (
        lambda: next_sentence_probability(None, TOKENIZER, "一", "二"),
        "found NoneType",
    ),
    "read_corpus, None": (lambda: read_corpus(None), "path: expected a path, found NoneType"),
    "read_corpus, a text as number": (lambda: read_corpus("x", "3"), "min_documents: expected"),
    "split_sentences, None": (lambda: split_sentences(None), "paragraph: expected a string"),
    "character_vocabulary, texts": (lambda: character_vocabulary(["一"]), "documents: expected"),
    "hold_out, None": (lambda: hold_out(None), "documents: expected"),
    "workers, a text": (lambda: Workers(PAIRED, "2"), "count: expected an integer of at least 1"),
    "workers, 0": (lambda: Workers(PAIRED, 0), "count: expected an integer of at least 1"),
    "workers, no model": (lambda: Workers(None, 1), "model: expected a NezhaForPreTraining"),
    "a step, no labels": (
        lambda: loss_and_gradients(PAIRED, {"input_ids": IDS}),
        "found no labels",
    ),
    "an evaluation, a head mask": (  # once cut like the rows of the batch
        lambda: evaluate(PAIRED, BATCH | {"head_mask": np.ones(2)}),
        r"batch: expected .* with as many rows as labels, found head_mask",
    ),
    "an evaluation, no rows": (
        lambda: evaluate(PAIRED, BATCH | {"attention_mask": 1.0}),
        r"found attention_mask of shape \(\)",
    ),
    "workers, other rows": (
        lambda: Workers(PAIRED).loss_and_gradients(BATCH | {"attention_mask": np.ones((2, 5))}),
        r"found attention_mask of shape \(2, 5\)",
    ),
    "an array for a dtype": (
        lambda: NezhaModel(SMALL, dtype=np.float32(2)),
        "dtype: expected one of",
    ),
    "a class for a tokenizer": (
        lambda: PAIRED.save_pretrained("x", tokenizer=NezhaTokenizer),
        "tokenizer: expected a NezhaTokenizer",
    ),
    "num_parameters, a text for a flag": (
        lambda: PAIRED.num_parameters("no"),
        "exclude_embeddings: ",
    ),
    "shapes, no configuration": (lambda: NezhaModel.shapes({}), "config: expected a NezhaConfig"),
    "tokenize_documents, None": (
        lambda: tokenize_documents(None, TOKENIZER),
        "documents: expected",
    ),
    "a step, no batch": (lambda: loss_and_gradients(PAIRED, None), "batch: expected"),
    "a step, another class": (
        lambda: loss_and_gradients(NezhaForMaskedLM(SMALL), BATCH),
        "model: expected a NezhaForPreTraining, found NezhaForMaskedLM",
    ),
    "the tokenizer, 10**12 tokens": (
        lambda: TOKENIZER("一", max_length=10**12, padding="max_length"),
        "max_length: expected an integer of at most",
    ),
    "the tokenizer, 2 GB a row": (
        lambda: TOKENIZER(["一"] * 100_000, max_length=2**31 - 1, padding="max_length"),
        "max_length: 100000 rows of 2147483647 tokens do not fit into memory",
    ),
    "the tokenizer, an array for truncation": (
        lambda: TOKENIZER("一", truncation=np.ones(2)),
        "truncation: expected",
    ),
    "the tokenizer, an array for padding": (
        lambda: TOKENIZER("一", padding=np.ones(2)),
        "padding: expected",
    ),
    "decode, a text for a flag": (lambda: TOKENIZER.decode([1], "no"), "skip_special_tokens: "),
    "a file, None": (lambda: read_bytes(None), "path: expected a path"),
    "a JSON file, None": (lambda: read_json_object(None), "path: expected a path"),
    "a target, None": (lambda: check_target(None), "path: expected a path"),
    "write, None": (lambda: write_atomic(None, b""), "path: expected a path"),
    "a folder, None": (lambda: make_folder(None), "folder: expected a path"),
}


@pytest.mark.parametrize("name", CASES)
def test_careless_calls_are_refused(name):
    use, message = CASES[name]
    with pytest.raises(ArgumentError, match=message) as caught:
        use()
    assert "\n" not in str(caught.value)


def test_what_is_right_beside_them():
    """The controls: near each refused call there is one that works."""
    assert masked(special_ids={0, 1})[0].shape == masked(special_ids=np.array([0, 1]))[0].shape
    assert split_sentences("一。二。") == ["一。", "二。"]
    documents = [Document("", ("一二",)), Document("", ("三四",))]
    assert len(hold_out(documents)[0]) == 1
    assert character_vocabulary(documents, min_count=1)[5:] == sorted("一二三四")
    assert TOKENIZER("一", max_length=2**31 - 1)["input_ids"].shape == (1, 3)
    assert TOKENIZER("一", max_length=9, padding="max_length")["input_ids"].shape == (1, 9)
    metrics, gradients = loss_and_gradients(PAIRED, {n: a.tolist() for n, a in BATCH.items()})
    assert metrics.words == 5
    assert gradients.keys() == PAIRED.state_dict().keys()
    with Workers(PAIRED, np.int64(1)) as workers:
        assert workers.loss_and_gradients(BATCH)[0].words == 5


# --- a file where a folder is expected -----------------------------------------------------------


def test_a_file_in_place_of_its_folder_is_named(tmp_path):
    model = NezhaForPreTraining(SMALL)
    model.save_pretrained(tmp_path, tokenizer=TOKENIZER)
    for name in ("vocab.txt", "config.json", "model.safetensors"):
        file = tmp_path / name
        for load in (NezhaModel.from_pretrained, NezhaTokenizer.from_pretrained):
            with pytest.raises(
                FileError, match=f"{file}: .*; the folder of this file is"
            ) as caught:
                load(file)
            assert str(caught.value).endswith(f"the folder of this file is {tmp_path}")
        for load in (
            NezhaConfig.from_pretrained,
            lambda f: NezhaModel.from_pretrained(tmp_path, config=f),
        ):
            with pytest.raises(FileError, match=f"{file}: .*, found a file .*from_json_file"):
                load(file)
    assert NezhaConfig.from_json_file(tmp_path / "config.json").vocab_size == 11
