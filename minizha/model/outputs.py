"""The outputs of a model: fields by name, key or index, and the backward pass from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from minizha.backend import Array
from minizha.errors import ArgumentError, MinizhaError
from minizha.nezha.encoder import NezhaResult


class ReturnedGradients(dict[str, Any]):
    """What ``backward`` returns: the gradients of the float inputs that were given, by name.

    ``hidden_states`` holds those of the hidden states, if they are fields of the output: one array
    for each, of its shape. ``gradients["hidden_states"]`` is the same. They are no items of the
    dictionary, since the hidden states are no inputs.
    """

    def __init__(
        self, inputs: dict[str, Any], hidden_states: tuple[Array, ...] | None = None
    ) -> None:
        super().__init__(inputs)
        self.hidden_states = hidden_states

    def __missing__(self, name: str) -> Any:
        if name == "hidden_states" and self.hidden_states is not None:
            return self.hidden_states
        raise KeyError(name)


class Deferred:
    """A field that is computed when it is first read, and then stored."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self._compute: Callable[[], Any] | None = compute
        self._value: Any = None

    def value(self) -> Any:
        """The field, computed on first use."""
        if self._compute is not None:
            self._value = self._compute()
            self._compute = None
        return self._value


class FreedWhenRead(list):
    """Caches of layers for a single backward pass: each is given up when it is read, so that the gradients
    take the memory of the activations. At its end, a training step has no more than the gradients."""

    def __getitem__(self, i: Any) -> Any:
        cache = super().__getitem__(i)
        if cache is None:
            raise MinizhaError(
                "backward: a replica's activations serve one backward pass; call it again"
            )
        self[i] = None
        return cache


class ModelOutput:
    """The fields of one forward pass; those that were not requested are None and have no index.

    ``out.loss``, ``out["loss"]`` and ``out[0]`` are the same array; ``out.to_tuple()`` has the
    fields that are not None, in order. ``record`` is the tree of activations that the backward
    pass needs, or None. Fields and record share arrays: copy an array before changing it.
    """

    fields: tuple[str, ...] = ()

    def __init__(
        self,
        values: dict[str, Any],
        record: Any = None,
        backward: Callable[[dict[str, Any]], ReturnedGradients] | None = None,
    ) -> None:
        self._values = {name: values[name] for name in self.fields if values.get(name) is not None}
        self._backward = backward
        self.record = record

    def backward(self, **upstream: Any) -> ReturnedGradients:
        """Add to the model's gradients those of ``Σ ⟨upstream[f], out[f]⟩``, or of the loss.

        Without arguments this starts from the loss. Each argument names a float field and is its
        upstream gradient, of the field's shape; ``hidden_states``, ``attentions`` and
        ``cross_attentions`` take a sequence, ``past_key_values`` a sequence of sequences, with None
        for 0.

        Returns:
            The gradients of the float inputs that were given, of their shapes: ``inputs_embeds``,
            ``encoder_hidden_states``, ``past_key_values``, ``head_mask``. If the output has hidden
            states, ``hidden_states`` holds their gradients (:class:`ReturnedGradients`).

        Raises:
            MinizhaError: nothing was recorded, or there is no loss to start from.
            ArgumentError: a field is unknown, or a gradient has the wrong shape.
        """
        if self._backward is None:
            raise MinizhaError(
                "backward: nothing was recorded; call the model with labels, in train mode, or "
                "with record=True"
            )
        for name in upstream:
            if name not in self._values:
                fields = ", ".join(self.keys())
                raise ArgumentError(
                    f"backward: {name!r} is no field of this output, which has {fields}"
                )
        if not upstream:
            if "loss" not in self._values:
                raise MinizhaError(
                    "backward: there is no loss to start from; pass labels to the model, or "
                    "upstream gradients to backward"
                )
            upstream = {"loss": 1.0}
        return self._backward(upstream)

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(self.values())

    def keys(self) -> tuple[str, ...]:
        """The names of the fields that are not None, in order."""
        return tuple(self._values)

    def values(self) -> tuple[Any, ...]:
        """The fields that are not None, in order."""
        return tuple(self[name] for name in self._values)

    def items(self) -> tuple[tuple[str, Any], ...]:
        """Name and value of each field that is not None."""
        return tuple(zip(self.keys(), self.values(), strict=True))

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            value = self._values[key]
            return value.value() if isinstance(value, Deferred) else value
        names = tuple(self._values)[key]  # names first: out[0] must not compute all the logits
        return self[names] if isinstance(names, str) else tuple(self[name] for name in names)

    def __getattr__(self, name: str) -> Any:
        # called only for names that are not ordinary attributes
        if name in type(self).fields:
            return self[name] if name in self._values else None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __repr__(self) -> str:
        shapes = (
            f"{name}={'computed when read' if isinstance(v, Deferred) else _describe(v)}"
            for name, v in self._values.items()
        )
        return f"{type(self).__name__}({', '.join(shapes)})"


class BaseModelOutput(ModelOutput):
    """NezhaModel: last_hidden_state (B, L, D); pooler_output (B, D) unless built without pooler;
    hidden_states, layers + 1 times (B, L, D); past_key_values, for each layer two times (B, N, P+L, d)
    and with cross-attention two times (B, N, S, d); attentions, layers times (B, N, L, P+L);
    cross_attentions, layers times (B, N, L, S)."""

    fields = NezhaResult._fields  # those of the docstring, in its order


class PreTrainingOutput(ModelOutput):
    """NezhaForPreTraining: loss (), prediction_logits (B, L, V), seq_relationship_logits (B, 2),
    hidden_states, attentions. Column 0 of seq_relationship_logits says "B follows A"."""

    fields = ("loss", "prediction_logits", "seq_relationship_logits", "hidden_states", "attentions")


class MaskedLMOutput(ModelOutput):
    """NezhaForMaskedLM: loss (), logits (B, L, V), hidden_states, attentions; past_key_values if
    a decoder was called with ``use_cache=True``."""

    fields = ("loss", "logits", "hidden_states", "attentions", "past_key_values")


class NextSentencePredictorOutput(ModelOutput):
    """NezhaForNextSentencePrediction: loss (), logits (B, 2), hidden_states, attentions."""

    fields = ("loss", "logits", "hidden_states", "attentions")


class SequenceClassifierOutput(ModelOutput):
    """NezhaForSequenceClassification: loss (), logits (B, num_labels), hidden_states, attentions."""

    fields = ("loss", "logits", "hidden_states", "attentions")


class MultipleChoiceOutput(ModelOutput):
    """NezhaForMultipleChoice: loss (), logits (B, C) for C choices; hidden_states and attentions of
    B·C rows."""

    fields = ("loss", "logits", "hidden_states", "attentions")


class TokenClassifierOutput(ModelOutput):
    """NezhaForTokenClassification: loss (), logits (B, L, num_labels), hidden_states, attentions."""

    fields = ("loss", "logits", "hidden_states", "attentions")


class QuestionAnsweringOutput(ModelOutput):
    """NezhaForQuestionAnswering: loss (), start_logits (B, L), end_logits (B, L), hidden_states,
    attentions."""

    fields = ("loss", "start_logits", "end_logits", "hidden_states", "attentions")


def _describe(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{len(value)} arrays"
    return str(tuple(value.shape))
