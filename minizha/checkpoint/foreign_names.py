"""From the tensor names of TensorFlow, Keras and Paddle exports to those of PyTorch ports.

All names together tell the scheme, and the scheme tells how a matrix is stored, (in, out) or
(out, in). One name and its shape don't: ``pooler.dense.weight`` belongs to two schemes and is square.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from minizha.checkpoint.stored import shown
from minizha.errors import ArgumentError


class Translation(NamedTuple):
    """The name in PyTorch ports, or None if it is not a parameter; whether it is stored (in, out)."""

    name: str | None
    transposed: bool = False


def translate(spellings: Collection[str], expected: Collection[str]) -> Mapping[str, Translation]:
    """The translation of each spelling; an unknown name is translated to itself.

    ===========  ============================================  ===================================
    scheme       recognised by (the first that applies)        stored (in, out)
    ===========  ============================================  ===================================
    Keras        a layer of bert4keras: ``MLM-Norm/gamma:0``   every ``kernel``
    TensorFlow   a ``/``: ``bert/pooler/dense/kernel``         every ``kernel``
    PaddleNLP    a name that only it has: ``….ffn.weight``     every ``weight`` but embeddings
    PyTorch      nothing                                       nothing
    ===========  ============================================  ===================================

    Raises:
        ArgumentError: some names are only PaddleNLP's, others only PyTorch's.
    """
    if any(_KERAS_NAME.fullmatch(spelling) for spelling in spellings):
        return _from_keras(spellings)
    if any("/" in spelling for spelling in spellings):
        return {spelling: _from_tensorflow(spelling) for spelling in spellings}
    paddle = [spelling for spelling in spellings if _only_in_paddle(spelling)]
    if not paddle:
        return {spelling: Translation(spelling) for spelling in spellings}
    pytorch = [spelling for spelling in spellings if _ONLY_IN_PYTORCH.search(spelling)]
    if pytorch:
        raise ArgumentError(
            f"state dict: expected names of one port, found {shown(paddle[0])} (PaddleNLP's, whose "
            f"weights are (in, out)) beside {shown(pytorch[0])} (PyTorch's, whose weights are (out, in))"
        )
    return {spelling: _from_paddle(spelling, expected) for spelling in spellings}


# --- TensorFlow: Google's BERT, Huawei's NEZHA, checkpoints written by bert4keras ---------------

_TENSORFLOW_MODULES = {"cls.squad": "qa_outputs", "": "classifier"}
_TENSORFLOW_LEAVES = {"kernel": "weight", "output_weights": "weight", "output_bias": "bias"}
_OPTIMIZERS = re.compile(
    r"(^|/)((adam|lamb)_[mv]|shadow|Adam(_1)?|AdamWeightDecayOptimizer(_1)?|beta[12]_power|"
    r"global_step|good_steps|bad_steps|loss_scale)(/|$)"
)


def _from_tensorflow(spelling: str) -> Translation:
    """The translation by this table.

    ==========================================  =============================================
    spelling (without ``:0`` at the end)        name
    ==========================================  =============================================
    ``bert/encoder/layer_0/…/kernel``           ``bert.encoder.layer.0.….weight``, transposed
    ``…/output_weights``, ``…/output_bias``     ``….weight``, ``….bias``
    ``…/word_embeddings``                       ``….word_embeddings.weight``
    ``cls/squad/…``                             ``qa_outputs.…``
    ``output_weights``, ``output_bias``         ``classifier.weight``, ``classifier.bias``
    ``…/adam_m``, ``global_step``, …            none: it belongs to the optimizer
    ==========================================  =============================================
    """
    path = spelling.removesuffix(":0")
    if _OPTIMIZERS.search(path):
        return Translation(None)
    *modules, leaf = path.split("/")
    if leaf.endswith("_embeddings"):
        return Translation(".".join((*modules, leaf, "weight")))
    if not modules and leaf not in _TENSORFLOW_LEAVES:
        return Translation(spelling)
    module = ".".join(re.sub(r"^layer_(?=\d+$)", "layer.", part) for part in modules)
    module = _TENSORFLOW_MODULES.get(module, module)
    # output_weights are (labels, D), as PyTorch has them
    return Translation(
        f"{module}.{_TENSORFLOW_LEAVES.get(leaf, leaf)}", transposed=leaf == "kernel"
    )


# --- Keras: the layers of a bert4keras model ----------------------------------------------------

# a layer with several dense layers lists them in the order in which it makes them
_KERAS_MODULES: dict[str, tuple[str, ...]] = {
    "Embedding-Token": ("embeddings.word_embeddings",),
    "Embedding-Segment": ("embeddings.token_type_embeddings",),
    "Embedding-Norm": ("embeddings.LayerNorm",),
    "Transformer-*-MultiHeadSelfAttention": (
        "encoder.layer.*.attention.self.query",
        "encoder.layer.*.attention.self.key",
        "encoder.layer.*.attention.self.value",
        "encoder.layer.*.attention.output.dense",
    ),
    "Transformer-*-MultiHeadSelfAttention-Norm": ("encoder.layer.*.attention.output.LayerNorm",),
    "Transformer-*-FeedForward": (
        "encoder.layer.*.intermediate.dense",
        "encoder.layer.*.output.dense",
    ),
    "Transformer-*-FeedForward-Norm": ("encoder.layer.*.output.LayerNorm",),
    "Pooler-Dense": ("pooler.dense",),
    "NSP-Proba": ("cls.seq_relationship",),
    "MLM-Dense": ("cls.predictions.transform.dense",),
    "MLM-Norm": ("cls.predictions.transform.LayerNorm",),
    "MLM-Bias": ("cls.predictions",),
}
_KERAS_LEAVES = {"embeddings": "weight", "kernel": "weight", "gamma": "weight"}
_KERAS_LEAVES |= {"beta": "bias", "bias": "bias"}
# an HDF5 file has the layer's name twice: as the group's name, and in the weight's name
_KERAS_NAME = re.compile(
    r"(?:model_weights/)?"
    r"(?P<layer>(?:Embedding|Transformer|Pooler|NSP|MLM)-[\w-]+)/(?:(?P=layer)/)?"
    r"(?:dense(?:_(?P<number>\d{1,9}))?/)?(?P<leaf>embeddings|kernel|gamma|beta|bias)(?::0)?",
    re.ASCII,
)


def _from_keras(spellings: Collection[str]) -> Mapping[str, Translation]:
    """Keras numbers the dense layers of the whole program, so only their order in a layer counts."""
    matches = {s: match for s in spellings if (match := _KERAS_NAME.fullmatch(s))}
    numbers: dict[str, set[int]] = {}
    for match in matches.values():
        numbers.setdefault(match["layer"], set()).add(int(match["number"] or 0))
    translations = {spelling: Translation(spelling) for spelling in spellings}
    for spelling, match in matches.items():
        layer, leaf = match["layer"], match["leaf"]
        index = "".join(re.findall(r"^Transformer-(\d+)-", layer))
        modules = _KERAS_MODULES.get(re.sub(r"^Transformer-\d+-", "Transformer-*-", layer), ())
        if layer == "Embedding-Relative-Position":  # computed, not learnt
            translations[spelling] = Translation(None)
        elif len(modules) == len(numbers[layer]):
            position = sorted(numbers[layer]).index(int(match["number"] or 0))
            name = f"{modules[position].replace('*', index)}.{_KERAS_LEAVES[leaf]}"
            translations[spelling] = Translation(name, transposed=leaf == "kernel")
    return translations


# --- Paddle: PaddleNLP's NeZha classes ----------------------------------------------------------

PADDLE_MODULES = {
    "embeddings.layer_norm": "embeddings.LayerNorm",
    "encoder.layer.*.attention.query": "encoder.layer.*.attention.self.query",
    "encoder.layer.*.attention.key": "encoder.layer.*.attention.self.key",
    "encoder.layer.*.attention.value": "encoder.layer.*.attention.self.value",
    "encoder.layer.*.attention.dense": "encoder.layer.*.attention.output.dense",
    "encoder.layer.*.attention.layer_norm": "encoder.layer.*.attention.output.LayerNorm",
    "encoder.layer.*.ffn": "encoder.layer.*.intermediate.dense",
    "encoder.layer.*.ffn_output": "encoder.layer.*.output.dense",
    "encoder.layer.*.layer_norm": "encoder.layer.*.output.LayerNorm",
    "cls.predictions.dense": "cls.predictions.transform.dense",
    "cls.predictions.layer_norm": "cls.predictions.transform.LayerNorm",
}
"""The modules that PaddleNLP names differently from PyTorch ports; ``*`` is a layer's number."""
_PADDLE_PARAMETERS = {
    "cls.predictions.decoder_weight": "cls.predictions.decoder.weight",
    "cls.predictions.decoder_bias": "cls.predictions.decoder.bias",
}
_ONLY_IN_PYTORCH = re.compile(
    r"LayerNorm\.|\.attention\.(self|output)\.|\.\d+\.(intermediate|output)\.|\.transform\."
)


