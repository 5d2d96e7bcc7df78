"""The call of a model, from its arguments to its output and its backward pass, for all classes.

The ``__call__`` of a class consists of its signature, its documentation and its tasks::

    @shared_arguments
    def __call__(self, shared, labels=None):
        call = begin(self, shared, labelled=labels is not None)     # check
        labels = call.labels("labels", labels, call.shape, below=2)
        return run(call, Output, Task(task, task_backward, …))      # body, tasks, loss, output
"""

from __future__ import annotations

import difflib
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from minizha.backend import Array
from minizha.checks import flag, integer
from minizha.errors import ArgumentError, MinizhaError
from minizha.kernels.cores import keep_freed_memory
from minizha.model.arguments import ArgumentChecker
from minizha.model.input_gradients import hidden_gradients, input_gradients
from minizha.model.inputs import TEXT, DecoderArguments, SharedArguments, read_inputs
from minizha.model.outputs import Deferred, FreedWhenRead, ModelOutput, ReturnedGradients
from minizha.model.rows import nezha_by_rows, number_of_parts
from minizha.nezha.body import Inputs, NezhaCache, nezha, nezha_backward
from minizha.nezha.encoder import NezhaResult, Wanted
from minizha.nezha.losses import Labels, Scores
from minizha.nezha.parameters import Tree, add, tree_map
from minizha.ops.operation import WATCHER
from minizha.ops.replaceable import Needed, caches_needed_for

Output = TypeVar("Output", bound=ModelOutput)

# --- the signature --------------------------------------------------------------------------------

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
_TEXT = [inspect.Parameter(name, _POSITIONAL, default=None, annotation="Any") for name in TEXT]
_OPTIONS = [
    inspect.Parameter(name, _KEYWORD, default=None, annotation="bool | None")
    for name in SharedArguments._fields
    if name not in TEXT
]


def shared_arguments(method: Callable[..., Output | tuple]) -> Callable[..., Output]:
    """Make ``method(self, shared, …)`` a ``__call__`` that lists the shared arguments by name. First
    come those that describe the text, then the method's positional ones; the method's keyword-only
    ones and the options are keyword-only. For a type checker the result is always the output, whose
    fields it knows; it can't see that ``return_dict=False`` makes it a tuple."""
    self_, _, *others = inspect.signature(method).parameters.values()
    positional = [parameter for parameter in others if parameter.kind is _POSITIONAL]
    keyword = [parameter for parameter in others if parameter.kind is _KEYWORD]
    signature = inspect.signature(method).replace(
        parameters=[self_, *_TEXT, *positional, *keyword, *_OPTIONS]
    )

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        try:
            bound = signature.bind(self, *arguments, **options).arguments
        except TypeError as error:
            text = _with_suggestion(type(self).__name__, signature, options, error)
            raise TypeError(text) from None
        del bound["self"]
        shared = {name: bound.pop(name) for name in SharedArguments._fields if name in bound}
        return method(self, SharedArguments(**shared), **bound)

    call.__signature__ = signature  # type: ignore[attr-defined]  # functions may have it
    call.__annotations__ = {n: p.annotation for n, p in list(signature.parameters.items())[1:]}
    call.__annotations__["return"] = signature.return_annotation
    return call


def _with_suggestion(
    name: str, signature: inspect.Signature, options: dict[str, Any], error: TypeError
) -> str:
    """Python's message, and for an unknown keyword the nearest known one."""
    known = list(signature.parameters)[1:]
    unknown = next((option for option in options if option not in known), None)
    near = difflib.get_close_matches(unknown or "", known, 1)
    return f"{name}: {error}" + (f"; did you mean {near[0]!r}?" if near else "")


_MOST_ITEMS = 2**63 - 1  # the largest of int64

# --- the call -------------------------------------------------------------------------------------


class Task(NamedTuple):
    """A task of :mod:`minizha.nezha.losses`: the pair, its labels, the field of the body's result
    that it reads, and the output fields of its logits."""

    forward: Callable[..., tuple[Scores, Any]]
    backward: Callable[[Scores, Any, Tree], Array]
    labels: Any
    reads: str = "last_hidden_state"
    fields: tuple[str, ...] = ("logits",)


class ModelCache(NamedTuple):
    """The record of a call: the cache of the body, and each task's cache and loss."""

    nezha: NezhaCache
    tasks: tuple[Any, ...]
    losses: tuple[Array | None, ...]


