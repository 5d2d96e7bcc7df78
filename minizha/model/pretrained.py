"""What every Nezha class shares: construction, parameters, modes, gradients, saving and loading."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from minizha.backend import Array, get_backend, to_backend, to_host
from minizha.checkpoint.folder import read_folder, write_folder
from minizha.checkpoint.names import canonical_names
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError
from minizha.model.inputs import Door, Inputs
from minizha.model.outputs import Deferred, ModelOutput
from minizha.model.parameters import DTYPES, Shapes, Tree, flatten, initialise, tree_map, unflatten
from minizha.ops.relative_position import relative_table


class Wanted(NamedTuple):
    """What a call asked for, with the configuration's defaults filled in."""

    attentions: bool
    hidden_states: bool
    as_dict: bool
    record: bool

    def pick(self, result: Any) -> dict[str, Any]:
        """The two optional fields, where they were asked for."""
        return {
            "hidden_states": result.hidden_states if self.hidden_states else None,
            "attentions": result.attentions if self.attentions else None,
        }


class LoadingInfo(NamedTuple):
    """Names of tensors that a checkpoint lacked, and of those that nobody took."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class NezhaPreTrainedModel:
    """Base of the Nezha classes.

    Args:
        config: the sizes.
        seed: of the initial parameters.
        dtype: "float32", "float64", or "complex128" for complex-step differentiation.
        backend: "numpy", or "cupy" for the GPU.

    A new model is in eval mode. The outputs have the model's dtype and backend.

    Raises:
        ArgumentError: the configuration or an option is not usable.
        BackendError: CuPy or a GPU is missing.
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
        _refuse_what_encoders_lack(config)
        self.config = config
        self.dtype = _dtype_name(dtype)
        self.backend = backend
        self.xp = get_backend(backend)
        self.training = False
        self._rng: np.random.Generator | None = None
        self._gradients: Tree | None = None
        self._warned_of_length = False
        rng = np.random.default_rng(_seed(seed))
        arrays = initialise(self._shapes(config), config, rng, self.xp, self.dtype)
        self.parameters = unflatten(arrays)
        self.table = self._table("float32" if self.dtype == "float32" else "float64")

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
            tuple(name for name in found if name not in expected),
        )
        faults = [
            f"{name}: expected shape {expected[name].shape}, found {tuple(np.shape(array))}"
            for name, array in found.items()
            if name in expected and expected[name].shape != tuple(np.shape(array))
        ]
        if strict:
            faults += [f"{name}: missing" for name in info.missing]
            faults += [
                f"{name}: not a parameter of {type(self).__name__}" for name in info.unexpected
            ]
        if faults:
            raise ArgumentError("state dict: " + "; ".join(faults))
        new = {name: self._own(name, found.get(name, expected[name])) for name in expected}
        self.parameters = unflatten(new)
        return info

    def _own(self, name: str, array: Any) -> Array:
        kind = getattr(getattr(array, "dtype", None), "kind", "?")
        if kind not in "fc" or (kind == "c" and self.dtype != "complex128"):
            found = getattr(array, "dtype", type(array).__name__)
            raise ArgumentError(
                f"{name}: expected an array of {self.dtype} or the like, found {found}"
            )
        return self.xp.array(to_backend(array, self.xp), dtype=self.dtype)

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
        return other

    def replica(self) -> Self:
        """A model with the same parameters that collects gradients of its own, for one thread."""
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
        self.training = True
        self._rng = np.random.default_rng(_seed(seed))
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

    # Saving and loading

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; Transformers 4.37 loads the folder.

        Each file is replaced as a whole: on any error the old one is intact.

        Raises:
            FileError: the folder or a file can't be written.
        """
        if self.dtype == "complex128":
            raise MinizhaError("save_pretrained: a complex128 model is for differentiation only")
        arrays = {name: to_host(array) for name, array in self.state_dict().items()}
        more = {"architectures": [type(self).__name__], "torch_dtype": self.dtype}
        write_folder(Path(folder), self.config.to_json(**more), arrays)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: str | None = None,
        backend: str = "numpy",
        seed: int = 0,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """The model in a folder that :meth:`save_pretrained` or Transformers wrote.

        Tensors that are missing are initialised with ``seed``; these and left-over ones are
        named in one CheckpointWarning. ``dtype`` None keeps the stored one (half precision
        becomes float32). ``output_loading_info=True`` returns ``(model, LoadingInfo)``.

        Raises:
            FileError: a file is missing, damaged, of another model type, or of other shapes.
        """
        config, arrays = read_folder(Path(folder))
        if dtype is None:
            wide = any(array.dtype == np.float64 for array in arrays.values())
            dtype = "float64" if wide else "float32"
        model = cls(config, dtype=dtype, backend=backend, seed=seed, **options)
        try:
            info = model.load_state_dict(arrays, strict=False)
        except ArgumentError as error:
            raise FileError(f"{folder}: {error}") from error
        if len(info.missing) == len(model.state_dict()):
            raise FileError(f"{folder}: none of its tensors belongs to a {cls.__name__}")
        if not output_loading_info:
            _warn_of_differences(cls.__name__, folder, info)
        return (model, info) if output_loading_info else model

    # For the classes' calls

    def _wanted(
        self,
        attentions: bool | None,
        hidden_states: bool | None,
        as_dict: bool | None,
        record: bool | None,
        labelled: bool = False,
    ) -> Wanted:
        c = self.config
        return Wanted(
            c.output_attentions if attentions is None else bool(attentions),
            c.output_hidden_states if hidden_states is None else bool(hidden_states),
            c.return_dict if as_dict is None else bool(as_dict),
            (labelled or self.training) if record is None else bool(record),
        )

    @property
    def _door(self) -> Door:
        return Door(self.config, self.xp, self.dtype)

    def _inputs(self, *arguments: Any) -> Inputs:
        inputs = self._door.inputs(*arguments)
        length, limit = inputs.shape[1], self.config.max_position_embeddings
        if length > limit and not self._warned_of_length:
            self._warned_of_length = True
            warnings.warn(
                f"{length} tokens are more than max_position_embeddings = {limit}: relative "
                "positions know no limit, but no model was trained at this length",
                stacklevel=3,
            )
        return inputs

    def _input_gradients(self, inputs: Inputs, dx: Array | None) -> dict[str, Array]:
        if inputs.inputs_embeds is None:
            return {}
        return {"inputs_embeds": self.xp.zeros_like(inputs.inputs_embeds) if dx is None else dx}

    def _output(
        self,
        kind: type[ModelOutput],
        values: dict[str, Any],
        wanted: Wanted,
        record: Any,
        backward: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> ModelOutput | tuple:
        def checked(upstream: dict[str, Any]) -> dict[str, Any]:
            return backward({f: self._upstream(f, values[f], d) for f, d in upstream.items()})

        out = kind(values, record, checked if wanted.record else None)
        return out if wanted.as_dict else out.to_tuple()

    def _upstream(self, name: str, field: Any, d: Any) -> Any:
        """The gradient d of a field, checked against the field's shape."""
        if d is None:
            return None
        if isinstance(field, tuple):
            if not isinstance(d, (tuple, list)) or len(d) != len(field):
                raise ArgumentError(
                    f"backward: {name}: expected a sequence of {len(field)} arrays or None"
                )
            return tuple(
                self._upstream(f"{name}[{i}]", f, x)
                for i, (f, x) in enumerate(zip(field, d, strict=True))
            )
        shape = (field.value() if isinstance(field, Deferred) else field).shape
        return self._door.floats(f"backward: {name}", d, shape)


def _warn_of_differences(kind: str, folder: Any, info: LoadingInfo) -> None:
    parts = []
    if info.missing:
        parts.append("missing, so initialised at random: " + ", ".join(info.missing))
    if info.unexpected:
        parts.append("left over: " + ", ".join(info.unexpected))
    if parts:
        text = f"{folder}: {kind}: " + "; ".join(parts)
        warnings.warn(text, CheckpointWarning, stacklevel=3)


def _refuse_what_encoders_lack(config: NezhaConfig) -> None:
    if config.is_decoder:
        raise ArgumentError("is_decoder: expected False (this version builds encoders), found True")
    if any(config.pruned_heads.values()):
        raise ArgumentError(
            f"pruned_heads: expected none (this version keeps every head), found {config.pruned_heads}"
        )


def _dtype_name(dtype: Any) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = None
    if name not in DTYPES:
        raise ArgumentError(f"dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}")
    return name


def _seed(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ArgumentError(f"seed: expected an integer of at least 0, found {seed!r}")
    return int(seed)
