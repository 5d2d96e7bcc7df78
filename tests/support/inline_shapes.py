"""The shapes at the ends of lines, executed.

    key_term, cache = relative_key(query, table, length_k)  # (B, N, Lq, Lk)
    x, weight = cache  # (…, I), (O, I): a comment of the usual kind may follow

Such a comment ends an assignment in a function whose docstring has a "Shapes:" line. It has one
shape for each target that is an array, in order; axes are written as in docstrings and mean the same
numbers. The first comment with a symbol that the docstring does not have defines it for the call.
Comments that do not start with ``(`` are not read, and targets of loops are no assignments.

A function is watched by replacing its code by the same code with a note after each assignment and
around each result; so every name of the function works. A note has the shapes of arrays, not the
arrays. A named tuple of arrays of one shape counts as an array, as it does in docstrings; caches,
lists and other tuples do not.
"""

import ast
import copy
import functools
import inspect
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.shape_lines import ShapeError, argument, axes_of, check, parse, shapes_line

HOOK = "_note_shapes"
CALL = "_noted_call"
SHAPES = re.compile(r"# (?P<shapes>\([^()]*\)(?:, \([^()]*\))*)(?:: \S.*)?")

Axes = tuple[str, ...]


class Assignment(NamedTuple):
    """The line where it ends, the names it binds, and the comment there, if it has shapes."""

    line: int
    targets: tuple[str, ...]
    comment: str | None


class Call(NamedTuple):
    """The sizes of the symbols, the shapes of the arguments, and for each assignment, in order, its
    line and shapes; None for what is no array."""

    sizes: tuple[tuple[str, Any], ...]
    given: frozenset[tuple[int, ...]]
    notes: tuple[tuple[int, tuple[tuple[int, ...] | None, ...]], ...]


class Watched(NamedTuple):
    """A function's assignments by line, and its calls, each distinct one once."""

    function: Callable
    assignments: dict[int, Assignment]
    calls: dict[Call, None]

    @property
    def place(self) -> str:
        return "/".join(Path(self.function.__code__.co_filename).parts[-3:])


# --- reading --------------------------------------------------------------------------------------


def plain(function: Callable) -> Callable:
    """The function as it is written, under its decorators."""
    return inspect.unwrap(getattr(function, "plain", function))


@functools.cache
def _read(file: str) -> tuple[ast.Module, dict[int, str]]:
    """The file's tree, and, by line, the comments after code that start with ``(``."""
    text, comments = Path(file).read_text(encoding="utf-8"), {}
    lines = text.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        row, column = token.start
        behind_code = lines[row - 1][:column].strip()
        if token.type == tokenize.COMMENT and behind_code and token.string.startswith("# ("):
            comments[row] = token.string
    return ast.parse(text), comments


def _definition(function: Callable) -> ast.FunctionDef:
    code = function.__code__
    for node in ast.walk(_read(code.co_filename)[0]):
        if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
            continue
        if min(n.lineno for n in (node, *node.decorator_list)) == code.co_firstlineno:
            return node
    raise LookupError(f"{function.__name__}: no definition found")


def read(function: Callable) -> Watched:
    """The assignments of a function to names, and no calls yet."""
    comments, found = _read(function.__code__.co_filename)[1], {}

    class Reader(_Walk):
        def assigned(self, node, names):
            line = node.end_lineno
            if line in found:
                raise ShapeError(f"{function.__name__}: two assignments end on line {line}")
            found[line] = Assignment(line, names, comments.get(line))
            return node

    Reader().body_of(_definition(function))
    return Watched(function, found, {})


def loose_comments(files: Iterable[str], watched: Iterable[Watched]) -> list[str]:
    """Shapes in the files on lines where no assignment of these functions ends."""
    known = {(w.function.__code__.co_filename, line) for w in watched for line in w.assignments}
    return [
        f"{Path(file).name}:{line}: {comment}: no assignment in a function with Shapes ends here"
        for file in files
        for line, comment in _read(file)[1].items()
        if (file, line) not in known
    ]


def shapes_of(comment: str) -> tuple[Axes, ...]:
    """The shapes that a comment has."""
    match = SHAPES.fullmatch(comment)
    if match is None:
        raise ShapeError(f"can't read the comment {comment!r}")
    return tuple(axes_of(shape) for shape in re.findall(r"\(([^()]*)\)", match["shapes"]))


