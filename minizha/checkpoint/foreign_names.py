"""What TensorFlow, Keras and Paddle exports call the tensors of a PyTorch port.

The names as a whole tell the scheme, and the scheme tells how matrices lie; shapes don't: some names
(``pooler.dense.weight``) are the same in two schemes, and the matrices behind them are often square.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from minizha.checkpoint.stored import shown
from minizha.errors import ArgumentError


class Translation(NamedTuple):
    """A PyTorch port's name, or None for what is no parameter; ``turned``: stored (in, out)."""

    name: str | None
    turned: bool = False


def translate(spellings: Collection[str], expected: Collection[str]) -> Mapping[str, Translation]:
    """The translation of each spelling; what no scheme knows is translated to itself.

    ===========  ============================================  ===================================
    scheme       told by                                       stored (in, out)
    ===========  ============================================  ===================================
    Keras        a layer of bert4keras: ``MLM-Norm/gamma:0``   every ``kernel``
    TensorFlow   else, a ``/``: ``bert/pooler/dense/kernel``   every ``kernel``
    PaddleNLP    else, a name of its own: ``….ffn.weight``     every ``weight`` but embeddings
    PyTorch      else                                          nothing
    ===========  ============================================  ===================================

    Raises:
        ArgumentError: the names are PaddleNLP's and PyTorch's at once.
    """
    if any(_KERAS_NAME.fullmatch(spelling) for spelling in spellings):
        return _from_keras(spellings)
    if any("/" in spelling for spelling in spellings):
        return {spelling: _from_tensorflow(spelling) for spelling in spellings}
    paddle = [spelling for spelling in spellings if _paddle_alone(spelling)]
    if not paddle:
        return {spelling: Translation(spelling) for spelling in spellings}
    pytorch = [spelling for spelling in spellings if _PYTORCH_ALONE.search(spelling)]
    if pytorch:
        raise ArgumentError(
            f"state dict: expected names of one port, found {shown(paddle[0])} (PaddleNLP's, whose "
            f"weights are (in, out)) beside {shown(pytorch[0])} (PyTorch's, whose weights are (out, in))"
        )
    return {spelling: _from_paddle(spelling, expected) for spelling in spellings}


# --- TensorFlow: Google's BERT, Huawei's NEZHA, checkpoints that bert4keras writes --------------

_TENSORFLOW_MODULES = {"cls.squad": "qa_outputs", "": "classifier"}
_TENSORFLOW_LEAVES = {"kernel": "weight", "output_weights": "weight", "output_bias": "bias"}
_OPTIMIZERS = re.compile(
    r"(^|/)((adam|lamb)_[mv]|shadow|Adam(_1)?|AdamWeightDecayOptimizer(_1)?|beta[12]_power|"
    r"global_step|good_steps|bad_steps|loss_scale)(/|$)"
)


def _from_tensorflow(spelling: str) -> Translation:
    """The table.

    ==========================================  =========================================
    found (``:0`` at the end is cut off)        becomes
    ==========================================  =========================================
    ``bert/encoder/layer_0/…/kernel``           ``bert.encoder.layer.0.….weight``, turned
    ``…/output_weights``, ``…/output_bias``     ``….weight``, ``….bias``
    ``…/word_embeddings``                       ``….word_embeddings.weight``
    ``cls/squad/…``                             ``qa_outputs.…``
    ``output_weights``, ``output_bias``         ``classifier.weight``, ``classifier.bias``
    ``…/adam_m``, ``global_step``, …            dropped: the optimizer's
    ==========================================  =========================================
    """
    path = spelling.removesuffix(":0")
    if _OPTIMIZERS.search(path):
        return Translation(None)
    *modules, leaf = path.split("/")
    if leaf.endswith("_embeddings"):
        return Translation(".".join((*modules, leaf, "weight")))
    if not modules and leaf not in _TENSORFLOW_LEAVES:
        return Translation(spelling)
    module = ".".join(re.sub(r"^layer_(?=\d+$)", "layer.", step) for step in modules)
    module = _TENSORFLOW_MODULES.get(module, module)
    # output_weights are (labels, D), as PyTorch has them
    return Translation(f"{module}.{_TENSORFLOW_LEAVES.get(leaf, leaf)}", turned=leaf == "kernel")


