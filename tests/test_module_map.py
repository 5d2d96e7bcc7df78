"""The map of modules to test files is complete, and each file it names exercises the module."""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.module_map import (
    PACKAGE,
    REPOSITORY,
    ROOT,
    ROWS,
    TESTS,
    Row,
    all_test_files,
    files_of,
    mirror,
    modules,
)

MODULES = modules()
FILES = all_test_files()
PROGRAM = re.compile(r"from (minizha[\w.]*) import (\w+)")


# --- what a file names of minizha -----------------------------------------------------------------


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def source(name: str) -> Path | None:
    """The file of a dotted name; None where it is no module of this repository."""
    base = ROOT / name.replace(".", "/")
    paths = (base.with_suffix(".py"), base / "__init__.py", ROOT / "vectors" / f"{name}.py")
    return next((path for path in paths if path.is_file()), None)


@cache
def exports(package: str) -> dict[str, str]:
    """The names that a package hands on, each with the module that defines it."""
    path = ROOT / package.replace(".", "/") / "__init__.py"
    imports = (node for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom))
    return {alias.name: node.module for node in imports for alias in node.names}


def home(owner: str, name: str) -> str:
    """The module that ``owner.name`` is, or is defined in."""
    if source(f"{owner}.{name}"):
        return f"{owner}.{name}"
    return (
        exports(owner).get(name, owner) if (source(owner) or PACKAGE).stem == "__init__" else owner
    )


@cache
def imported(path: Path) -> dict[str, str]:
    """{name in the file: module of this repository that it is, or is defined in}."""
    found = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {a.asname or a.name: a.name for a in node.names if source(a.name)}
        elif isinstance(node, ast.ImportFrom) and source(node.module):
            found |= {a.asname or a.name: home(node.module, a.name) for a in node.names}
    return found


def attributes(path: Path) -> set[str]:
    """The modules of ``package.name``, where the package is imported."""
    names = imported(path)
    return {
        home(names[node.value.id], node.attr)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
    }


def strings(path: Path) -> set[str]:
    constants = (node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str)}


def called_methods(path: Path) -> set[str]:
    calls = (node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call))
    return {function.attr for function in calls if isinstance(function, ast.Attribute)}


def with_helpers(path: Path) -> set[Path]:
    """A test file and every file of tests/ and vectors/ that it imports, or runs as a program."""
    found, to_read = set(), [path]
    while to_read:
        path = to_read.pop()
        if path not in found:
            found.add(path)
            programs = {text for text in strings(path) if text.startswith("tests.")}
            sources = {source(name) for name in {*imported(path).values(), *programs}} - {None}
            to_read += [helper for helper in sources if PACKAGE not in helper.parents]
    return found


def homes_of(methods: str) -> dict[str, str]:
    """{method: the only module that defines it}."""
    homes = defaultdict(set)
    for module in MODULES:
        for node in ast.walk(tree(PACKAGE / f"{module}.py")):
            if isinstance(node, ast.FunctionDef):
                homes[node.name].add(module)
    assert all(len(homes[name]) == 1 for name in methods.split())
    return {name: min(homes[name]) for name in methods.split()}


METHODS = homes_of(
    "prune_heads resize_token_embeddings get_input_embeddings load_state_dict num_parameters "
    "state_dict zero_grad to_tuple"
)
"""What a test calls of a model or an output, whose module it then need not import."""


@cache
def named(file: str) -> frozenset[str]:
    """The modules that a test file or its helpers import, look up by name, or call a method of.

    Names are looked up in ``minizha`` itself (``getattr(minizha, name)``), and imported in programs
    that are strings, for a process of their own.
    """
    paths = with_helpers(TESTS / f"{file}.py")
    dotted = {name for path in paths for name in (*imported(path).values(), *attributes(path))}
    texts = {text for path in paths for text in strings(path)}
    if "minizha" in dotted:
        dotted |= {exports("minizha")[name] for name in texts & exports("minizha").keys()}
    for text in texts:
        dotted |= {home(*names) for names in PROGRAM.findall(text) if source(names[0])}
    methods = {name for path in paths for name in called_methods(path)} & METHODS.keys()
    packages = {name.rpartition(".")[0] for name in dotted}
    return frozenset(
        {name[8:].replace(".", "/") for name in dotted | packages if name.startswith("minizha.")}
        | {METHODS[name] for name in methods}
    )


def reached(module: str) -> set[str]:
    """What a module or package imports, directly or through others, and itself."""
    found, to_read = set(), [f"minizha.{module.replace('/', '.')}"]
    while to_read:
        name = to_read.pop()
        if name not in found and name.startswith("minizha."):
            found.add(name)
            to_read += imported(source(name)).values()
    return {name[8:].replace(".", "/") for name in found}


