"""Random arguments for every pair of minizha/ops: what the tests of gradients, dtypes and shapes share.

A case is a function of ``rng`` and of axes; its parameters' names say which axes to draw. The
arrays are then filled from a seed.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import minizha.ops
from minizha.backend import is_array, to_backend, to_host

LOWEST = float(np.finfo("float32").min)  # for float64 too: any score added to it vanishes


def public_functions(package) -> dict[str, Callable]:
    """Every public function of the package's modules, by name; the plain one where a kernel may
    replace it."""
    found = {}
    for info in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        for name, value in vars(importlib.import_module(info.name)).items():
            if inspect.isfunction(value) and value.__module__ == info.name and name[0] != "_":
                assert name not in found, f"{name}: defined by two modules"
                found[name] = getattr(value, "plain", value)
    return found


FUNCTIONS = public_functions(minizha.ops)
for _name in ("operation", "replaceable", "caches_needed_for", "unread"):
    del FUNCTIONS[_name]  # about operations, not one of them
FORWARDS = {
    name.removesuffix("_backward"): FUNCTIONS.get(name.removesuffix("_backward"))
    for name in FUNCTIONS
    if name.endswith("_backward")
}
BACKWARDS = {name: FUNCTIONS[f"{name}_backward"] for name in FORWARDS}


class Case(NamedTuple):
    """One call of an op: ``variables`` get a gradient, in this order; ``constants`` get none.
    ``seed`` is the seed of dropout's generator."""

    op: str
    variables: dict[str, Any]
    constants: dict[str, Any]
    seed: int | None = None

    @property
    def values(self) -> list:
        return list(self.variables.values())

    def forward(self, *values):
        """``(y, cache)`` for these values of the variables and the case's constants."""
        arguments = dict(zip(self.variables, values, strict=True)) | self.constants
        if self.seed is not None:
            arguments["rng"] = np.random.default_rng(self.seed)
        return FORWARDS[self.op](**arguments)

    def run(self):
        return self.forward(*self.values)

    def on(self, xp, dtype="float64") -> "Case":
        """The same case in another library and dtype; constants stay real and integers integers."""
        real = "float64" if dtype == "complex128" else dtype

        def moved(value, dtype):
            if not is_array(value):
                return value
            return to_backend(value, xp, dtype if value.dtype.kind == "f" else None)

        return self._replace(
            variables={name: moved(value, dtype) for name, value in self.variables.items()},
            constants={name: moved(value, real) for name, value in self.constants.items()},
        )

    def map(self, function) -> "Case":
        """The same case with ``function`` applied to each of its arrays."""
        applied = [
            {name: function(value) if is_array(value) else value for name, value in group.items()}
            for group in (self.variables, self.constants)
        ]
        return self._replace(variables=applied[0], constants=applied[1])


def leaves(tree):
    """Every array in nested tuples, caches included."""
    if is_array(tree):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for node in tree:
            yield from leaves(node)


def as_tuple(gradients) -> tuple:
    return gradients if type(gradients) is tuple else (gradients,)


def upstream(y, seed=0):
    """A random upstream gradient in y's library and dtype."""
    values = np.random.default_rng(seed).standard_normal(to_host(y).shape)
    xp = np if isinstance(y, np.ndarray | np.generic) else importlib.import_module("cupy")
    return to_backend(values, xp, y.dtype)


def rows_of(x):
    """The last axis of x, one vector after another."""
    return x.reshape(-1, x.shape[-1])


def relation(table, length_q, length_k, offset=0):
    """The full array R (Lq, Lk, d): R[i, j] = table row of j − (offset + i), clipped to ±K."""
    K = len(table) // 2
    R = np.empty((length_q, length_k, table.shape[1]))
    for i in range(length_q):
        for j in range(length_k):
            R[i, j] = table[max(-K, min(K, j - (offset + i))) + K]
    return R


# --- one case an op -------------------------------------------------------------------------------


def _elementwise(op):
    return lambda rng, lead: Case(op, {"x": np.asarray(2.0 * rng.standard_normal(lead))}, {})


def _linear(rng, lead, I, O):  # noqa: E741
    x, weight, bias = (rng.standard_normal(shape) for shape in ((*lead, I), (O, I), (O,)))
    return Case("linear", {"x": x, "weight": weight, "bias": bias}, {})


def _embedding(rng, lead, V, D, padded):
    # no id reads the padding row: its gradient is 0 by convention, not by differentiation
    ids = np.asarray(rng.integers(0, V, lead))
    padding = {"padding_idx": V} if padded else {}
    weight = rng.standard_normal((V + padded, D))
    return Case("embedding", {"weight": weight}, {"ids": ids, **padding})


def _layer_norm(rng, lead, D):
    x, weight, bias = (rng.standard_normal(shape) for shape in ((*lead, D), (D,), (D,)))
    # with one or two features 1/σ may be huge; a large eps keeps it smooth
    return Case("layer_norm", {"x": x, "weight": weight, "bias": bias}, {"eps": 1e-2})