# --- Keras: the layers of a bert4keras model ----------------------------------------------------

# where a layer holds several dense ones: in the order in which it makes them
_KERAS: dict[str, tuple[str, ...]] = {
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
# an HDF5 file says the layer's name twice: of the group, then in the weight's own name
_KERAS_NAME = re.compile(
    r"(?:model_weights/)?"
    r"(?P<layer>(?:Embedding|Transformer|Pooler|NSP|MLM)-[\w-]+)/(?:(?P=layer)/)?"
    r"(?:dense(?:_(?P<number>\d{1,9}))?/)?(?P<leaf>embeddings|kernel|gamma|beta|bias)(?::0)?",
    re.ASCII,
)


def _from_keras(spellings: Collection[str]) -> Mapping[str, Translation]:
    """Keras numbers the dense layers of a whole program: within a layer only their order counts."""
    matches = {s: match for s in spellings if (match := _KERAS_NAME.fullmatch(s))}
    numbers: dict[str, set[int]] = {}
    for match in matches.values():
        numbers.setdefault(match["layer"], set()).add(int(match["number"] or 0))
    translations = {spelling: Translation(spelling) for spelling in spellings}
    for spelling, match in matches.items():
        layer, leaf = match["layer"], match["leaf"]
        index = "".join(re.findall(r"^Transformer-(\d+)-", layer))
        modules = _KERAS.get(re.sub(r"^Transformer-\d+-", "Transformer-*-", layer), ())
        if layer == "Embedding-Relative-Position":  # computed, never learnt
            translations[spelling] = Translation(None)
        elif len(modules) == len(numbers[layer]):
            place = sorted(numbers[layer]).index(int(match["number"] or 0))
            name = f"{modules[place].replace('*', index)}.{_KERAS_LEAVES[leaf]}"
            translations[spelling] = Translation(name, turned=leaf == "kernel")
    return translations


# --- Paddle: PaddleNLP's NeZha classes ----------------------------------------------------------

PADDLE = {
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
"""PaddleNLP's modules that it calls otherwise than PyTorch's ports do; ``*`` is a layer's number."""
_PADDLE_PARAMETERS = {
    "cls.predictions.decoder_weight": "cls.predictions.decoder.weight",
    "cls.predictions.decoder_bias": "cls.predictions.decoder.bias",
}
_PYTORCH_ALONE = re.compile(
    r"LayerNorm\.|\.attention\.(self|output)\.|\.\d+\.(intermediate|output)\.|\.transform\."
)


def paddle_template(module: str) -> str:
    """``nezha.encoder.layer.3.ffn`` → ``encoder.layer.*.ffn``"""
    return re.sub(r"^(encoder\.layer\.)\d+(?=\.)", r"\1*", module.removeprefix("nezha."))


def _paddle_alone(spelling: str) -> bool:
    module, _, leaf = spelling.rpartition(".")
    known = paddle_template(module) in PADDLE and leaf in ("weight", "bias")
    return known or spelling in _PADDLE_PARAMETERS


def _from_paddle(spelling: str, expected: Collection[str]) -> Translation:
    if spelling in _PADDLE_PARAMETERS:
        return Translation(_PADDLE_PARAMETERS[spelling])
    if spelling.startswith("StructuredToParameterName"):  # a dictionary that Paddle puts beside
        return Translation(None)
    module, _, leaf = spelling.rpartition(".")
    matrix = leaf == "weight" and not module.endswith("_embeddings")
    index = "".join(re.findall(r"^(?:nezha\.)?encoder\.layer\.(\d+)\.", module))
    becomes = PADDLE.get(paddle_template(module), "").replace("*", index) or module
    if module == "classifier" and "qa_outputs.weight" in expected:  # PaddleNLP's one name for both
        becomes = "qa_outputs"
    return Translation(f"{becomes}.{leaf}" if module else spelling, turned=matrix)