class Call(NamedTuple):
    """The checked arguments of a call. ``batch`` holds the leading axes of the caller's arrays: (B,),
    or in multiple choice (B, C), where the body reads B·C rows; ``head_mask`` is its shape. ``needed``
    says for what its operations' caches are needed."""

    model: Any
    checker: ArgumentChecker
    inputs: Inputs
    wanted: Wanted
    needed: Needed
    hidden_states: bool
    return_dict: bool
    batch: tuple[int, ...]
    head_mask: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """``(B, L)``."""
        return self.inputs.token_type_ids.shape

    def labels(
        self, name: str, value: Any, shape: tuple[int, ...], below: int, count: int | None = None
    ) -> Labels | None:
        """Class numbers of ``shape`` in [0, below) or −100; None for None."""
        if value is None:
            return None
        return Labels(self.checker.host_integers(name, value, shape, below, ignored=True), count)


def begin(
    model: Any,
    shared: SharedArguments,
    decoder: DecoderArguments = DecoderArguments(),
    *,
    labelled: bool = False,
    batch: tuple[int, ...] | None = None,
) -> Call:
    """Check the arguments.

    Raises:
        ArgumentError: names the argument, what was found and what was expected.
    """
    config = model.config
    attentions = flag("output_attentions", shared.output_attentions, config.output_attentions)
    hidden_states = flag(
        "output_hidden_states", shared.output_hidden_states, config.output_hidden_states
    )
    return_dict = flag("return_dict", shared.return_dict, config.return_dict)
    record = flag("record", shared.record, labelled or model.training)
    checker = ArgumentChecker(config, model.xp, model.dtype)
    inputs = read_inputs(checker, model.table, shared, decoder)
    B, L = inputs.token_type_ids.shape
    length, limit = inputs.layers[0].attention.offset + L, config.max_position_embeddings
    if length > limit and not model._warned_of_length:
        model._warned_of_length = True
        warnings.warn(
            f"{length} tokens are more than max_position_embeddings = {limit}: relative positions "
            "have no limit, but the model was not trained at this length",
            stacklevel=4,  # the line that called the model
        )
    wanted = Wanted(attentions, decoder.use_cache and config.is_decoder, record)
    needed = Needed.BACKWARD if record else Needed.NOTHING
    if attentions or WATCHER.get() is not None or (record and shared.record is not None):
        needed = Needed.EVERYTHING  # labels and train mode want gradients; record=True, to read it
    head_mask = None
    if shared.head_mask is not None:
        head_mask = checker.array("head_mask", shared.head_mask).shape
    return Call(
        model, checker, inputs, wanted, needed, hidden_states, return_dict, batch or (B,), head_mask
    )


def run(call: Call, output_class: type[Output], *tasks: Task) -> Output | tuple:
    """The body, the tasks on top of it, the sum of their losses, and the output."""
    model, config, rng = call.model, call.model.config, call.model._rng
    p = model.parameters  # without heads, it is the tree of the body
    if model.backend == "numpy":
        keep_freed_memory()
    caches, losses = [], []
    with caches_needed_for(call.needed):
        body, body_cache = _body(call, p.get("nezha", p))
        values = body._asdict()
        if not call.hidden_states:
            values["hidden_states"] = None
        for task in tasks:
            x = getattr(body, task.reads)
            if len(call.batch) > 1:
                x = x.reshape(*call.batch, *x.shape[1:])
            scores, cache = task.forward(p, config, x, task.labels, rng)
            values |= _logits(call, task, scores.logits)
            caches.append(cache)
            losses.append(scores.loss)
    values["loss"] = functools.reduce(add, losses, None)
    if body_cache is None:  # nothing is recorded
        return _returned(call, output_class(values))
    if model._one_backward:
        layers: Any = FreedWhenRead(body_cache.encoder)
        body_cache = body_cache._replace(encoder=layers)
    record = ModelCache(body_cache, tuple(caches), tuple(losses))

    def backward(upstream: dict[str, Any]) -> ReturnedGradients:
        if model.config is not config:  # the gradients would have the old shapes
            raise MinizhaError(
                "backward: the model was changed since it was called (its vocabulary or its "
                "heads); call it again"
            )
        checked = {f: _upstream(call, f, values[f], d) for f, d in upstream.items()}
        with caches_needed_for(call.needed):
            return _run_backward(call, tasks, record, checked)

    return _returned(call, output_class(values, record, backward))


