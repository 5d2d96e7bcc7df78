"""What every Nezha class is first of all: parameters, their gradients, and a mode."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from minizha.backend import Array, get_backend, is_array, to_backend
from minizha.checkpoint.names import canonical_names
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError, listed
from minizha.model.parameters import DTYPES, Shapes, Tree, flatten, initialise, tree_map, unflatten
from minizha.ops.relative_position import relative_table


class LoadingInfo(NamedTuple):
    """Names of tensors that a checkpoint lacked, and of those that nobody took."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class ParameterisedModel:
    """A configuration, the parameters that it asks for, and what is done with these.

    Args:
        config: the sizes.
        seed: of the initial parameters.
        dtype: "float32", "float64", or "complex128" for complex-step differentiation.
        backend: "numpy", or "cupy" for the GPU.

    ``parameters`` is their tree, ``table`` the relative positions, (2K+1, d), of every layer.

    A new model is in eval mode. The outputs have the model's dtype and backend.

    Raises:
        ArgumentError: the configuration or an option is not usable.
        BackendError: CuPy or a GPU is missing.
        MinizhaError: the model does not fit into the memory.
    """

    def __init__(
        self,
        config: NezhaConfig,
        *,
        seed: int = 0,
        dtype: str = "float32",
        backend: str = "numpy",
    ) -> None:
        if not isinstance(config, NezhaConfig):
            raise ArgumentError(f"config: expected a NezhaConfig, found {type(config).__name__}")
        refuse_what_encoders_lack(config)
        self.config = config
        self.dtype = _dtype_name(dtype)
        self.backend = backend
        self.xp = get_backend(backend)
        self.training = False
        self._rng: np.random.Generator | None = None
        self._gradients: Tree | None = None
        self._warned_of_length = False
        rng = np.random.default_rng(_seed(seed))
        try:
            arrays = initialise(self._shapes(config), config, rng, self.xp, self.dtype)
            self.table = self._table("float32" if self.dtype == "float32" else "float64")
        except (MemoryError, ValueError) as error:  # the latter for more than can be addressed
            raise MinizhaError(f"config: too large a model for this memory: {error}") from error
        self.parameters = unflatten(arrays)

    # Parameters

    def _shapes(self, config: NezhaConfig) -> Shapes:
        raise NotImplementedError

    def state_dict(self) -> dict[str, Array]:
        """The parameters under their checkpoint names; the arrays are the model's own."""
        return dict(flatten(self.parameters))

    def load_state_dict(self, arrays: Mapping[str, Array], strict: bool = True) -> LoadingInfo:
        """Replace parameters by copies of ``arrays``, in the model's dtype; all of them or none.

        Accepts the spellings of other exports (see :mod:`minizha.checkpoint.names`).

        Raises:
            ArgumentError: a shape or dtype does not fit, or ``strict`` and names differ.
        """
        expected = self.state_dict()
        found = canonical_names(arrays, expected)
        info = LoadingInfo(
            tuple(name for name in expected if name not in found),
            tuple(sorted(name for name in found if name not in expected)),
        )
        faults = [
            f"{name}: {fault}"
            for name, array in expected.items()
            if name in found and (fault := self._misfit(found[name], array.shape))
        ]
        if strict:
            faults += [f"{name}: missing" for name in info.missing]
            faults += [
                f"{name}: not a parameter of {type(self).__name__}" for name in info.unexpected
            ]
        if faults:
            raise ArgumentError("state dict: " + listed(faults, "; "))
        new = {
            name: self.xp.array(to_backend(found.get(name, array), self.xp), dtype=self.dtype)
            for name, array in expected.items()
        }
        self.parameters = unflatten(new)
        return info

    def _misfit(self, array: Any, shape: tuple[int, ...]) -> str | None:
        if not is_array(array):
            return f"expected an array, found {type(array).__name__}"
        if array.shape != shape:
            return f"expected shape {shape}, found {array.shape}"
        if array.dtype.kind != "f" and not (array.dtype.kind == "c" and self.dtype == "complex128"):
            return f"expected an array of {self.dtype} or the like, found {array.dtype}"
        return None

    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""
        return sum(array.size for array in self.state_dict().values())

    def astype(self, dtype: str) -> Self:
        """A copy of the model, mode included, whose parameters have another dtype."""
        other = copy.copy(self)
        other.dtype = _dtype_name(dtype)
        real = "float32" if other.dtype == "float32" else "float64"
        other.table = self._table(real)
        other.parameters = tree_map(lambda p: p.astype(other.dtype), self.parameters)
        other._gradients = None
        other._rng = copy.deepcopy(self._rng)
        return other

    def replica(self) -> Self:
        """A model with the same parameters that collects gradients of its own."""
        other = copy.copy(self)
        other._gradients = None
        if self._rng is not None:
            other._rng = np.random.default_rng(int(self._rng.integers(2**63)))
        return other

    def _table(self, dtype: str) -> Array:
        c = self.config
        return relative_table(c.max_relative_position, c.head_size, self.xp, dtype)

    # Modes and gradients

    def train(self, seed: int = 0) -> Self:
        """Switch dropout on, drawing from a generator seeded with ``seed``."""
        self._rng = np.random.default_rng(_seed(seed))
        self.training = True
        return self

    def eval(self) -> Self:
        """Switch dropout off."""
        self.training = False
        self._rng = None
        return self

    def gradients(self) -> dict[str, Array]:
        """The gradients collected since :meth:`zero_grad`, under the keys of :meth:`state_dict`.

        A tied decoder has no key of its own: its part is in the word embeddings' gradient.
        """
        named = dict(flatten(self._gradient_tree()))
        return {
            name: self.xp.zeros_like(p) if named[name] is None else named[name]
            for name, p in self.state_dict().items()
        }

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._gradients = None

    def _gradient_tree(self) -> Tree:
        if self._gradients is None:
            self._gradients = tree_map(lambda _: None, self.parameters)
        return self._gradients


def refuse_what_encoders_lack(config: NezhaConfig) -> None:
    """ArgumentError where the configuration asks for what these classes can't do yet."""
    if config.is_decoder:
        raise ArgumentError("is_decoder: expected False (this version builds encoders), found True")
    if any(config.pruned_heads.values()):
        raise ArgumentError(
            f"pruned_heads: expected none (this version keeps every head), found {config.pruned_heads}"
        )


def _dtype_name(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name if dtype is not None else None  # NumPy's None is float64
    except (TypeError, ValueError):
        name = None
    if name not in DTYPES:
        raise ArgumentError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    return name


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"seed: expected an integer of at least 0, found {seed!r}")
    return int(seed)
