"""The base of all Nezha classes: parameters, their gradients, and the mode (train or eval)."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np

from minizha.backend import Array, get_backend, to_backend, to_host
from minizha.checks import flag, integer
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.initialisation import DTYPES, Shapes, body_shapes, check_config, initialise
from minizha.model.loading import Checkpoint, LoadingInfo, host_arrays, listed_faults, match
from minizha.nezha.parameters import Tree, add_trees, flatten, unflatten
from minizha.ops.relative_position import relative_table


class ParameterisedModel:
    """A configuration, and parameters of the sizes that it gives.

    Args:
        config: the sizes.
        seed: of the initial parameters.
        dtype: "float32", "float64", or "complex128" for complex-step differentiation.
        backend: "numpy", or "cupy" for the GPU.
        checkpoint: the stored parameters (for ``from_pretrained``); the others are drawn.

    ``parameters`` is their tree, ``table`` the relative positions, (2K+1, d), of every layer.

    A new model is in eval mode. The outputs have the model's dtype and backend.

    Raises:
        ArgumentError: the configuration or an option is invalid.
        BackendError: CuPy or a GPU is missing.
        MinizhaError: the model does not fit into memory.
    """

    _pooled: ClassVar[bool]
    """Whether the body has a pooler."""
    _head_shapes: ClassVar[staticmethod[[NezhaConfig], Shapes]]
    """Names and shapes of the head's parameters."""

    def __init__(
        self,
        config: NezhaConfig,
        *,
        seed: int = 0,
        dtype: str = "float32",
        backend: str = "numpy",
        checkpoint: Checkpoint | None = None,
    ) -> None:
        check_config(config)
        self.config = config = self.resolve_config(config)
        self.dtype = _dtype_name(dtype)
        self.backend = backend
        self.xp = get_backend(backend)
        self.training = False
        self._rng: np.random.Generator | None = None
        self._gradients: Tree | None = None
        self._gradient_lock = threading.Lock()  # threads may call backward on one model
        self._warned_of_length = False
        self._one_backward = False  # whether the activations of a call serve one backward pass only
        rng = np.random.default_rng(integer("seed", seed, 0))
        shapes = self._parameter_shapes()
        loaders: dict[str, Callable[[], Array]] = {}
        if checkpoint is not None:
            # one tensor at a time, each read into an array of its own, which needs no copy
            for name, read in checkpoint.readers(shapes).items():
                location = checkpoint.location(name)
                loaders[name] = partial(self._copy_array, location, read, copied=True)
        try:
            arrays = initialise(shapes, config, rng, self.xp, self.dtype, loaders)
            self.table = self._table("float32" if self.dtype == "float32" else "float64")
        except (MemoryError, ValueError) as error:  # ValueError: beyond the address space
            raise MinizhaError(f"config: too large a model for this memory: {error}") from error
        self.parameters = unflatten(arrays)

    def __getstate__(self) -> dict[str, Any]:
        return {n: value for n, value in vars(self).items() if n not in ("xp", "_gradient_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a module and a lock can't be pickled; a copy's gradients are its own
        vars(self).update(state, xp=get_backend(state["backend"]), _gradient_lock=threading.Lock())

    # Parameters

    @classmethod
    def resolve_config(cls, config: NezhaConfig) -> NezhaConfig:
        """``config``, with the values that this class prescribes."""
        return config

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """Names and shapes of the parameters of a model of this class, in checkpoint order."""
        if not hasattr(cls, "_pooled"):
            raise MinizhaError(
                f"{cls.__name__}: expected one of the Nezha classes, found their base"
            )
        return body_shapes(config, pooler=cls._pooled) | cls._head_shapes(config)

    def _parameter_shapes(self) -> Shapes:
        return self.shapes(self.config)

    def state_dict(self) -> dict[str, Array]:
        """The parameters under their checkpoint names: the model's arrays themselves, not copies."""
        return dict(flatten(self.parameters))

    def load_state_dict(self, arrays: Mapping[str, Array], strict: bool = True) -> LoadingInfo:
        """Replace parameters by copies of ``arrays``, in the model's dtype; all of them or none.

        Accepts the spellings of other exports (see :mod:`minizha.checkpoint.names`), either byte
        order, and tensors of torch and of other libraries that convert to NumPy arrays.

        Raises:
            ArgumentError: a shape or dtype is wrong, or ``strict`` and a name is missing or unknown.
        """
        old = self.state_dict()
        shapes = {name: array.shape for name, array in old.items()}
        new, missing, unexpected, faults, _ = match(
            host_arrays(arrays), shapes, allow_complex=self.dtype == "complex128"
        )
        if flag("strict", strict, True):
            faults |= dict.fromkeys(missing, "missing")
            faults |= dict.fromkeys(unexpected, f"not a parameter of {type(self).__name__}")
        if faults:
            raise ArgumentError("state dict: " + listed_faults(faults))
        self.parameters = unflatten(
            {name: self._copy_array(name, partial(new.get, name, old[name])) for name in old}
        )
        return LoadingInfo(missing, unexpected)

    def _copy_array(self, name: str, read: Callable[[], Any], copied: bool = False) -> Array:
        """A copy of ``read()`` in the model's library and dtype, in C order; the array itself, if it has
        these and is ``copied`` already."""
        source = read()
        if self.xp is np or isinstance(source, np.ndarray):
            # converted on the host: NumPy can say that a number became infinite
            try:
                with np.errstate(over="raise", invalid="ignore"):  # invalid: signalling NaNs
                    convert = np.asarray if copied else np.array
                    array = convert(to_host(source), dtype=self.dtype, order="C")
            except FloatingPointError as error:
                raise self._out_of_range(name) from error
            return to_backend(array, self.xp)
        array = self.xp.array(source, dtype=self.dtype, order="C")
        # the device does not say so; a change of parameters may wait for its answer
        narrower = array.dtype.itemsize < source.dtype.itemsize
        if narrower and (self.xp.isinf(array) & self.xp.isfinite(source)).any():
            raise self._out_of_range(name)
        return array

    def _out_of_range(self, name: str) -> MinizhaError:
        return MinizhaError(f"{name}: expected numbers in the range of {self.dtype}")

    def num_parameters(self, exclude_embeddings: bool = False) -> int:
        """The number of numbers in all parameters, a tied decoder counted once."""
        exclude_embeddings = flag("exclude_embeddings", exclude_embeddings)
        return sum(
            array.size
            for name, array in self.state_dict().items()
            if not (exclude_embeddings and name.endswith("_embeddings.weight"))
        )

    def astype(self, dtype: str) -> Self:
        """A copy of the model, in the same mode, with parameters of another dtype."""
        other = self.copy_with()
        other.dtype = _dtype_name(dtype)
        real = "float32" if other.dtype == "float32" else "float64"
        other.table = self._table(real)
        named = flatten(self.parameters)
        other.parameters = unflatten(
            {n: other._copy_array(n, partial(to_backend, p, self.xp)) for n, p in named}
        )
        return other

    def replica(self, rng: Any) -> Self:
        """A model with the same parameters and mode, separate gradients, and ``rng`` for dropout: a
        generator, or what draws as one does (:class:`~minizha.ops.dropout.RandomNumbers`). Its outputs
        have one backward pass each, which frees the activations on its way."""
        other = copy.copy(self)
        other._gradients = None
        other._rng = rng
        other._one_backward = True
        return other

    def copy_with(self, **changes: Any) -> Self:
        """A model with the same parameters and mode, and with separate gradients and dropout, which
        starts in the same random state. ``changes`` are values of the configuration that do not
        concern the parameters."""
        other = copy.copy(self)
        other.config = self.config.replace(**changes)
        other._gradients = None
        other._rng = copy.deepcopy(self._rng)
        return other

    def _table(self, dtype: str) -> Array:
        c = self.config
        return relative_table(c.max_relative_position, c.head_size, self.xp, dtype)

    # Modes and gradients

    def train(self, seed: int = 0) -> Self:
        """Switch dropout on, drawing from a generator seeded with ``seed``."""
        self._rng = np.random.default_rng(integer("seed", seed, 0))
        self.training = True
        return self

    def eval(self) -> Self:
        """Switch dropout off."""
        self.training = False
        self._rng = None
        return self

    def gradients(self) -> dict[str, Array]:
        """The gradients accumulated since :meth:`zero_grad`, under the keys of :meth:`state_dict`.

        A tied decoder has no separate key: its gradient is part of that of the word embeddings.
        """
        named = {} if self._gradients is None else dict(flatten(self._gradients))
        return {
            name: self.xp.zeros_like(p) if named.get(name) is None else named[name]
            for name, p in self.state_dict().items()
        }

    def zero_grad(self) -> None:
        """Set all gradients to 0."""
        self._gradients = None

    def _add_gradients(self, g: Tree) -> None:
        """Add the gradients of a backward pass, in new arrays: the caller may still use the old ones."""
        with self._gradient_lock:  # else two threads would both add to the same old sum
            self._gradients = g if self._gradients is None else add_trees(self._gradients, g)


def _dtype_name(dtype: Any) -> str:
    try:
        # NumPy's None is float64, and whatever has a dtype, such as an array, has that one
        name = np.dtype(dtype).name if isinstance(dtype, (str, type, np.dtype)) else None
    except (TypeError, ValueError):
        name = None
    if name not in DTYPES:
        raise ArgumentError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    return name