def _softmax(rng, lead, L):
    return Case("softmax", {"scores": 3.0 * rng.standard_normal((*lead, L))}, {})


def _dropout(rng, lead, rate):
    return Case("dropout", {"x": np.asarray(rng.standard_normal(lead))}, {"rate": rate}, _seed(rng))


def _relative_key(rng, lead, Lq, Lk, d, K, offset):
    query, table = rng.standard_normal((*lead, Lq, d)), rng.standard_normal((2 * K + 1, d))
    return Case(
        "relative_key", {"query": query}, {"table": table, "length_k": Lk, "offset": offset}
    )


def _relative_value(rng, lead, Lq, Lk, d, K, offset):
    weights, table = rng.standard_normal((*lead, Lq, Lk)), rng.standard_normal((2 * K + 1, d))
    return Case("relative_value", {"weights": weights}, {"table": table, "offset": offset})


def _attention(rng, B, N, Lq, Lk, d, K, offset, masked, head_masked, rate):
    variables = {
        name: rng.standard_normal((B, N, length, d))
        for name, length in (("query", Lq), ("key", Lk), ("value", Lk))
    }
    constants = {"table": rng.standard_normal((2 * K + 1, d)), "offset": offset}
    if masked:  # half of the keys, at random; sometimes all keys of a query
        constants["mask"] = LOWEST * rng.integers(0, 2, (B, 1, Lq, Lk))
    if head_masked:
        constants["head_mask"] = rng.random((1, N, 1, 1))
    return Case("attention", variables, constants | {"dropout_rate": rate}, _seed(rng))


def _cross_entropy(rng, T, V, ignoring, count):
    labels = rng.integers(0, V, T)
    if ignoring:
        labels[rng.random(T) < 0.4] = -100
    constants = {"labels": labels, "count": count}
    return Case("cross_entropy", {"logits": 2.0 * rng.standard_normal((T, V))}, constants)


def _squared_error(rng, T, C, count):
    y, targets = rng.standard_normal((2, T, C))
    return Case("squared_error", {"y": y}, {"targets": targets, "count": count})


def _binary_cross_entropy(rng, T, C, count):
    # half of the targets are 0 or 1, as labels are
    targets = np.where(rng.random((T, C)) < 0.5, rng.integers(0, 2, (T, C)), rng.random((T, C)))
    logits = 2.0 * rng.standard_normal((T, C))
    constants = {"targets": targets, "count": count}
    return Case("binary_cross_entropy", {"logits": logits}, constants)


def _seed(rng):
    return int(rng.integers(1 << 30))


CASES = {
    **{op: _elementwise(op) for op in ("gelu", "gelu_new", "relu", "silu", "tanh")},
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _layer_norm,
    "softmax": _softmax,
    "dropout": _dropout,
    "relative_key": _relative_key,
    "relative_value": _relative_value,
    "attention": _attention,
    "cross_entropy": _cross_entropy,
    "squared_error": _squared_error,
    "binary_cross_entropy": _binary_cross_entropy,
}

_few = st.integers(1, 5)
AXES = {
    "lead": st.lists(st.integers(0, 4), max_size=3).map(tuple),
    "B": st.integers(0, 2),
    "T": st.integers(0, 6),
    "K": st.integers(0, 4),
    "offset": st.integers(0, 9),
    "rate": st.sampled_from([0.0, 0.4]),
    "count": st.none() | st.integers(1, 9),
    **dict.fromkeys(("padded", "masked", "head_masked", "ignoring"), st.booleans()),
    **dict.fromkeys(("C", "I", "O", "V", "D", "L", "N", "Lq", "Lk", "d"), _few),
}
# pairwise different, so that a transpose shows; distances reach beyond K on both sides
TYPICAL = {
    "lead": (2, 3), "B": 2, "T": 13, "K": 2, "offset": 1, "rate": 0.4, "count": None,
    "padded": True, "masked": True, "head_masked": True, "ignoring": True,
    "C": 3, "I": 5, "O": 7, "V": 6, "D": 9, "L": 8, "N": 3, "Lq": 7, "Lk": 11, "d": 4,
}  # fmt: skip


def _axes(op):
    return [name for name in inspect.signature(CASES[op]).parameters if name != "rng"]


def draw_case(draw, op: str) -> Case:
    """A case of random sizes; ``draw`` is hypothesis's."""
    axes = {name: draw(AXES[name], label=name) for name in _axes(op)}
    seed = draw(st.integers(0, 1 << 30), label="seed")
    return CASES[op](np.random.default_rng(seed), **axes)


def typical_case(op: str, **axes) -> Case:
    """The case of the typical sizes, but for ``axes``; those that the op does not have are ignored."""
    sizes = {name: axes.get(name, TYPICAL[name]) for name in _axes(op)}
    return CASES[op](np.random.default_rng(7), **sizes)
