"""A model's parameters under the names and in the weight layout of other ports.

Written from the ports' sources, independently of the tables in minizha that they test.
"""

import numpy as np

from minizha import NezhaConfig, NezhaForPreTraining

LAYERS = 12  # two digits: 10 comes after 9, not after 1
CONFIG = NezhaConfig(
    vocab_size=13,
    hidden_size=8,
    num_hidden_layers=LAYERS,
    num_attention_heads=2,
    intermediate_size=10,
    max_relative_position=3,
    initializer_range=0.3,
)
# of the optimizers in Huawei's TensorFlow code, and of TensorFlow's Adam
SLOTS = ("adam_m", "adam_v", "lamb_m", "lamb_v", "shadow", "Adam", "Adam_1")
WORDS = "nezha.embeddings.word_embeddings.weight"


def parameters(seed=5):
    """Random parameters of the pre-training class, all different, so that swapped ones are noticed."""
    rng = np.random.default_rng(seed)
    shapes = {n: a.shape for n, a in NezhaForPreTraining(CONFIG).state_dict().items()}
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def pytorch(p):
    """Huawei's NEZHA-PyTorch has BERT's names; lonePatient's adds a decoder.bias and buffers."""
    renamed = {name.replace("nezha.", "bert."): array for name, array in p.items()}
    renamed["cls.predictions.decoder.weight"] = p[WORDS]
    renamed["cls.predictions.decoder.bias"] = p["cls.predictions.bias"]
    for i in range(LAYERS):
        buffer = (
            f"bert.encoder.layer.{i}.attention.self.relative_positions_encoding.positions_encoding"
        )
        renamed[buffer] = np.zeros((6, 6, 4))
    return renamed


def data_parallel(p):
    return {f"module.{name}": array for name, array in pytorch(p).items()}


def tensorflow(p, end="", slots=SLOTS):
    """Huawei's NEZHA-TensorFlow, and bert4keras's save_weights_as_checkpoint."""
    renamed = {}

    def norm(theirs, ours):
        renamed[f"{theirs}/LayerNorm/gamma"] = p[f"{ours}.LayerNorm.weight"]
        renamed[f"{theirs}/LayerNorm/beta"] = p[f"{ours}.LayerNorm.bias"]

    def dense(theirs, ours):
        renamed[f"{theirs}/kernel"] = p[f"{ours}.weight"].T
        renamed[f"{theirs}/bias"] = p[f"{ours}.bias"]

    for table in ("word_embeddings", "token_type_embeddings"):
        renamed[f"bert/embeddings/{table}"] = p[f"nezha.embeddings.{table}.weight"]
    norm("bert/embeddings", "nezha.embeddings")
    for i in range(LAYERS):
        theirs, ours = f"bert/encoder/layer_{i}", f"nezha.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            dense(f"{theirs}/attention/self/{name}", f"{ours}.attention.self.{name}")
        dense(f"{theirs}/attention/output/dense", f"{ours}.attention.output.dense")
        norm(f"{theirs}/attention/output", f"{ours}.attention.output")
        dense(f"{theirs}/intermediate/dense", f"{ours}.intermediate.dense")
        dense(f"{theirs}/output/dense", f"{ours}.output.dense")
        norm(f"{theirs}/output", f"{ours}.output")
    dense("bert/pooler/dense", "nezha.pooler.dense")
    dense("cls/predictions/transform/dense", "cls.predictions.transform.dense")
    norm("cls/predictions/transform", "cls.predictions.transform")
    renamed["cls/predictions/output_bias"] = p["cls.predictions.bias"]
    renamed["cls/seq_relationship/output_weights"] = p["cls.seq_relationship.weight"]
    renamed["cls/seq_relationship/output_bias"] = p["cls.seq_relationship.bias"]
    for name, array in list(renamed.items()):
        renamed |= {f"{name}/{slot}": np.ones_like(array) for slot in slots}
    steps = ("global_step", "good_steps", "bad_steps", "loss_scale") if slots else ()
    renamed = {name + end: array for name, array in renamed.items()}
    return renamed | {step + end: np.array(7.0) for step in steps}