def paddle_template(module: str) -> str:
    """``nezha.encoder.layer.3.ffn`` → ``encoder.layer.*.ffn``"""
    return re.sub(r"^(encoder\.layer\.)\d+(?=\.)", r"\1*", module.removeprefix("nezha."))


def _only_in_paddle(spelling: str) -> bool:
    module, _, leaf = spelling.rpartition(".")
    known = paddle_template(module) in PADDLE_MODULES and leaf in ("weight", "bias")
    return known or spelling in _PADDLE_PARAMETERS


def _from_paddle(spelling: str, expected: Collection[str]) -> Translation:
    if spelling in _PADDLE_PARAMETERS:
        return Translation(_PADDLE_PARAMETERS[spelling])
    if spelling.startswith("StructuredToParameterName"):  # a dictionary that Paddle adds
        return Translation(None)
    module, _, leaf = spelling.rpartition(".")
    matrix = leaf == "weight" and not module.endswith("_embeddings")
    index = "".join(re.findall(r"^(?:nezha\.)?encoder\.layer\.(\d+)\.", module))
    renamed = PADDLE_MODULES.get(paddle_template(module), "").replace("*", index) or module
    if (
        module == "classifier" and "qa_outputs.weight" in expected
    ):  # PaddleNLP has one name for both
        renamed = "qa_outputs"
    return Translation(f"{renamed}.{leaf}" if module else spelling, transposed=matrix)