# --- watching -------------------------------------------------------------------------------------


class _Walk(ast.NodeTransformer):
    """Passes each assignment to names to ``assigned``; leaves functions in the function alone."""

    def body_of(self, definition):
        body = []
        for node in definition.body:
            new = self.visit(node)
            body.extend(new if isinstance(new, list) else [new])
        return body

    def visit_FunctionDef(self, node):
        return node

    visit_Lambda = visit_ClassDef = visit_FunctionDef

    def visit_NamedExpr(self, node):
        raise ShapeError(
            f"line {node.lineno}: an assignment inside of an expression can't be noted"
        )

    def _statement(self, node):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = tuple(name for target in targets for name in _names(target))
        return self.assigned(node, names) if names else node

    visit_Assign = visit_AugAssign = visit_AnnAssign = _statement


def _names(target: ast.expr) -> Iterator[str]:
    """The names among the targets, without ``_``; ``x[i] = …`` and ``x.y = …`` bind none."""
    if isinstance(target, ast.Name) and target.id != "_":
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for part in target.elts:
            yield from _names(part)


class _Noting(_Walk):
    """Adds ``call.assigned(line, x, …)`` after assignments, and ``call.returned(…)`` around results."""

    def assigned(self, node, names):
        values = [ast.Name(name, ast.Load()) for name in names]
        return [node, ast.Expr(_method("assigned", ast.Constant(node.end_lineno), *values))]

    def visit_Return(self, node):
        node.value = _method("returned", node.value or ast.Constant(None))
        return node


def _method(name: str, *arguments: ast.expr) -> ast.expr:
    method = ast.Attribute(ast.Name(CALL, ast.Load()), name, ast.Load())
    return ast.Call(method, list(arguments), [])


def _noting_code(function: Callable, key: int) -> Any:
    """The function's code with notes; ``key`` identifies the function to the hook."""
    definition = copy.deepcopy(_definition(function))
    start = ast.parse(f"{CALL} = {HOOK}({key}, locals())").body
    definition.decorator_list, definition.body = [], start + _Noting().body_of(definition)
    module = ast.fix_missing_locations(ast.Module([definition], []))
    codes = compile(module, function.__code__.co_filename, "exec", dont_inherit=True).co_consts
    return next(code for code in codes if getattr(code, "co_name", "") == function.__name__)


class _Notes:
    """A call in progress."""

    def __init__(self, watched: Watched, arguments: dict[str, Any], known: dict | None):
        self.watched, self.arguments, self.known = watched, arguments, known
        self.notes: list = []

    def assigned(self, line: int, *values: Any) -> None:
        self.notes.append((line, tuple(shape_of(value) for value in values)))

    def returned(self, result: Any) -> Any:
        function, arguments = self.watched.function, self.arguments
        sizes = check(function, arguments, result, self.known)
        items = parse(shapes_line(function)).arguments
        declared = (argument(function, item.name, arguments) for item in items)
        given = {shape_of(value) for value in (*arguments.values(), *declared)} - {None}
        call = Call(tuple(sizes.items()), frozenset(given), tuple(self.notes))
        self.watched.calls[call] = None
        return result


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of an array, or of each array in a named tuple; None for everything else."""
    if hasattr(value, "_fields"):
        shapes = {shape_of(part) for part in value if part is not None}
        cache = type(value).__name__.endswith("Cache")
        return shapes.pop() if len(shapes) == 1 and not cache else None
    shape = getattr(value, "shape", None)
    return shape if isinstance(shape, tuple) and hasattr(value, "dtype") else None


@contextmanager
def watching_lines(watched: Iterable[Watched]) -> Iterator[Callable[[dict | None], None]]:
    """Record calls of these functions; yields a function that sets the sizes of symbols for the calls
    that follow."""
    watched, known = list(watched), {}

    def hook(key: int, arguments: dict[str, Any]) -> _Notes:
        return _Notes(watched[key], dict(arguments), known)

    def legend(symbols: dict | None) -> None:
        known.clear()
        known.update(symbols or {})

    codes = [_noting_code(w.function, key) for key, w in enumerate(watched)]
    with pytest.MonkeyPatch.context() as patch:
        for w, code in zip(watched, codes, strict=True):
            patch.setattr(w.function, "__code__", code)
            patch.setitem(w.function.__globals__, HOOK, hook)
        yield legend