def exercises(file: str, key: str, through: str = "") -> bool:
    """Whether the file names the module (of a folder: one of its modules), or calls it ``through``."""
    names = named(file)
    if key.endswith("/"):
        return any(f"{name}/".startswith(key) for name in names)
    return key in names or any(name in names and key in reached(name) for name in through.split())


# --- the map is complete --------------------------------------------------------------------------


def test_every_module_has_a_test_file_or_a_row():
    missing = [module for module in MODULES if mirror(module) not in FILES and module not in ROWS]
    assert missing == [], f"add a row to tests/module_map.py for each of {missing}"
    assert all(files_of(module) for module in MODULES)


def test_every_test_file_is_on_the_map():
    named_after = {mirror(module) for module in MODULES}
    listed = {file for row in ROWS.values() for file in row.files.split()} | set(REPOSITORY)
    missing = sorted(set(FILES) - named_after - listed)
    assert missing == [], f"add to a row of tests/module_map.py, or to REPOSITORY: {missing}"
    assert sorted(set(REPOSITORY) - set(FILES)) == []
    assert not named_after & set(REPOSITORY)


def test_rows_name_modules_and_files_that_exist():
    unknown = [key for key in ROWS if not any(f"{module}/".startswith(key) for module in MODULES)]
    assert unknown == []
    for key, row in ROWS.items():
        assert sorted(set(row.files.split()) - set(FILES)) == [], key
        assert mirror(key) not in row.files.split(), f"{key}: the file named after it needs no row"


def test_every_file_has_tests():
    for file in FILES:
        nodes = ast.walk(tree(TESTS / f"{file}.py"))
        names = (node.name for node in nodes if isinstance(node, ast.FunctionDef))
        assert any(name.startswith("test_") for name in names), file


# --- the files exercise the modules ---------------------------------------------------------------


def test_each_file_of_a_row_exercises_its_module():
    idle = [
        f"tests/{file}.py neither imports {key} nor calls {row.through or 'its methods'}"
        for key, row in ROWS.items()
        for file in row.files.split()
        if not exercises(file, key, row.through)
    ]
    assert idle == [], "\n".join(idle)


def test_through_is_said_only_where_a_file_does_not_name_the_module():
    direct = [
        key
        for key, row in ROWS.items()
        if row.through and all(exercises(file, key) for file in row.files.split())
    ]
    assert direct == []


def test_a_file_named_after_a_module_reaches_it():
    mirrored = [module for module in MODULES if mirror(module) in FILES]
    assert len(mirrored) > 50
    for module in mirrored:
        names = named(mirror(module))
        assert module in names or any(module in reached(name) for name in names), module


@pytest.mark.parametrize(
    ("file", "key", "through"),
    [
        ("ops/test_linear", "ops/softmax", ""),
        ("ops/test_linear", "nezha/", ""),
        ("ops/test_linear", "nezha/attention", "model/nezha"),
        ("model/test_pruning", "model/generation", ""),
        ("model/test_pruning", "crosscheck/vectors", "model/base"),
        ("checkpoint/test_names", "checkpoint/pickle_machine", "checkpoint/torch_file"),
    ],
)
def test_a_file_that_does_not_exercise_the_module_is_seen(file, key, through):
    """Negative control: neither named, nor called through a module that imports it."""
    assert not exercises(file, key, through)


def test_a_wrong_row_is_seen(monkeypatch):
    """Negative controls of the checks of rows."""
    monkeypatch.setitem(ROWS, "model/adapting", Row("ops/test_linear"))
    with pytest.raises(AssertionError, match=r"test_linear.py neither imports model/adapting"):
        test_each_file_of_a_row_exercises_its_module()
    monkeypatch.setitem(ROWS, "model/adapting", Row("model/test_pruning", through="model/nezha"))
    with pytest.raises(AssertionError, match="model/adapting"):
        test_through_is_said_only_where_a_file_does_not_name_the_module()
    monkeypatch.setitem(ROWS, "model/adapting", Row("model/test_pruning model/test_nothing"))
    with pytest.raises(AssertionError, match="test_nothing"):
        test_rows_name_modules_and_files_that_exist()
    monkeypatch.delitem(ROWS, "model/adapting")
    with pytest.raises(AssertionError, match="model/adapting"):
        test_every_module_has_a_test_file_or_a_row()
    with pytest.raises(AssertionError, match="model/test_pruning"):
        test_every_test_file_is_on_the_map()
