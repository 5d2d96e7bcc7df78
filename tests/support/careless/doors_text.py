"""The doors of texts, training, files and the cross-check."""

from typing import Any

import numpy as np

from minizha import (
    NezhaConfig,
    NezhaTokenizer,
    crosscheck,
    fill_mask,
    load_shipped,
    next_sentence_probability,
)
from minizha.convert import convert
from minizha.crosscheck.vectors import read_case, verify
from minizha.info import describe_folder
from minizha.model.base import ParameterisedModel
from minizha.model.pretraining import ItemsInBatch, NezhaForPreTraining
from minizha.ops.linear import linear, linear_backward
from minizha.predict import load_for_text
from minizha.text.corpus import (
    Document,
    character_vocabulary,
    hold_out,
    read_corpus,
    split_sentences,
)
from minizha.text.masking import mask_tokens
from minizha.text.pairs import PairSampler, tokenize_documents
from minizha.training.evaluation import evaluate, examples_from
from minizha.training.optimizer import AdamW, adamw_update, clip_by_global_norm
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import mask, new_model, prepare
from minizha.training.schedule import linear_schedule
from minizha.training.step import loss_and_gradients
from minizha.training.workers import Workers
from tests.support.careless.doors_model import BOTH_ITEMS, FLAG, LABELS, SEED, SHARED
from tests.support.careless.kinds import (
    Kind,
    arrays,
    either,
    floats,
    instance,
    integer,
    integers,
    is_flag,
    iterable_of,
    nothing,
    number,
    one_of,
    path,
    text,
    texts,
)
from tests.support.careless.world import BATCH, CLASSES, CONFIG, IDS, SHAPES, Door, V, World
from tests.support.paths import V1

ROOT_OF_LARGEST = float(np.finfo(np.float32).max) ** 0.5
TOKENIZER, GENERATOR = instance(NezhaTokenizer), instance(np.random.Generator)
PRETRAINING = instance(NezhaForPreTraining)
RATE, DECAY, EPS = number(0, 100), number(0), number(0, above=True)
SIZES = {
    "steps": 1,
    "hidden_size": 8,
    "layers": 1,
    "heads": 2,
    "intermediate_size": 8,
    "length": 12,
    "batch_size": 2,
    "min_count": 1,
    "held_out": 3,
}


def documents_of(least: int) -> Kind:
    return lambda v: (
        isinstance(v, (list, tuple)) and len(v) >= least and all(isinstance(d, Document) for d in v)
    )


def betas(value: Any) -> bool:
    value = value.tolist() if isinstance(value, np.ndarray) else value
    half_open = number(0, np.nextafter(1.0, 0.0))
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(half_open, value))


def rows_of_ids(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple)) and all(map(either(integer(0, V - 1), row_of_ids), value))
    ) or (integers(None, 0, V)(value))


def row_of_ids(value: Any) -> bool:
    if isinstance(value, np.ndarray) or np.isscalar(value):
        array = np.asarray(value)
        return array.size == 0 or (
            array.dtype.kind in "iu" and array.ndim < 2 and bool(((array >= 0) & (array < V)).all())
        )
    if isinstance(value, range):
        value = list(value)
    return isinstance(value, (list, tuple)) and (not value or integers((None,), 0, V)(value))


def sentences(value: Any) -> bool:
    """Documents of sentences of ids, two or more of each."""
    try:
        return len([d for d in value if len([s for s in d if len(s)]) > 1]) >= 2 and all(
            isinstance(s, np.ndarray) and s.dtype.kind in "iu" and s.ndim == 1
            for d in value
            for s in d
            if len(s)
        )
    except TypeError:
        return False


def of_no_sentence(value: Any) -> bool:
    """No documents, or documents of nothing."""
    sequences = (list, tuple, np.ndarray)
    return isinstance(value, sequences) and all(
        isinstance(d, sequences) and len(d) == 0 for d in value
    )


def extra_sentences(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray)) and sentences([*value, *value])


def batches(value: Any) -> bool:
    """What loss_and_gradients may take: arguments of NezhaForPreTraining, with both labels."""
    kinds = SHARED | LABELS["NezhaForPreTraining"][1] | {"num_items_in_batch": lambda _: True}
    return (
        isinstance(value, dict)
        and all(value.get(n) is not None for n in ("input_ids", "labels", "next_sentence_label"))
        and all(n in kinds and kinds[n](v) for n, v in value.items())
    )


