"""NezhaConfig: the sizes and choices of a model, under Transformers' names and with its defaults."""

from __future__ import annotations

import difflib
import json
import operator
import os
import reprlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from os import PathLike
from typing import Any, ClassVar

from minizha.checks import flag
from minizha.config_checks import CHECKS, KEYS_ELSEWHERE, index
from minizha.config_files import CONFIG_NAME, LARGEST_CONFIG, config_path, nezha_values
from minizha.errors import ArgumentError, FileError
from minizha.files import (
    folder_path,
    inner_folder,
    make_folder,
    read_json_object,
    write_atomic,
)
from minizha.transformers_options import LOADING, SAVING, refuse_unknown, take

MODEL_TYPE = "nezha"
_DOWNLOADING = ("revision", "cache_dir", "local_files_only", "token")


@dataclass(frozen=True, init=False, eq=True)
class NezhaConfig:
    """The configuration of every Nezha model; frozen, and checked when it is made.

    Sizes are counts (of tokens, features, heads, layers); dropouts are probabilities in [0, 1);
    ``layer_norm_eps`` is added to a variance. Keys that are not fields, such as those that old
    exports carry, are kept, read as attributes, and written again by :meth:`to_json`. A UserWarning
    names those that neither Transformers nor published NEZHA configurations have: a typing error
    would change nothing, in silence. Files and :meth:`from_dict` may have any key.

    Raises:
        ArgumentError: any value is of the wrong type or out of range. All faults are named.

    Source: NezhaConfig and PretrainedConfig of the Transformers 4.37 documentation.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    vocab_size: int = 21128
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    max_relative_position: int = 64
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout: float | None = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | None = 3
    use_cache: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False
    tie_word_embeddings: bool = True
    chunk_size_feed_forward: int = 0
    pruned_heads: dict = field(default_factory=dict)
    num_labels: int = 2
    id2label: dict | None = None
    label2id: dict | None = None
    problem_type: str | None = None
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True
    extra: dict = field(default_factory=dict)

    def __init__(self, /, **values: Any) -> None:
        self._warn_of_unknown(values)
        self._set(values)

    def _set(self, values: dict[str, Any]) -> None:
        faults: list[str] = []
        model_type = values.pop("model_type", None)
        if model_type not in (None, MODEL_TYPE):
            faults.append(
                f"model_type: expected {MODEL_TYPE!r}, found {reprlib.repr(model_type)}; another "
                "architecture's weights would load into the wrong parameters"
            )
        known = {f.name: f for f in fields(self) if f.name != "extra"}
        extra = {name: value for name, value in values.items() if name not in known}
        field_values = {name: value for name, value in values.items() if name in known}
        for name, f in known.items():
            default = f.default_factory() if callable(f.default_factory) else f.default
            value = field_values.get(name, default)
            try:
                value = CHECKS[name](name, value)
            except ArgumentError as error:
                faults.append(str(error))
            object.__setattr__(self, name, value)
        object.__setattr__(self, "extra", extra)
        if not faults:
            self._resolve_labels(faults, num_labels=field_values.get("num_labels"))
            self._resolve_pruned_heads(faults)
            self._check_together(faults)
        if faults:
            raise ArgumentError("NezhaConfig: " + "; ".join(faults))

    def __getattr__(self, name: str) -> Any:
        # Python calls this only for names that are not fields
        extra = self.__dict__.get("extra", {})
        if name in extra:
            return extra[name]
        raise AttributeError(f"NezhaConfig has no key {name!r}")

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_dict(), sort_keys=True, default=str))

    @property
    def head_size(self) -> int:
        """The features of one head, ``hidden_size / num_attention_heads``."""
        return self.hidden_size // self.num_attention_heads

    @property
    def padding_row(self) -> int | None:
        """The row of the word embeddings that is the padding token's; None without such a token
        (``pad_token_id`` None or −1, which is never an index)."""
        return None if self.pad_token_id in (None, -1) else self.pad_token_id

    def num_unpruned_heads(self, layer: int) -> int:
        """How many heads of a layer's self-attention were not pruned."""
        return self.num_attention_heads - len(self.pruned_heads.get(layer, ()))

    def unpruned_heads(self, layer: int) -> tuple[int, ...]:
        """The heads of a layer's self-attention that were not pruned, by their original numbers."""
        pruned = self.pruned_heads.get(layer, ())
        return tuple(head for head in range(self.num_attention_heads) if head not in pruned)

    def replace(self, **changes: Any) -> NezhaConfig:
        """A copy with some values changed; it is checked anew.

        A UserWarning names changes of unknown keys, as for a new configuration.
        """
        self._warn_of_unknown({n: v for n, v in changes.items() if n not in self.extra})
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        if "num_labels" in changes or "id2label" in changes:  # each determines the other
            for name in ("num_labels", "id2label", "label2id"):
                del values[name]
        return NezhaConfig.from_dict(values | self.extra | changes)

    def to_dict(self) -> dict[str, Any]:
        """Every field and every unknown key, ready for JSON."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return self.extra | values | {"model_type": MODEL_TYPE}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NezhaConfig:
        """The configuration with these ``values``; unknown keys are kept without a warning.

        Raises:
            ArgumentError: a value is bad, or ``model_type`` names another architecture.
        """
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise ArgumentError(
                f"NezhaConfig: expected a mapping with names as keys, found {reprlib.repr(values)}"
            )
        config = cls.__new__(cls)
        config._set(dict(values))
        return config

    @classmethod
    def from_pretrained(
        cls, folder: str | PathLike[str], *, subfolder: str | None = "", **options: Any
    ) -> NezhaConfig:
        """Read ``config.json`` in ``folder``, or in a ``subfolder`` of it; without it
        ``bert_config.json``, as Huawei calls it.

        ``options`` are values to change, and those of Transformers
        (:data:`~minizha.transformers_options.LOADING`). Those that concern downloads, such as
        ``revision``, change nothing: only folders are read.

        Raises:
            FileError: the file is missing, is not a JSON object, or is not a valid configuration.
            ArgumentError: an option is invalid.
        """
        names = [f.name for f in fields(cls) if f.name != "extra" and f.name in options]
        changes = {name: options.pop(name) for name in names}
        take(LOADING, options)
        unknown = {n: v for n, v in options.items() if n not in _DOWNLOADING}
        refuse_unknown("NezhaConfig.from_pretrained", unknown)
        path = inner_folder(folder, subfolder)
        if os.path.isfile(path):
            raise FileError(
                f"{path}: expected a folder with {CONFIG_NAME}, found a file "
                "(NezhaConfig.from_json_file reads one)"
            )
        config = cls.from_json_file(config_path(path))
        return config.replace(**changes) if changes else config

    @classmethod
    def from_json_file(cls, path: str | PathLike[str]) -> NezhaConfig:
        """Read a JSON file, as :meth:`to_json_file` writes it.

        Raises:
            FileError: the file is missing, is not a JSON object, or is not a valid configuration.
        """
        path = folder_path(path, "path")
        try:
            return cls.from_dict(nezha_values(read_json_object(path, LARGEST_CONFIG), path))
        except ArgumentError as error:
            raise FileError(f"{path}: {error}") from error

    def to_json(self, **additional: Any) -> str:
        """The text of ``config.json``, with ``additional`` keys."""
        return _json(self.to_dict() | additional)

    def to_json_string(self, use_diff: bool = True) -> str:
        """The configuration as JSON; with ``use_diff`` without the values that are the default.

        Raises:
            ArgumentError: a value can't be written as JSON.
        """
        if not flag("use_diff", use_diff):
            return self.to_json()
        defaults = NezhaConfig().to_dict()
        values = {n: v for n, v in self.to_dict().items() if n not in defaults or v != defaults[n]}
        return _json(values | {"model_type": MODEL_TYPE})

    def to_json_file(self, path: str | PathLike[str], use_diff: bool = True) -> None:
        """Write :meth:`to_json_string` into a file.

        Raises:
            FileError: the file can't be written.
        """
        write_atomic(folder_path(path, "path"), self.to_json_string(use_diff).encode("utf-8"))

    def save_pretrained(self, folder: str | PathLike[str], **options: Any) -> None:
        """Write ``config.json``, with all values, into ``folder`` (made if it is missing).

        ``options`` are those of Transformers (:data:`~minizha.transformers_options.SAVING`).

        Raises:
            FileError: the folder or the file can't be written.
            ArgumentError: an option asks for something else; the message says what to use.
        """
        meant = take(SAVING, options)
        refuse_unknown("NezhaConfig.save_pretrained", options)
        if not flag("is_main_process", meant.get("is_main_process", True)):
            return
        folder = folder_path(folder)
        make_folder(folder)
        write_atomic(folder / CONFIG_NAME, self.to_json().encode("utf-8"))

    @classmethod
    def _warn_of_unknown(cls, values: dict[str, Any]) -> None:
        known = [f.name for f in fields(cls) if f.name != "extra"]
        for name in values:
            if name in known or name in KEYS_ELSEWHERE:
                continue
            near = difflib.get_close_matches(name, known, 1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            warnings.warn(
                f"NezhaConfig: {reprlib.repr(name)} is no field and changes nothing; it is kept"
                f"{hint}",
                stacklevel=3,
            )

    def _resolve_labels(self, faults: list[str], num_labels: int | None) -> None:
        if self.id2label is None:
            names = {i: f"LABEL_{i}" for i in range(self.num_labels)}
        else:
            try:
                names = {index(i): str(label) for i, label in self.id2label.items()}
            except (ValueError, TypeError):
                names = {}
            if sorted(names) != list(range(len(self.id2label))) or not names:
                found = reprlib.repr(self.id2label)
                faults.append(f"id2label: expected a label for each of 0, 1, 2, …, found {found}")
                return
            try:
                CHECKS["num_labels"]("id2label: number of labels", len(names))
            except ArgumentError as error:
                faults.append(str(error))
                return
            if num_labels is not None and num_labels != len(names):
                faults.append(
                    f"num_labels: expected {len(names)}, the number of entries of id2label, "
                    f"found {self.num_labels}"
                )
        object.__setattr__(self, "id2label", names)
        object.__setattr__(self, "num_labels", len(names))
        if self.label2id is None:
            object.__setattr__(self, "label2id", {label: i for i, label in names.items()})

    def _resolve_pruned_heads(self, faults: list[str]) -> None:
        layers, heads = self.num_hidden_layers, self.num_attention_heads
        heads_of: dict[int, set[int]] = {}
        for key, value in self.pruned_heads.items():
            try:
                layer, pruned = index(key), {operator.index(head) for head in value}
                if any(isinstance(head, bool) for head in value):
                    raise TypeError("a bool")
            except (TypeError, ValueError):
                layer, pruned = layers, set()
            if not -layers <= layer < layers or not all(0 <= head < heads for head in pruned):
                faults.append(
                    f"pruned_heads: expected heads in [0, {heads}) for layers in [{-layers}, {layers}), "
                    f"found {reprlib.repr(key)}: {reprlib.repr(value)}"
                )
                return
            heads_of[layer % layers] = heads_of.get(layer % layers, set()) | pruned
        for layer, pruned in heads_of.items():
            if len(pruned) == heads:
                faults.append(
                    f"pruned_heads: expected at least one head left in each layer, found all {heads} "
                    f"of layer {layer} pruned"
                )
        values = {layer: sorted(pruned) for layer, pruned in sorted(heads_of.items()) if pruned}
        object.__setattr__(self, "pruned_heads", values)

    def _check_together(self, faults: list[str]) -> None:
        hidden, heads = self.hidden_size, self.num_attention_heads
        if hidden % heads:
            faults.append(
                f"hidden_size: expected a multiple of num_attention_heads = {heads}, found {hidden}"
            )
        elif self.head_size % 2:
            faults.append(
                "hidden_size / num_attention_heads: expected an even head size (sines and cosines "
                f"alternate in the relative positions), found {self.head_size}"
            )
        pad = self.pad_token_id
        if pad is not None and pad >= self.vocab_size:
            faults.append(
                f"pad_token_id: expected less than vocab_size = {self.vocab_size}, found {pad}"
            )
        if self.add_cross_attention and not self.is_decoder:
            faults.append(
                "is_decoder: expected True where add_cross_attention is True, found False"
            )


def _json(values: dict[str, Any]) -> str:
    try:
        return json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"NezhaConfig: a value can't be written as JSON: {error}") from error
