"""Imports run downward only; ops/ knows no parameters, no files, and no single array library."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minizha

ROOT = Path(minizha.__file__).parent

# from the top down; modules in one row may import each other, but not in circles
LAYERS = (
    {"cli", "__main__", "parser", "versions"},
    {"exercises"},
    {"", "training", "crosscheck"},  # "" is minizha itself: the public names
    {"shipped"},
    {"predict", "convert", "info"},
    {"model", "text", "checkpoint"},
    {"nezha"},
    {"kernels"},
    {"ops"},
    {"backend"},
    {
        "config",
        "config_checks",
        "config_files",
        "files",
        "interrupts",
        "progress",
        "targets",
        "transaction",
    },
    {"checks", "transformers_options"},
    {"errors"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
MATHEMATICS = {"ops": {"backend", "ops"}, "kernels": {"backend", "ops", "kernels"}}
"""The two folders that know no parameters and no files, and what each may import of minizha."""
HOST_ONLY = {"relative_table", "labelled_rows"}  # computed or checked on the host, then copied
NUMPY_TYPES = {"random", "Generator", "ndarray", "float32", "float64", "int64", "bool_"}


def modules() -> dict[str, str]:
    """{name: source} of every module; ``__init__.py`` has the name of its package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


MODULES = modules()


def imports(source: str, known=MODULES) -> Iterator[str]:
    """Every module that the source imports, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import: write the whole name"
            # ``from package import module`` is an import of the module
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(known)
            yield from inner or {node.module}


def top_name(module: str) -> str:
    """``minizha.ops.linear`` belongs to ``ops``."""
    return [*module.split("."), ""][1]


def upward_imports(name: str, source: str) -> list[str]:
    """The imports of a module that do not run downward."""
    ours = [module for module in imports(source) if module.split(".")[0] == "minizha"]
    own = LEVEL[top_name(name)]
    return [module for module in ours if LEVEL[top_name(module)] < own or (module == name)]


def forbidden_imports(source: str, own: str = "ops") -> set[str]:
    """Imports of a module of ops/ or kernels/ that are not allowed."""
    allowed = {*sys.stdlib_module_names, "numpy"}
    return {
        module
        for module in imports(source)
        if not (
            module.split(".")[0] in allowed
            or (module.startswith("minizha.") and top_name(module) in MATHEMATICS[own])
        )
    }


def numpy_maths(source: str) -> list[str]:
    """Each ``np.name`` that computes, outside the functions that work on the host."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in HOST_ONLY:
            node.body = []
    found = [
        f"np.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("np", "numpy")
        and node.attr not in NUMPY_TYPES
    ]
    return found + [
        f"from {node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "numpy"
    ]


def import_circle(graph: dict[str, set[str]]) -> list[str]:
    """A path from a module through its imports back to itself; empty if there is none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        found = next(filter(None, (walk(n, [*path, name]) for n in sorted(graph[name]))), [])
        done.add(name)
        return found

    return next(filter(None, (walk(name, []) for name in sorted(graph))), [])


# --- minizha --------------------------------------------------------------------------------------


def test_every_part_has_its_layer():
    parts = {top_name(name) for name in MODULES}
    assert parts <= LEVEL.keys(), "a new module or folder of the package: enter it in LAYERS"
    assert {"ops", "model", "backend", "errors"} <= parts


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downward_only(name):
    assert upward_imports(name, MODULES[name]) == []


def test_imports_do_not_run_in_circles():
    graph = {name: set(imports(source)) & MODULES.keys() for name, source in MODULES.items()}
    assert sum(map(len, graph.values())) > 50
    assert import_circle(graph) == []


@pytest.mark.parametrize("name", [n for n in MODULES if top_name(n) in MATHEMATICS])
def test_ops_know_no_parameters_no_config_and_no_files(name):
    assert forbidden_imports(MODULES[name], top_name(name)) == set()


@pytest.mark.parametrize("name", [n for n in MODULES if top_name(n) == "ops"])
def test_ops_ask_the_array_for_its_library(name):
    assert numpy_maths(MODULES[name]) == []


# --- negative controls ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("minizha.ops.new", "from minizha.model.heads import pooler", ["minizha.model.heads"]),
        ("minizha.ops.new", "import minizha.config", []),  # lower than ops, forbidden otherwise
        ("minizha.ops.new", "from minizha.kernels import gelu", ["minizha.kernels.gelu"]),
        ("minizha.kernels.new", "from minizha.ops import gelu", []),
        ("minizha.model.new", "from minizha.text.pairs import x\nimport minizha.backend", []),
        ("minizha.model.new", "from minizha import NezhaModel", ["minizha"]),
        ("minizha.model.new", "def f():\n    import minizha.cli", ["minizha.cli"]),
        ("minizha.backend", "if x:\n    from minizha import kernels", ["minizha.kernels"]),
        ("minizha.errors", "from minizha.config import NezhaConfig", ["minizha.config"]),
        ("minizha.cli", "import minizha, minizha.training.run", []),
    ],
)
def test_an_import_upward_is_found(name, source, expected):
    assert upward_imports(name, source) == expected


def test_a_relative_import_is_refused():
    with pytest.raises(AssertionError, match="relative"):
        upward_imports("minizha.ops.new", "from .linear import linear")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from minizha.config import NezhaConfig", {"minizha.config"}),
        ("from minizha import files", {"minizha.files"}),
        ("import minizha", {"minizha"}),
        ("import scipy.special", {"scipy.special"}),
        ("import minizha.kernels", {"minizha.kernels"}),
        ("def f():\n    import cupy", {"cupy"}),
        ("import math\nimport numpy as np\nfrom minizha.backend import namespace", set()),
    ],
)
def test_a_foreign_import_is_found(source, expected):
    assert forbidden_imports(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x):\n    return np.exp(x)", ["np.exp"]),
        ("def f(x):\n    return numpy.linalg.norm(x)", ["np.linalg"]),
        ("K = np.sqrt(2.0)", ["np.sqrt"]),
        ("from numpy import exp", ["from numpy"]),
        ("def f(x: np.ndarray):\n    return xp.exp(x)", []),
        (
            "def relative_table(k):\n    return np.sin(k)\n\ndef g(k):\n    return np.cos(k)",
            ["np.cos"],
        ),
        ("def f(x, rng: np.random.Generator):\n    return rng.random(3, dtype=np.float32)", []),
    ],
)
def test_maths_of_numpy_alone_is_found(source, expected):
    assert numpy_maths(source) == expected


def test_a_circle_is_found():
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["b", "c", "b"]
    assert import_circle({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}) == []
    assert import_circle({"a": {"a"}}) == ["a", "a"]
