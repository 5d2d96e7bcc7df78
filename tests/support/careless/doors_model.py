"""The doors of the package itself: the configuration, the classes, the outputs."""

from typing import Any

import numpy as np

from minizha import NezhaConfig, NezhaTokenizer
from minizha.model.pretraining import ItemsInBatch, NezhaForMaskedLM
from tests.support.careless.kinds import (
    arrays,
    either,
    floats,
    instance,
    integer,
    integers,
    is_flag,
    nothing,
    number,
    one_of,
    path,
)
from tests.support.careless.world import (
    BATCH,
    CLASSES,
    CONFIG,
    IDS,
    SHAPES,
    B,
    D,
    Door,
    L,
    N,
    V,
    World,
)

FLAG = either(nothing, is_flag)
SEED = integer(0)
NAMES = ("float32", "float64", "complex128")


def is_dtype(value: Any) -> bool:
    """A name of a dtype, a type that is one, or a dtype."""
    try:
        return isinstance(value, (str, type, np.dtype)) and np.dtype(value).name in NAMES
    except (TypeError, UnicodeEncodeError):
        return False


MASKS = either(nothing, floats((B, L), 0, 1, "biuf"), floats((B, L, L), 0, 1, "biuf"))
SHARED = {
    "input_ids": integers((B, L), 0, V),
    "attention_mask": MASKS,
    "token_type_ids": either(nothing, integers((B, L), 0, 2)),
    "head_mask": either(nothing, floats((N,), kinds="biuf"), floats((1, N), kinds="biuf")),
    "inputs_embeds": nothing,
    "output_attentions": FLAG,
    "output_hidden_states": FLAG,
    "return_dict": FLAG,
    "record": FLAG,
}
ITEMS = either(nothing, integer(1, 2**63 - 1))
BOTH_ITEMS = either(
    nothing,
    lambda v: isinstance(v, ItemsInBatch) and all(ITEMS(count) for count in v),
)
LABELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # {class: ({labels: good}, {labels: kind})}
    "NezhaModel": ({}, {}),
    "NezhaForPreTraining": (
        {"labels": BATCH["labels"], "next_sentence_label": BATCH["next_sentence_label"]},
        {
            "labels": either(nothing, integers((B, L), 0, V, ignored=True)),
            "next_sentence_label": either(nothing, integers((B,), 0, 2, ignored=True)),
            "num_items_in_batch": BOTH_ITEMS,
        },
    ),
    "NezhaForMaskedLM": (
        {"labels": BATCH["labels"]},
        {
            "labels": either(nothing, integers((B, L), 0, V, ignored=True)),
            "num_items_in_batch": ITEMS,
        },
    ),
    "NezhaForNextSentencePrediction": (
        {"labels": np.array([0, 1])},
        {
            "labels": either(nothing, integers((B,), 0, 2, ignored=True)),
            "num_items_in_batch": ITEMS,
        },
    ),
    "NezhaForSequenceClassification": (
        {"labels": np.array([0, 1])},
        {
            "labels": either(
                nothing, integers((B,), 0, 2, ignored=True), floats((B, 2), 0, 1, "biuf")
            ),
            "num_items_in_batch": ITEMS,
        },
    ),
    "NezhaForTokenClassification": (
        {"labels": np.zeros((B, L), int)},
        {
            "labels": either(nothing, integers((B, L), 0, 2, ignored=True)),
            "num_items_in_batch": ITEMS,
        },
    ),
    "NezhaForQuestionAnswering": (
        {"start_positions": np.array([0, 1]), "end_positions": np.array([1, 2])},
        # positions behind the text are ignored, as in Transformers
        dict.fromkeys(
            ("start_positions", "end_positions"), either(nothing, integers(None, -(2**63), 2**63))
        )
        | {"num_items_in_batch": ITEMS},
    ),
}


def sequential(value: Any) -> bool:
    return isinstance(value, (list, tuple, dict, set, range, np.ndarray)) or hasattr(
        value, "__iter__"
    )


def heads(value: Any) -> bool:
    """{layer: heads}, with a head left in the layer."""
    if not isinstance(value, dict):
        return False
    layer, head = integer(-1, 0), integer(0, N - 1)
    return all(
        (layer(k) or k in ("0", "-1")) and sequential(h) and all(map(head, h)) and len(set(h)) < N
        for k, h in value.items()
    )