def keras(p, name=lambda layer, rest: f"{layer}/{rest}:0", first=0, running=False):
    """bert4keras: dense layers are numbered from ``first`` in each layer, or through the whole model."""
    renamed, number = {}, first

    def put(layer, **weights):
        renamed.update({name(layer, leaf): array for leaf, array in weights.items()})

    def norm(layer, ours):
        put(layer, gamma=p[f"{ours}.LayerNorm.weight"], beta=p[f"{ours}.LayerNorm.bias"])

    def dense(layer, *ours):
        nonlocal number
        number = number if running else first
        for module in ours:
            inner = f"dense_{number}" if number else "dense"
            renamed[name(layer, f"{inner}/kernel")] = p[f"{module}.weight"].T
            renamed[name(layer, f"{inner}/bias")] = p[f"{module}.bias"]
            number += 1

    def outer(layer, ours):
        put(layer, kernel=p[f"{ours}.weight"].T, bias=p[f"{ours}.bias"])

    put("Embedding-Token", embeddings=p[WORDS])
    put("Embedding-Segment", embeddings=p["nezha.embeddings.token_type_embeddings.weight"])
    put("Embedding-Relative-Position", embeddings=np.ones((129, 4)))
    norm("Embedding-Norm", "nezha.embeddings")
    for i in range(LAYERS):
        ours, attention = f"nezha.encoder.layer.{i}", f"Transformer-{i}-MultiHeadSelfAttention"
        projections = [f"{ours}.attention.self.{leaf}" for leaf in ("query", "key", "value")]
        dense(attention, *projections, f"{ours}.attention.output.dense")
        norm(f"{attention}-Norm", f"{ours}.attention.output")
        dense(f"Transformer-{i}-FeedForward", f"{ours}.intermediate.dense", f"{ours}.output.dense")
        norm(f"Transformer-{i}-FeedForward-Norm", f"{ours}.output")
    outer("Pooler-Dense", "nezha.pooler.dense")
    outer("NSP-Proba", "cls.seq_relationship")
    outer("MLM-Dense", "cls.predictions.transform.dense")
    norm("MLM-Norm", "cls.predictions.transform")
    put("MLM-Bias", beta=p["cls.predictions.bias"])
    return renamed


def paddle(p):
    """PaddleNLP's NeZhaForPretraining, 2.0 to 2.8."""
    renamed = {}

    def dense(theirs, ours):
        renamed[f"{theirs}.weight"] = p[f"{ours}.weight"].T
        renamed[f"{theirs}.bias"] = p[f"{ours}.bias"]

    def norm(theirs, ours):
        renamed[f"{theirs}.layer_norm.weight"] = p[f"{ours}.LayerNorm.weight"]
        renamed[f"{theirs}.layer_norm.bias"] = p[f"{ours}.LayerNorm.bias"]

    for table in ("word_embeddings", "token_type_embeddings"):
        renamed[f"nezha.embeddings.{table}.weight"] = p[f"nezha.embeddings.{table}.weight"]
    norm("nezha.embeddings", "nezha.embeddings")
    for i in range(LAYERS):
        layer = f"nezha.encoder.layer.{i}"
        norm(layer, f"{layer}.output")
        for name in ("query", "key", "value"):
            dense(f"{layer}.attention.{name}", f"{layer}.attention.self.{name}")
        dense(f"{layer}.attention.dense", f"{layer}.attention.output.dense")
        norm(f"{layer}.attention", f"{layer}.attention.output")
        dense(f"{layer}.ffn", f"{layer}.intermediate.dense")
        dense(f"{layer}.ffn_output", f"{layer}.output.dense")
    dense("nezha.pooler.dense", "nezha.pooler.dense")
    renamed["cls.predictions.decoder_weight"] = p[WORDS]
    renamed["cls.predictions.decoder_bias"] = p["cls.predictions.bias"]
    dense("cls.predictions.dense", "cls.predictions.transform.dense")
    norm("cls.predictions", "cls.predictions.transform")
    dense("cls.seq_relationship", "cls.seq_relationship")
    return renamed | {"StructuredToParameterName@@": {"a": "b"}}


def bare_paddle(p):
    """PaddleNLP's NeZhaModel: no prefix, no head."""
    renamed = paddle(p).items()
    return {name.removeprefix("nezha."): a for name, a in renamed if name.startswith("nezha.")}


SCHEMES = {
    "PyTorch": pytorch,
    "PyTorch, DataParallel": data_parallel,
    "TensorFlow": tensorflow,
    "TensorFlow, :0": lambda p: tensorflow(p, end=":0"),
    "TensorFlow, no optimizer": lambda p: tensorflow(p, slots=()),
    "Keras": keras,
    "Keras, HDF5": lambda p: keras(p, lambda layer, rest: f"{layer}/{layer}/{rest}:0"),
    "Keras, whole model": lambda p: keras(
        p, lambda layer, rest: f"model_weights/{layer}/{layer}/{rest}:0"
    ),
    "Keras, running numbers": lambda p: keras(p, first=1, running=True),
    "Keras, 9 before 10": lambda p: keras(p, first=8),
    "Paddle": paddle,
}
