"""Records a torch model: values and gradients of the inputs and outputs of its modules.

Hooks record the inputs and outputs of modules. The scores and probabilities of attention are neither;
they are recorded by intercepting torch's functions while an attention module runs: the probabilities
are the result of softmax, the scores are its argument before the mask is added.

An adapter says which module has which of our names and how to call the model; :func:`run` does the
rest. Parameters, their ``.grad`` and the model's mode are left unchanged.
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
    """Records, while it is entered as a context, the value and the gradient of each name."""

    def __init__(self) -> None:
        super().__init__()
        self._values: dict[str, list[np.ndarray]] = {}
        self._gradients: dict[tuple[str, int], np.ndarray] = {}
        self._handles: list[Any] = []
        self._running: list[str] = []  # the attentions that are running, the innermost last
        self._masked: tuple[Any, ...] = (None,)  # the last sum that may be scores + mask

    def output(self, module: torch.nn.Module, name: str, which: int = 0) -> None:
        """``name`` is the output of ``module`` (output number ``which`` if it has several)."""

        def hook(_module: Any, _arguments: Any, out: Any) -> None:
            self.record(name, out[which] if isinstance(out, (tuple, list)) else out)

        self._handles.append(module.register_forward_hook(hook))

    def input(self, module: torch.nn.Module, name: str, argument: str | None = None) -> None:
        """``name`` is the first argument of ``module``, or its keyword argument ``argument`` if any."""

        def hook(_module: Any, positional: Any, keywords: Mapping[str, Any]) -> None:
            value = keywords.get(argument) if argument else positional[0]
            if value is not None:
                self.record(name, value)

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def attention(self, module: torch.nn.Module, name: str) -> None:
        """The softmax that runs inside ``module`` gives ``{name}.scores`` and ``{name}.probs``."""

        def leave(_module: Any, _arguments: Any, _out: Any) -> None:
            self._running.pop()

        self._handles.append(
            module.register_forward_pre_hook(lambda *_: self._running.append(name))
        )
        self._handles.append(module.register_forward_hook(leave))

    def record(self, name: str, tensor: torch.Tensor, values: np.ndarray | None = None) -> None:
        """Copy the values now, since a later operation may overwrite them; the gradient follows."""
        chunks = self._values.setdefault(name, [])
        chunks.append(array(tensor) if values is None else values)
        if tensor.requires_grad and not name.endswith(WITHOUT_GRADIENT):
            tensor.register_hook(partial(self._on_gradient, (name, len(chunks) - 1)))

    def _on_gradient(self, key: tuple[str, int], gradient: torch.Tensor) -> None:
        self._gradients[key] = array(gradient)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        """torch calls this in place of every function that the model calls."""
        called = function.__name__ if self._running else ""
        scores = _scores(called, args) if called in _MASKING else None
        values = None if scores is None else array(scores)
        result = function(*args, **(kwargs or {}))
        if scores is not None:
            self._masked = (result, result if called in _IN_PLACE else scores, values)
        if called == "softmax":
            argument = args[0] if args else kwargs["input"]
            unmasked = self._masked[1:] if self._masked[0] is argument else (argument,)
            self.record(f"{self._running[-1]}.scores", *unmasked)
            self.record(f"{self._running[-1]}.probs", result)
        return result

    def __exit__(self, *reason: Any) -> None:
        for handle in self._handles:
            handle.remove()
        super().__exit__(*reason)

    def values(self) -> dict[str, np.ndarray]:
        """The values in execution order; the chunks of a module that is called in chunks are joined."""
        return {name: _joined(parts) for name, parts in self._values.items()}

    def gradients(self, parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The gradients in reverse order, each followed by those of the parameters of its step."""
        gradients: dict[str, np.ndarray] = {}
        for name, chunks in reversed(self._values.items()):
            keys = [(name, i) for i in range(len(chunks))]
            if any(key in self._gradients for key in keys):
                zeros = map(np.zeros_like, chunks)  # for chunks without a gradient
                gradients[name] = _joined(map(self._gradients.get, keys, zeros))
            known = entry(name)
            prefix = name.removesuffix(known.name) if known.name else f"{name}."
            names = [prefix + p for p in known.parameters if prefix + p in parameters]
            gradients |= {n: parameters[n] for n in names}
        return {name + GRADIENT: gradient for name, gradient in gradients.items()}