def of_every_class() -> list[Door]:
    found = []
    for name, model_class in CLASSES.items():
        options = {"config": instance(NezhaConfig), "seed": SEED, "dtype": is_dtype}
        options["backend"] = one_of("numpy")
        found.append(
            Door(
                name,
                model_class,
                lambda w: {"config": CONFIG, "seed": 3, "dtype": "float32", "backend": "numpy"},
                options,
                ("config",),
            )
        )
        if name in LABELS:
            good, kinds = LABELS[name]
            found.append(
                Door(
                    f"{name}.__call__",
                    lambda _name=name, **o: World.model(None, _name)(**o),
                    lambda w, good=good: {
                        "input_ids": IDS,
                        "attention_mask": BATCH["attention_mask"],
                        **good,
                    },
                    SHARED | kinds,
                )
            )
    return found


def config(**values: Any) -> NezhaConfig:
    return NezhaConfig(**values)


def upstream(w: World, **fields: Any) -> Any:
    model = w.model()
    model(**BATCH, record=True).backward(**fields)
    return model.gradients()


DOORS = [
    *of_every_class(),
    Door(
        "NezhaConfig",
        config,
        lambda w: {
            n: getattr(CONFIG, n)
            for n in (
                "vocab_size",
                "hidden_size",
                "num_attention_heads",
                "num_hidden_layers",
                "hidden_act",
                "hidden_dropout_prob",
                "layer_norm_eps",
                "pad_token_id",
                "max_relative_position",
                "is_decoder",
                "initializer_range",
                "num_labels",
            )
        },
        {
            "vocab_size": integer(1),
            "hidden_size": integer(1),
            "num_attention_heads": integer(1),
            "num_hidden_layers": integer(1),
            "hidden_act": one_of(
                "gelu",
                "gelu_new",
                "relu",
                "tanh",
                "silu",
                "swish",
                "gelu_fast",
                "gelu_python",
                "gelu_pytorch_tanh",
                "quick_gelu",
                "sigmoid",
                "linear",
                "mish",
            ),
            "hidden_dropout_prob": number(0, 1),
            "layer_norm_eps": number(0),
            "pad_token_id": either(nothing, integer(-1)),
            "max_relative_position": integer(0),
            "is_decoder": is_flag,
            "initializer_range": number(0),
            "num_labels": integer(1),
        },
        open_keywords=True,
    ),
    Door(
        "NezhaConfig.replace",
        CONFIG.replace,
        lambda w: {"vocab_size": 12, "chunk_size_feed_forward": 2, "id2label": {0: "a", 1: "b"}},
        {
            "vocab_size": integer(1),
            "chunk_size_feed_forward": integer(0),
            "id2label": either(nothing, lambda v: isinstance(v, dict) and len(v) > 0),
        },
        open_keywords=True,
    ),
    Door(
        "NezhaConfig.from_dict",
        NezhaConfig.from_dict,
        lambda w: {"values": CONFIG.to_dict()},
        {"values": lambda v: isinstance(v, dict)},
        ("values",),
    ),
    Door(
        "NezhaConfig.from_pretrained",
        NezhaConfig.from_pretrained,
        lambda w: {"folder": w.model_folder, "subfolder": ""},
        {"folder": path, "subfolder": either(nothing, lambda v: isinstance(v, str))},
        ("folder",),
    ),
    Door(
        "NezhaConfig.to_json_file",
        CONFIG.to_json_file,
        lambda w: {"path": w.target(), "use_diff": True},
        {"path": path, "use_diff": is_flag},
        ("path",),
    ),
    Door(
        "NezhaConfig.save_pretrained",
        CONFIG.save_pretrained,
        lambda w: {"folder": w.target()},
        {"folder": path},
        ("folder",),
    ),
    Door(
        "train",
        lambda w, **o: w.model().train(**o) and None,
        lambda w: {"w": w, "seed": 1},
        {"seed": SEED},
    ),
    Door(
        "astype",
        lambda w, **o: w.model().astype(**o),
        lambda w: {"w": w, "dtype": "float64"},
        {"dtype": is_dtype},
        ("dtype",),
    ),
    Door(
        "num_parameters",
        lambda w, **o: w.model().num_parameters(**o),
        lambda w: {"w": w, "exclude_embeddings": True},
        {"exclude_embeddings": is_flag},
    ),
    Door(
        "load_state_dict",
        lambda w, **o: w.model(seed=7).load_state_dict(**o),
        lambda w: {"w": w, "arrays": w.parameters(), "strict": True},
        {"arrays": arrays(SHAPES), "strict": FLAG},
        ("arrays",),
    ),
    Door(
        "resize_token_embeddings",
        lambda w, **o: w.model().resize_token_embeddings(**o),
        lambda w: {"w": w, "new_num_tokens": 13, "pad_to_multiple_of": 4, "seed": 0},
        {
            "new_num_tokens": either(nothing, integer(1)),
            "pad_to_multiple_of": either(nothing, integer(1)),
            "seed": SEED,
        },
    ),
    Door(
        "prune_heads",
        lambda w, **o: w.model().prune_heads(**o),
        lambda w: {"w": w, "heads_to_prune": {0: [1]}},
        {"heads_to_prune": heads},
        ("heads_to_prune",),
    ),
    Door(
        "set_input_embeddings",
        lambda w, **o: w.model().set_input_embeddings(**o),
        lambda w: {"w": w, "value": np.ones((V, D))},
        {"value": floats((V, D), -3.5e38, 3.5e38)},
        ("value",),
    ),
    Door(
        "set_output_embeddings",
        lambda w, **o: w.model().set_output_embeddings(**o),
        lambda w: {"w": w, "value": np.ones((V, D))},
        {"value": floats((V, D), -3.5e38, 3.5e38)},
        ("value",),
    ),
    Door(
        "backward",
        upstream,
        lambda w: {"w": w, "loss": 1.0, "prediction_logits": np.ones((B, L, V))},
        {
            "loss": either(nothing, number(-3.5e38, 3.5e38), floats((), -3.5e38, 3.5e38)),
            "prediction_logits": either(nothing, floats((B, L, V), -1e30, 1e30)),
        },
    ),
    Door(
        "generate",
        lambda w, **o: NezhaForMaskedLM(CONFIG.replace(is_decoder=True)).generate(**o),
        lambda w: {
            "w": w,
            "input_ids": IDS[:1, :3],
            "max_new_tokens": 2,
            "do_sample": True,
            "temperature": 0.5,
            "top_k": 3,
            "top_p": 0.9,
            "eos_token_id": 3,
            "seed": 0,
            "use_cache": True,
        },
        {
            "input_ids": integers((None, None), 0, V),
            "max_new_tokens": integer(0, 10**4),
            "do_sample": is_flag,
            "temperature": number(0, above=True),
            "top_k": either(nothing, integer(1)),
            "top_p": either(nothing, number(0, 1, above=True)),
            "eos_token_id": either(nothing, integer(-1, V - 1)),
            "seed": SEED,
            "use_cache": is_flag,
        },
        ("input_ids",),
    ),
    Door(
        "save_pretrained",
        lambda w, **o: w.model().save_pretrained(**o),
        lambda w: {"w": w, "folder": w.target(), "tokenizer": w.tokenizer},
        {"folder": path, "tokenizer": either(nothing, instance(NezhaTokenizer))},
        ("folder",),
    ),
    Door(
        "from_pretrained",
        CLASSES["NezhaForMaskedLM"].from_pretrained,
        lambda w: {
            "name": w.model_folder,
            "config": CONFIG,
            "dtype": "float64",
            "seed": 0,
            "subfolder": "",
            "revision": "main",
            "local_files_only": True,
            "token": None,
            "cache_dir": None,
            "ignore_mismatched_sizes": False,
            "output_loading_info": True,
        },
        {
            "name": path,
            "config": either(nothing, path, instance(NezhaConfig)),
            "dtype": either(nothing, is_dtype),
            "seed": SEED,
            "subfolder": either(nothing, lambda v: isinstance(v, str)),
            "revision": either(nothing, lambda v: isinstance(v, str)),
            "local_files_only": is_flag,
            "token": either(nothing, is_flag, lambda v: isinstance(v, str)),
            "cache_dir": either(nothing, path),
            "ignore_mismatched_sizes": FLAG,
            "output_loading_info": FLAG,
        },
        ("name",),
    ),
    Door("zero_grad", lambda w, **o: w.model().zero_grad(**o), lambda w: {"w": w}, {}),
]
