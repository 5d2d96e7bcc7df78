"""Overhearing a torch model: values and gradients of what its modules take and give.

A hook on a module sees what goes in and comes out. Scores and probabilities of attention do neither;
they are found by watching torch's own functions while an attention module runs: the probabilities
are what softmax returned, the scores are what it was given, before a mask was added.

An adapter says which module is which of our names and how to call the model; :func:`run` does the
rest. Parameters, their ``.grad`` and the model's mode stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from minizha.crosscheck.names import FLOAT_INPUTS, GRADIENT, WITHOUT_GRADIENT, WORDS, entry
from minizha.crosscheck.nesting import flat, nested
from minizha.crosscheck.tracing import default_upstream
from minizha.errors import ArgumentError, MinizhaError

try:
    import torch
    from torch.overrides import TorchFunctionMode
except ImportError as error:
    raise MinizhaError('this adapter needs torch: pip install "minizha[peers]"') from error

_IN_PLACE = {"add_", "__iadd__", "masked_fill_"}
_MASKING = {"add", "__add__", "__radd__", "masked_fill"} | _IN_PLACE


class TorchRecorder(TorchFunctionMode):
    """What was overheard while it is entered as a context: the value and the gradient of each name."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, list[np.ndarray]] = {}
        self._gradients: dict[tuple[str, int], np.ndarray] = {}
        self._handles: list[Any] = []
        self._inside: list[str] = []  # the attentions that are running, the innermost last
        self._masked: tuple[Any, ...] = (None,)  # the last sum that may be one of scores and mask

    def output(self, module: torch.nn.Module, name: str, which: int = 0) -> None:
        """``name`` is what ``module`` returns (the one at ``which``, where it returns several)."""

        def hook(_module: Any, _taken: Any, given: Any) -> None:
            self.keep(name, given[which] if isinstance(given, (tuple, list)) else given)

        self._handles.append(module.register_forward_hook(hook))

    def input(self, module: torch.nn.Module, name: str, argument: str | None = None) -> None:
        """``name`` is what ``module`` is given first, or as ``argument`` if it is given that."""

        def hook(_module: Any, taken: Any, named: Mapping[str, Any]) -> None:
            found = named.get(argument) if argument else taken[0]
            if found is not None:
                self.keep(name, found)

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def attention(self, module: torch.nn.Module, name: str) -> None:
        """While ``module`` runs, a softmax gives ``{name}.scores`` and ``{name}.probs``."""

        def leave(_module: Any, _taken: Any, _given: Any) -> None:
            self._inside.pop()

        self._handles.append(module.register_forward_pre_hook(lambda *_: self._inside.append(name)))
        self._handles.append(module.register_forward_hook(leave))

    def keep(self, name: str, tensor: torch.Tensor, values: np.ndarray | None = None) -> None:
        """Copy the values now, for a later operation may write over them; the gradient follows."""
        parts = self._values.setdefault(name, [])
        parts.append(array(tensor) if values is None else values)
        if tensor.requires_grad and not name.endswith(WITHOUT_GRADIENT):
            tensor.register_hook(partial(self._came_back, (name, len(parts) - 1)))

    def _came_back(self, part: tuple[str, int], gradient: torch.Tensor) -> None:
        self._gradients[part] = array(gradient)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        """See every function that the model calls, and what it returned."""
        named = function.__name__ if self._inside else ""
        scores = _scores(named, args) if named in _MASKING else None
        before = None if scores is None else array(scores)
        result = function(*args, **(kwargs or {}))
        if scores is not None:
            self._masked = (result, result if named in _IN_PLACE else scores, before)
        if named == "softmax":
            given = args[0] if args else kwargs["input"]
            masked = self._masked[1:] if self._masked[0] is given else (given,)
            self.keep(f"{self._inside[-1]}.scores", *masked)
            self.keep(f"{self._inside[-1]}.probs", result)
        return result

    def __exit__(self, *reason: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*reason)

    def values(self) -> dict[str, np.ndarray]:
        """In execution order; of a module called chunk by chunk, all chunks behind each other."""
        return {name: _joined(parts) for name, parts in self._values.items()}

    def gradients(self, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """In reverse order: each with the gradients of the parameters of its step behind it."""
        found: dict[str, np.ndarray] = {}
        for name, parts in reversed(self._values.items()):
            places = [(name, i) for i in range(len(parts))]
            if any(place in self._gradients for place in places):
                zeros = map(np.zeros_like, parts)  # of a chunk that nothing came back to
                found[name] = _joined(map(self._gradients.get, places, zeros))
            known = entry(name)
            prefix = name.removesuffix(known.name) if known.name else f"{name}."
            steps = [prefix + p for p in known.parameters if prefix + p in parameters]
            found |= {step: parameters[step] for step in steps}
        return {name + GRADIENT: gradient for name, gradient in found.items()}


def run(
    recorder: TorchRecorder,
    call: Callable[[dict[str, Any]], Mapping[str, Any]],
    inputs: Mapping[str, Any],
    parameters: Mapping[str, torch.Tensor],
    gradients: bool,
    upstream: Mapping[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Call the model, walk back, and return what the recorder heard, in execution order.

    ``call`` takes the inputs as tensors and returns output fields by our names. The way back starts
    from ``loss`` if there is one, or from ``upstream``, as :func:`~minizha.crosscheck.trace` has it.
    ``parameters`` are the model's by our names.

    Raises:
        ArgumentError: ``upstream`` is not of the names and shapes of output fields.
    """
    like = next(iter(parameters.values()))
    frozen = [p for p in parameters.values() if not p.requires_grad]
    try:
        with recorder, torch.enable_grad():
            # scores are told from a mask by whether they depend on parameters
            for parameter in frozen:
                parameter.requires_grad_(True)
            given = flat(inputs)
            given |= {n: tensor(x, like, n.startswith(FLOAT_INPUTS)) for n, x in given.items()}
            out = call(nested(given))
            fields = {name: value for name, value in out.items() if value is not None}
            if "loss" in fields:
                recorder.keep("loss", fields["loss"])
            if not gradients:
                return recorder.values()
            leaves = {n: x for n, x in given.items() if getattr(x, "requires_grad", False)}
            leaves |= parameters
            start = _start(fields, upstream, like)
            back = torch.autograd.grad(start, list(leaves.values()), allow_unused=True)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    slopes = {
        name: array(torch.zeros_like(x) if d is None else d)
        for (name, x), d in zip(leaves.items(), back, strict=True)
    }
    inner = {*parameters, "inputs_embeds"}  # whose gradient is that of word_embeddings
    last = {n + GRADIENT: slopes[n] for n in (WORDS, *(n for n in slopes if n not in inner))}
    return recorder.values() | recorder.gradients(slopes) | last


def cross_entropies(pairs: Iterable[tuple[torch.Tensor, Any]]) -> torch.Tensor | None:
    """The sum of the mean cross-entropies of (logits, labels), where there are labels."""
    losses = [
        torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        for logits, labels in pairs
        if labels is not None
    ]
    return sum(losses) if losses else None


def array(tensor: torch.Tensor) -> np.ndarray:
    """A copy of the values; bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def tensor(value: Any, like: torch.Tensor, leaf: bool = False) -> Any:
    """An array as a tensor beside ``like``: in its dtype, or of int64; others as they are."""
    if value is None or isinstance(value, bool):
        return value
    found = torch.from_numpy(np.array(value, order="C")).to(like.device)
    return found.to(like.dtype).requires_grad_(leaf) if found.is_floating_point() else found.long()


def _start(fields: Mapping[str, Any], upstream: Any, like: torch.Tensor) -> torch.Tensor:
    """The number whose gradients are asked for: the loss, or Σ field · upstream."""
    if upstream is None and "loss" in fields:
        return fields["loss"]
    found, start = flat(fields), 0.0
    shapes = {name: tuple(x.shape) for name, x in found.items() if isinstance(x, torch.Tensor)}
    asked = flat(default_upstream(shapes) if upstream is None else upstream)
    for name, d in asked.items():
        if d is None:
            continue
        if shapes.get(name) != np.shape(d):
            there = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
            raise ArgumentError(f"upstream: expected any of {there}; found {name} {np.shape(d)}")
        start = start + (found[name] * tensor(d, like)).sum()
    return start


def _scores(named: str, args: Any) -> torch.Tensor | None:
    """The operand that may be scores: the one that depends on parameters; None where both do."""
    if named.startswith("masked_fill"):
        return args[0]
    live = [a for a in args[:2] if isinstance(a, torch.Tensor) and a.requires_grad]
    return live[0] if len(live) == 1 and live[0].ndim == 4 else None


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    first, *more = parts
    return np.concatenate((first, *more), axis=1) if more else first