def batches_with_a_loss(value: Any) -> bool:
    """Arguments of NezhaForPreTraining, with labels for one task at least."""
    kinds = SHARED | LABELS["NezhaForPreTraining"][1]
    return (
        isinstance(value, dict)
        and any(value.get(n) is not None for n in ("labels", "next_sentence_label"))
        and all(n in kinds and kinds[n](v) for n, v in value.items())
    )


def inputs_of_model(value: Any) -> bool:
    return isinstance(value, dict) and all(n in SHARED and SHARED[n](v) for n, v in value.items())


def step(w: World, gradients: Any, rate: Any, **options: Any) -> Any:
    model = w.model()
    AdamW(model, **options).step(gradients, rate)
    state = model.state_dict()
    assert {str(p.dtype) for p in state.values()} == {"float32"}, "the dtype has changed"
    assert {n: p.shape for n, p in state.items()} == SHAPES, "a shape has changed"
    return state


def sampler(w: World) -> PairSampler:
    return PairSampler(tokenize_documents(w.documents, w.tokenizer), 9, 2, 3, 0)


def data(w: World) -> Any:
    return prepare(w.corpus, PretrainOptions(**SIZES))


def all_of(w: World) -> dict[str, Any]:
    return {"w": w}


THREE = np.ones(3, np.float32)
THREES = floats((3,), -ROOT_OF_LARGEST, ROOT_OF_LARGEST, "f")