def _body(call: Call, p: Tree) -> tuple[NezhaResult, NezhaCache | None]:
    """The body; its rows are dealt to threads where that is faster and nobody sees its caches."""
    config, rng, parts = call.model.config, call.model._rng, 1
    if call.needed is Needed.NOTHING and rng is None and call.model.backend == "numpy":
        parts = number_of_parts(*call.shape, config.hidden_size)
    if parts > 1:
        return nezha_by_rows(p, config, call.inputs, call.wanted, parts), None
    return nezha(p, config, call.inputs, rng, call.wanted)


def checked_items(value: Any, name: str = "num_items_in_batch") -> int | None:
    """``num_items_in_batch``, the divisor of the sum of the loss: an integer of at least 1 or None."""
    value = integer(name, value, 1, optional=True)
    return integer(name, value, high=_MOST_ITEMS, optional=True)


def _run_backward(
    call: Call, tasks: tuple[Task, ...], record: ModelCache, upstream: dict[str, Any]
) -> ReturnedGradients:
    """In the forward pass the tasks read the body's outputs, and the loss was the sum of their losses.
    So each task gets dloss and the gradient of its logits, and its dx is added to the upstream
    gradients of the body."""
    g = tree_map(lambda _: None, call.model.parameters)  # of this pass alone
    dbody = NezhaResult(**{name: upstream.get(name) for name in NezhaResult._fields})
    if call.hidden_states and dbody.hidden_states is None:  # 0 for each; their gradients are wanted
        dbody = dbody._replace(hidden_states=(None,) * (len(call.inputs.layers) + 1))
    for task, cache, loss in zip(tasks, record.tasks, record.losses, strict=True):
        dloss = None if loss is None else upstream.get("loss")
        d = Scores(dloss, _dlogits(call, task, upstream))
        if any(each is not None for each in d):
            dx = task.backward(d, cache, g)
            dx = dx if len(call.batch) == 1 else dx.reshape(-1, *dx.shape[len(call.batch) :])
            dbody = dbody._replace(**{task.reads: add(getattr(dbody, task.reads), dx)})
    gradients = nezha_backward(dbody, record.nezha, g.get("nezha", g))
    call.model._add_gradients(g)
    return ReturnedGradients(input_gradients(call, gradients), hidden_gradients(call, gradients))


def _logits(call: Call, task: Task, logits: Any) -> dict[str, Any]:
    """The output fields of the logits; if there are two, each is a column."""
    if callable(logits):

        def compute() -> Array:
            with caches_needed_for(call.needed):
                return logits()

        return {task.fields[0]: Deferred(compute)}
    if len(task.fields) == 1:
        return {task.fields[0]: logits}
    return {field: logits[..., i] for i, field in enumerate(task.fields)}


def _dlogits(call: Call, task: Task, upstream: dict[str, Any]) -> Array | None:
    """The upstream gradient of the logits, from those of their output fields."""
    dfields = [upstream.get(field) for field in task.fields]
    if len(dfields) == 1 or all(d is None for d in dfields):
        return dfields[0]
    xp = call.model.xp
    zeros = xp.zeros_like(next(d for d in dfields if d is not None))
    return xp.stack([zeros if d is None else d for d in dfields], axis=-1)


def _returned(call: Call, out: Output) -> Output | tuple:
    return out if call.return_dict else out.to_tuple()


def _upstream(call: Call, name: str, field: Any, d: Any) -> Any:
    """The upstream gradient d of a field, checked to have the field's shape."""
    if d is None:
        return None
    if isinstance(field, tuple):
        if not isinstance(d, (tuple, list)) or len(d) != len(field):
            raise ArgumentError(
                f"backward: {name}: expected a sequence of {len(field)} arrays or None"
            )
        return tuple(
            _upstream(call, f"{name}[{i}]", f, x)
            for i, (f, x) in enumerate(zip(field, d, strict=True))
        )
    array = field.value() if isinstance(field, Deferred) else field
    checked = call.checker.floats(f"backward: {name}", d, array.shape)
    if checked.dtype.kind == "c" and array.dtype.kind != "c":
        raise ArgumentError(
            f"backward: {name}: expected real numbers for a field of {array.dtype}, found complex"
        )
    return checked