def run(
    recorder: TorchRecorder,
    call: Callable[[dict[str, Any]], Mapping[str, Any]],
    inputs: Mapping[str, Any],
    parameters: Mapping[str, torch.Tensor],
    gradients: bool,
    upstream: Mapping[str, Any] | None,
) -> dict[str, np.ndarray]:
    """Run the model forward and backward, and return the recorded arrays in execution order.

    ``call`` takes the inputs as tensors and returns the output fields under our names. The backward
    pass starts from ``loss`` or from ``upstream``, as in :func:`~minizha.crosscheck.trace`.
    ``parameters`` are the model's, under our names.

    Raises:
        ArgumentError: ``upstream`` does not fit the names and shapes of the output fields.
    """
    like = next(iter(parameters.values()))
    frozen = [p for p in parameters.values() if not p.requires_grad]
    try:
        with recorder, torch.enable_grad():
            # scores, unlike a mask, depend on parameters, so requires_grad tells them apart
            for parameter in frozen:
                parameter.requires_grad_(True)
            arguments = flat(inputs)
            arguments |= {
                n: tensor(x, like, n.startswith(FLOAT_INPUTS)) for n, x in arguments.items()
            }
            out = call(nested(arguments))
            fields = {name: value for name, value in out.items() if value is not None}
            if "loss" in fields:
                recorder.record("loss", fields["loss"])
            if not gradients:
                return recorder.values()
            leaves = {n: x for n, x in arguments.items() if getattr(x, "requires_grad", False)}
            leaves |= parameters
            start = _start(fields, upstream, like)
            found = torch.autograd.grad(start, list(leaves.values()), allow_unused=True)
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    leaf_gradients = {
        name: array(torch.zeros_like(x) if d is None else d)
        for (name, x), d in zip(leaves.items(), found, strict=True)
    }
    # that of inputs_embeds is recorded as that of word_embeddings
    inputs_last = [n for n in leaf_gradients if n not in {*parameters, "inputs_embeds"}]
    last = {n + GRADIENT: leaf_gradients[n] for n in (WORDS, *inputs_last)}
    return recorder.values() | recorder.gradients(leaf_gradients) | last


def cross_entropies(pairs: Iterable[tuple[torch.Tensor, Any]]) -> torch.Tensor | None:
    """The sum of the mean cross-entropies of the pairs (logits, labels) with labels; None without any."""
    losses = [
        torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))
        for logits, labels in pairs
        if labels is not None
    ]
    return sum(losses) if losses else None


def array(tensor: torch.Tensor) -> np.ndarray:
    """A copy of the values; those of bfloat16, which NumPy lacks, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()


def tensor(value: Any, like: torch.Tensor, leaf: bool = False) -> Any:
    """An array as a tensor on the device of ``like``, floats in its dtype, integers as int64; None
    and flags unchanged."""
    if value is None or isinstance(value, bool):
        return value
    result = torch.from_numpy(np.array(value, order="C")).to(like.device)
    return (
        result.to(like.dtype).requires_grad_(leaf) if result.is_floating_point() else result.long()
    )


def _start(fields: Mapping[str, Any], upstream: Any, like: torch.Tensor) -> torch.Tensor:
    """The scalar that the backward pass starts from: the loss, or Σ field · upstream."""
    if upstream is None and "loss" in fields:
        return fields["loss"]
    outputs, start = flat(fields), 0.0
    shapes = {name: tuple(x.shape) for name, x in outputs.items() if isinstance(x, torch.Tensor)}
    upstream = flat(default_upstream(shapes) if upstream is None else upstream)
    for name, d in upstream.items():
        if d is None:
            continue
        if shapes.get(name) != np.shape(d):
            expected = ", ".join(f"{field} {shape}" for field, shape in shapes.items())
            raise ArgumentError(f"upstream: expected any of {expected}; found {name} {np.shape(d)}")
        start = start + (outputs[name] * tensor(d, like)).sum()
    return start


def _scores(function: str, args: Any) -> torch.Tensor | None:
    """The operand that may be scores: the one that depends on parameters; None if both do."""
    if function.startswith("masked_fill"):
        return args[0]
    with_grad = [a for a in args[:2] if isinstance(a, torch.Tensor) and a.requires_grad]
    return with_grad[0] if len(with_grad) == 1 and with_grad[0].ndim == 4 else None


def _joined(chunks: Iterable[np.ndarray]) -> np.ndarray:
    first, *others = chunks
    return np.concatenate((first, *others), axis=1) if others else first