DOORS = [
    Door(
        "NezhaTokenizer",
        NezhaTokenizer,
        lambda w: {
            "vocab": list(w.tokenizer._tokens),
            "do_lower_case": True,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
        },
        {
            "vocab": either(path, texts),
            "do_lower_case": is_flag,
            "strip_accents": FLAG,
            "tokenize_chinese_chars": is_flag,
        },
        ("vocab",),
    ),
    Door(
        "NezhaTokenizer.from_pretrained",
        NezhaTokenizer.from_pretrained,
        lambda w: {"name": w.model_folder, "subfolder": "", "local_files_only": True},
        {
            "name": path,
            "subfolder": either(nothing, lambda v: isinstance(v, str)),
            "local_files_only": is_flag,
        },
        ("name",),
    ),
    Door(
        "tokenizer.save_pretrained",
        lambda w, **o: w.tokenizer.save_pretrained(**o),
        lambda w: {"w": w, "folder": w.target()},
        {"folder": path},
        ("folder",),
    ),
    Door(
        "tokenizer.__call__",
        lambda w, **o: w.tokenizer(**o),
        lambda w: {
            "w": w,
            "text": "一二",
            "pair": "三",
            "padding": "max_length",
            "truncation": True,
            "max_length": 9,
            "return_tensors": "np",
        },
        {
            "text": either(text, texts),
            "pair": either(nothing, text, texts),
            "padding": one_of(True, False, "longest", "max_length"),
            "truncation": one_of(True, False, "longest_first"),
            "max_length": either(nothing, integer(3, 2**31 - 1)),
            "return_tensors": either(one_of(None, "np"), callable),
        },
        ("text",),
    ),
    Door(
        "tokenizer.tokenize",
        lambda w, **o: w.tokenizer.tokenize(**o),
        lambda w: {"w": w, "text": "一[MASK]"},
        {"text": text},
        ("text",),
    ),
    Door(
        "tokenizer.plain_ids",
        lambda w, **o: w.tokenizer.plain_ids(**o),
        lambda w: {"w": w, "texts": ["一", "二三"]},
        {"texts": either(text, texts)},
        ("texts",),
    ),
    Door(
        "tokenizer.decode",
        lambda w, **o: w.tokenizer.decode(**o),
        lambda w: {"w": w, "ids": [2, 6, 3], "skip_special_tokens": True},
        {"ids": either(integer(0, V - 1), row_of_ids), "skip_special_tokens": is_flag},
        ("ids",),
    ),
    Door(
        "tokenizer.batch_decode",
        lambda w, **o: w.tokenizer.batch_decode(**o),
        lambda w: {"w": w, "ids": IDS, "skip_special_tokens": True},
        {"ids": rows_of_ids, "skip_special_tokens": is_flag},
        ("ids",),
    ),
    Door(
        "tokenizer.convert_ids_to_tokens",
        lambda w, **o: w.tokenizer.convert_ids_to_tokens(**o),
        lambda w: {"w": w, "ids": [1, 2]},
        {"ids": either(integer(0, V - 1), row_of_ids)},
        ("ids",),
    ),
    Door(
        "tokenizer.convert_tokens_to_ids",
        lambda w, **o: w.tokenizer.convert_tokens_to_ids(**o),
        lambda w: {"w": w, "tokens": ["一", "[PAD]"]},
        {
            "tokens": either(
                lambda v: isinstance(v, str),
                lambda v: isinstance(v, (list, tuple)) and all(isinstance(t, str) for t in v),
            )
        },
        ("tokens",),
    ),
    Door(
        "fill_mask",
        fill_mask,
        lambda w: {"model": w.model(), "tokenizer": w.tokenizer, "text": "一[MASK]三", "top_k": 3},
        {
            "model": instance(NezhaForPreTraining, CLASSES["NezhaForMaskedLM"]),
            "tokenizer": TOKENIZER,
            "text": lambda v: text(v) and "[MASK]" in v,
            "top_k": integer(1, V),
        },
        ("model", "tokenizer", "text"),
    ),
    Door(
        "next_sentence_probability",
        next_sentence_probability,
        lambda w: {"model": w.model(), "tokenizer": w.tokenizer, "first": "一二", "second": "三"},
        {
            "model": instance(NezhaForPreTraining, CLASSES["NezhaForNextSentencePrediction"]),
            "tokenizer": TOKENIZER,
            "first": text,
            "second": text,
        },
        ("model", "tokenizer", "first", "second"),
    ),
    Door(
        "load_shipped",
        load_shipped,
        lambda w: {"backend": "numpy"},
        {"backend": one_of("numpy")},
        (),
    ),
    Door(
        "load_for_text",
        load_for_text,
        lambda w: {
            "model_class": NezhaForPreTraining,
            "folder": str(w.model_folder),
            "backend": "numpy",
        },
        {"folder": path, "backend": one_of("numpy")},
        ("model_class", "folder"),
    ),
    Door(
        "read_corpus",
        read_corpus,
        lambda w: {"path": w.corpus, "min_documents": 2},
        {"path": path, "min_documents": integer(1)},
        ("path",),
    ),
    Door(
        "split_sentences",
        split_sentences,
        lambda w: {"paragraph": "一二。三。"},
        {"paragraph": lambda v: isinstance(v, str)},
        ("paragraph",),
    ),
    Door(
        "character_vocabulary",
        character_vocabulary,
        lambda w: {"documents": w.documents, "min_count": 1},
        {"documents": documents_of(0), "min_count": integer(1)},
        ("documents",),
    ),
    Door(
        "hold_out",
        hold_out,
        lambda w: {"documents": w.documents, "every": 2},
        {"documents": documents_of(2), "every": integer(2)},
        ("documents",),
    ),
    Door(
        "tokenize_documents",
        tokenize_documents,
        lambda w: {"documents": w.documents, "tokenizer": w.tokenizer},
        {"documents": documents_of(0), "tokenizer": TOKENIZER},
        ("documents", "tokenizer"),
    ),
    Door(
        "mask_tokens",
        mask_tokens,
        lambda w: {
            "input_ids": IDS,
            "special_ids": {0, 2, 3},
            "rng": np.random.default_rng(0),
            "mask_token_id": 4,
            "vocab_size": V,
            "probability": 0.5,
            "at_least_one": True,
        },
        {
            "input_ids": either(integers(None, 0, V), lambda v: np.size(v) == 0 and np.ndim(v) > 0),
            "special_ids": iterable_of(integer(0, V - 1)),
            "rng": GENERATOR,
            "mask_token_id": integer(0, V - 1),
            "vocab_size": integer(1, 2**31 - 1),
            "probability": number(0, 1),
            "at_least_one": is_flag,
        },
        ("input_ids", "special_ids", "rng", "mask_token_id", "vocab_size"),
    ),
    Door(
        "PairSampler",
        PairSampler,
        lambda w: {
            "documents": tokenize_documents(w.documents, w.tokenizer),
            "max_length": 9,
            "cls_id": 2,
            "sep_id": 3,
            "pad_id": 0,
            "extra_documents": (),
        },
        {
            "documents": sentences,
            "max_length": integer(5, 2**31 - 1),
            "cls_id": integer(0, 2**31 - 1),
            "sep_id": integer(0, 2**31 - 1),
            "pad_id": integer(0, 2**31 - 1),
            "extra_documents": either(of_no_sentence, extra_sentences),
        },
        ("documents", "max_length", "cls_id", "sep_id", "pad_id"),
    ),
    Door(
        "PairSampler.batch",
        lambda w, **o: sampler(w).batch(**o),
        lambda w: {"w": w, "batch_size": 3, "rng": np.random.default_rng(0)},
        {"batch_size": integer(1, 2**31 - 1), "rng": GENERATOR},
        ("batch_size", "rng"),
    ),
    Door(
        "PairSampler.all",
        lambda w, **o: sampler(w).all(**o),
        lambda w: {"w": w, "rng": np.random.default_rng(0)},
        {"rng": GENERATOR},
        ("rng",),
    ),
    Door(
        "AdamW",
        lambda model, **o: AdamW(model, **o) and None,
        lambda w: {"model": w.model(), "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1},
        {"model": instance(ParameterisedModel), "betas": betas, "eps": EPS, "weight_decay": DECAY},
        ("model",),
    ),
    Door(
        "AdamW.step",
        step,
        lambda w: {
            "w": w,
            "gradients": w.parameters(),
            "rate": 0.1,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
        },
        {
            "gradients": arrays(SHAPES, limit=ROOT_OF_LARGEST),
            "rate": RATE,
            "betas": betas,
            "eps": EPS,
        },
        ("gradients", "rate"),
    ),
    Door(
        "adamw_update",
        adamw_update,
        lambda w: {
            "parameter": THREE,
            "gradient": THREE,
            "m": THREE,
            "v": THREE,
            "step": 2,
            "rate": 0.1,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "decay": 0.1,
        },
        {
            "parameter": THREES,
            "gradient": THREES,
            "m": THREES,
            "v": floats((3,), 0, kinds="f"),
            "step": integer(1),
            "rate": number(0, 10),
            "betas": betas,
            "eps": EPS,
            "decay": number(0, 10),
        },
        ("parameter", "gradient", "m", "v", "step", "rate", "betas", "eps", "decay"),
    ),
    Door(
        "clip_by_global_norm",
        clip_by_global_norm,
        lambda w: {"gradients": w.parameters(), "max_norm": 1.0},
        {
            "gradients": lambda v: (
                isinstance(v, dict)
                and len(v) > 0
                and arrays({n: np.shape(a) for n, a in v.items()})(v)
            ),
            "max_norm": number(0, above=True),
        },
        ("gradients", "max_norm"),
    ),
    Door(
        "linear_schedule",
        linear_schedule,
        lambda w: {"step": 3, "peak": 0.1, "warmup": 2, "total": 10},
        {"step": integer(0), "peak": number(0), "warmup": integer(0, 10), "total": integer(2)},
        ("step", "peak", "warmup", "total"),
    ),
    Door(
        "loss_and_gradients",
        lambda **o: loss_and_gradients(**o)[1],
        lambda w: {"model": w.model(), "batch": dict(BATCH), "items": ItemsInBatch(3, 2)},
        {"model": PRETRAINING, "batch": batches, "items": BOTH_ITEMS},
        ("model", "batch"),
    ),
    Door(
        "Workers",
        lambda model, count, batch: Workers(model, count).loss_and_gradients(batch)[1],
        lambda w: {"model": w.model(), "count": 1, "batch": dict(BATCH)},
        {"model": PRETRAINING, "count": integer(1, 1), "batch": batches},
        ("model", "count", "batch"),
        avoid={"count": integer(2)},
    ),  # it would start processes
    Door(
        "evaluate",
        evaluate,
        lambda w: {"model": w.model(), "examples": dict(BATCH), "batch_size": 1},
        {"model": PRETRAINING, "examples": batches, "batch_size": integer(1)},
        ("model", "examples"),
    ),
    Door(
        "examples_from",
        examples_from,
        lambda w: {
            "model": w.model(),
            "tokenizer": w.tokenizer,
            "documents": w.documents,
            "count": 2,
            "seed": 0,
        },
        {
            "model": PRETRAINING,
            "tokenizer": TOKENIZER,
            "documents": documents_of(0),
            "count": integer(0),
            "seed": SEED,
        },
        ("model", "tokenizer", "documents"),
    ),
    Door(
        "PretrainOptions",
        PretrainOptions,
        lambda w: dict(SIZES) | {"learning_rate": 0.1, "warmup": 0.2},
        {
            "steps": integer(1, 10**9),
            "hidden_size": integer(1, 16384),
            "layers": integer(1, 1000),
            "heads": integer(1, 1024),
            "length": integer(8, 8192),
            "batch_size": integer(1, 65536),
            "learning_rate": number(0, 1),
            "warmup": number(0, 1),
        },
    ),
    Door(
        "prepare",
        lambda w, **o: prepare(**o).held_out,
        lambda w: {"w": w, "corpus": w.corpus, "options": PretrainOptions(**SIZES)},
        {"corpus": path, "options": instance(PretrainOptions)},
        ("corpus", "options"),
    ),
    Door(
        "new_model",
        lambda **o: new_model(**o).state_dict(),
        lambda w: {"data": data(w), "options": PretrainOptions(**SIZES), "backend": "numpy"},
        {
            "data": lambda v: type(v).__name__ == "Data",
            "options": instance(PretrainOptions),
            "backend": one_of("numpy"),
        },
        ("data", "options"),
    ),
    Door(
        "mask",
        mask,
        lambda w: {
            "examples": dict(BATCH),
            "tokenizer": w.tokenizer,
            "options": PretrainOptions(**SIZES),
            "rng": np.random.default_rng(0),
        },
        {
            "examples": lambda v: isinstance(v, dict) and integers(None, 0, V)(v.get("input_ids")),
            "tokenizer": TOKENIZER,
            "options": instance(PretrainOptions),
            "rng": GENERATOR,
        },
        ("examples", "tokenizer", "options", "rng"),
    ),
    Door(
        "describe_folder",
        lambda folder: describe_folder(folder),
        lambda w: {"folder": w.model_folder},
        {"folder": path},
        ("folder",),
    ),
    Door(
        "convert",
        convert,
        lambda w: {"source": w.model_folder, "target": w.target()},
        {"source": path, "target": path},
        ("source", "target"),
    ),
    Door(
        "crosscheck.trace",
        crosscheck.trace,
        lambda w: {"model": w.model("NezhaModel"), "inputs": {"input_ids": IDS}},
        {"model": instance(ParameterisedModel), "inputs": inputs_of_model},
        ("model", "inputs"),
    ),
    Door(
        "Trace.save",
        lambda w, **o: w.trace.save(**o),
        lambda w: {"w": w, "path": w.target(), "parameters": False},
        {"path": path, "parameters": is_flag},
        ("path",),
    ),
    Door("mistakes", crosscheck.mistakes, lambda w: {}, {}),
    Door(
        "mistaken",
        crosscheck.mistaken,
        lambda w: {"trace": w.trace, "key": next(iter(crosscheck.mistakes()))},
        {"key": lambda v: isinstance(v, str) and v in crosscheck.mistakes()},
        ("key",),
    ),
    Door(
        "open_trace",
        crosscheck.open_trace,
        lambda w: {"path": w.trace_file},
        {"path": path},
        ("path",),
    ),
    Door(
        "gradcheck",
        crosscheck.gradcheck,
        lambda w: {"model": w.model("NezhaForPreTraining"), "inputs": dict(BATCH)},
        {"inputs": batches_with_a_loss},
        ("model", "inputs"),
    ),
    Door(
        "check_pair",
        crosscheck.check_pair,
        lambda w: {
            "forward": linear,
            "backward": linear_backward,
            "seed": 0,
            "trials": 1,
            "arguments": [np.ones((2, 3)), np.ones((4, 3)), np.ones(4)],
        },
        {
            "forward": callable,
            "backward": callable,
            "seed": SEED,
            "trials": integer(1),
            "arguments": lambda v: isinstance(v, (list, tuple)) and len(v) > 0,
        },
        ("forward", "backward", "arguments"),
    ),
    Door(
        "vectors.verify",
        verify,
        lambda w: {"folder": V1 / "cases", "vectors": V1},
        {"folder": path, "vectors": either(nothing, path)},
        ("folder",),
        # a name that is too long for a file system still leaks an OSError
        avoid={"folder": lambda v: isinstance(v, str) and len(v) > 200},
    ),
    Door(
        "vectors.read_case",
        read_case,
        lambda w: {"vectors": V1, "name": "nsp"},
        {"vectors": path, "name": lambda v: isinstance(v, str)},
        ("vectors", "name"),
    ),
    Door(
        "config of a model",
        lambda config: CLASSES["NezhaModel"].shapes(config),
        lambda w: {"config": CONFIG},
        {"config": instance(NezhaConfig)},
        ("config",),
    ),
]
