"""Equations that are proved: an executed cell computes both sides, and wrong versions must fail.

In a chapter's cell, ``proves("ln-dx", left, right)`` compares the two sides of the equation with the label
``ln-dx``. Then the expression that was written for ``right`` is changed, one place at a time: these
are its wrong twins. Each of them must miss ``left``. So a proof can't pass by data that
hide an error, and can't compare a thing with itself alone.
"""

from __future__ import annotations

import ast
import copy
import inspect
import re
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

TOLERANCE = 1e-12
"""The largest |left − right| / max(1, |right|) of an equation that holds, in float64."""

REFUSED = 1e-7
"""A wrong twin must miss by more than this."""

LINE = re.compile(r"^([\w-]+): (\S+), (\d+) wrong twins refused$")


NAMED = re.compile(r"[Ee]quations? ((?:``[\w-]+``(?:, | and )?)+)")


def named_labels(docstring: str) -> list[str]:
    """The labels of the equations that a docstring names, as in "equations ``ln-dw`` and ``ln-dx``"."""
    text = " ".join(docstring.split())
    return [label for m in NAMED.finditer(text) for label in re.findall(r"``([\w-]+)``", m[1])]


class Proof(NamedTuple):
    """What one call of :func:`proves` found."""

    label: str
    error: str
    twins: int


# -- in the cells ---------------------------------------------------------------------------------


def proves(label: str, left: Any, right: Any, *, equal_twins: int = 0) -> None:
    """Prove an equation: both sides agree to 1e-12, and every wrong twin of ``right`` does not.

    ``left`` and ``right`` are numbers, arrays, or tuples of them, in float64. Write the formula itself as
    the third argument: its wrong twins are made from what stands there. If ``right`` is
    zero everywhere, the twins are made from ``left``. A twin that can't be computed, or has another
    shape, is not counted. ``equal_twins`` is the number of changes that change nothing, for example the
    sign of a term that is zero; say why beside it.
    """
    error = distance(left, right, label)
    if not error <= TOLERANCE:
        raise AssertionError(f"{label}: the sides differ by {error:.1e}")
    frame = inspect.currentframe().f_back
    zero = all(_is_zero(part) for part in _parts(right))
    written, other = (1, right) if zero else (2, left)
    refused, equal = 0, []
    expression = _argument(frame, written)
    changed = list(twins(expression))
    if not changed:
        raise AssertionError(f"{label}: nothing can be changed; write the formula as the argument")
    for words, twin in [*negated(expression, _parts(right)), *changed]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                value = eval(compile(twin, "<twin>", "eval"), frame.f_globals, frame.f_locals)
                wrong = not distance(value, other, label) <= REFUSED  # a NaN is wrong
            except Exception:  # noqa: BLE001  # a changed formula may fail in any way
                continue  # nobody could take it for the right one
        refused += wrong
        equal += [] if wrong else [f"{words} in {ast.unparse(twin.body)}"]
    if len(equal) != equal_twins:
        raise AssertionError(
            f"{label}: {len(equal)} wrong twins pass, {equal_twins} were expected:\n"
            + "\n".join(equal)
        )
    if not refused:
        raise AssertionError(f"{label}: no wrong twin can be computed")
    print(f"{label}: {error:.0e}, {refused} wrong twins refused")


def distance(left: Any, right: Any, label: str) -> float:
    """The largest |left − right| / max(1, |right|) over all parts; infinite if shapes differ."""
    pairs = list(zip(_parts(left), _parts(right), strict=True))
    for a, b in pairs:
        if a.shape != b.shape:
            raise ValueError(f"{label}: the shapes {a.shape} and {b.shape} differ")
        if a.dtype != np.float64 or b.dtype != np.float64 or not a.size:
            raise ValueError(f"{label}: expected numbers in float64, found {a.dtype}, {b.dtype}")
    errors = [np.abs(a - b).max() / max(1.0, np.abs(b).max()) for a, b in pairs]
    return float(np.max(errors))  # np.max keeps a NaN


def _parts(side: Any) -> list[np.ndarray]:
    parts = side if isinstance(side, tuple) else (side,)
    return [np.asarray(part) for part in parts]


def _is_zero(part: np.ndarray) -> bool:
    return bool(np.abs(part).max(initial=0.0) <= TOLERANCE)


def _argument(frame: Any, index: int) -> ast.expr:
    """The expression that the caller wrote as the argument of this index."""
    import executing

    call = executing.Source.executing(frame).node
    if not isinstance(call, ast.Call) or len(call.args) <= index:
        raise AssertionError("proves: write label, left and right in this order, without names")
    return call.args[index]


def twins(expression: ast.expr) -> Iterator[tuple[str, ast.Expression]]:
    """The wrong versions of an expression: each has one place changed."""
    for index, node in enumerate(ast.walk(expression)):
        for words, change in _changes(node):
            whole = copy.deepcopy(expression)
            target = list(ast.walk(whole))[index]
            whole = _replaced(whole, target, change(target))
            yield words, ast.fix_missing_locations(ast.Expression(whole))


def negated(expression: ast.expr, parts: list[np.ndarray]) -> Iterator[tuple[str, ast.Expression]]:
    """The expression with the other sign; of a tuple, each part by itself. 0 has no other sign."""
    if not isinstance(expression, ast.Tuple):
        if not all(_is_zero(part) for part in parts):
            whole = ast.UnaryOp(ast.USub(), copy.deepcopy(expression))
            yield "the sign", ast.fix_missing_locations(ast.Expression(whole))
        return
    for index, part in enumerate(parts):
        if not _is_zero(part):
            whole = copy.deepcopy(expression)
            whole.elts[index] = ast.UnaryOp(ast.USub(), whole.elts[index])
            yield "the sign", ast.fix_missing_locations(ast.Expression(whole))


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            other = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
            yield "a sign", lambda n: ast.BinOp(n.left, other, n.right)
        case ast.BinOp(op=ast.Mult()):
            yield "a factor", lambda n: n.left
            yield "a factor", lambda n: n.right
        case ast.BinOp(op=ast.Div()):
            yield "a quotient", lambda n: ast.BinOp(n.left, ast.Mult(), n.right)
        case ast.BinOp(op=ast.MatMult()):
            yield "a transpose", lambda n: ast.BinOp(_transposed(n.left), ast.MatMult(), n.right)
            yield "a transpose", lambda n: ast.BinOp(n.left, ast.MatMult(), _transposed(n.right))
        case ast.UnaryOp(op=ast.USub()) if not isinstance(node.operand, ast.Constant):
            yield "a sign", lambda n: n.operand
        case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
            yield "a number", lambda n: ast.Constant(n.value + 1)
        case ast.Attribute(attr="T"):
            yield "a transpose", lambda n: n.value
        case ast.Name(id="sum"):  # Python's own: there is no mean
            yield "a function", lambda n: _with(n, "id", "max")
        case ast.Attribute(attr=name) | ast.Name(id=name) if name in SWAPPED:
            field = "attr" if isinstance(node, ast.Attribute) else "id"
            yield "a function", lambda n: _with(n, field, SWAPPED[name])


SWAPPED = {"sum": "mean", "mean": "sum", "max": "min", "min": "max", "sin": "cos", "cos": "sin",
           "exp": "cosh", "log": "log2", "tanh": "arctan", "sqrt": "cbrt"}  # fmt: skip
"""A function, and the one that takes its place in a wrong twin."""


def _transposed(node: ast.expr) -> ast.expr:
    return ast.Attribute(node, "T", ast.Load())


def _with(node: Any, field: str, value: str) -> Any:
    setattr(node, field, value)
    return node


def _replaced(tree: ast.expr, target: ast.AST, by: ast.expr) -> ast.expr:
    """The tree with one node replaced, which may be its root."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return by if node is target else self.generic_visit(node)

    return Replace().visit(tree)


# -- in the pages ---------------------------------------------------------------------------------


def check_page(app: Any, doctree: Any) -> None:
    """Every displayed equation of the book has a label and a proof; show both beside it."""
    from docutils import nodes
    from sphinx.util import logging

    name = app.env.docname
    log = logging.getLogger(__name__)
    if not name.startswith("docs/book/") or app.builder.name == "gettext":
        return
    proofs = {}
    for block in list(doctree.findall(nodes.literal_block)):
        lines = block.astext().strip().splitlines()
        found = [match for line in lines if (match := LINE.match(line))]
        proofs |= {m[1]: Proof(m[1], m[2], int(m[3])) for m in found}
        if found and len(found) == len(lines):
            block.parent.remove(block)  # the badges say the same
    shown = {}
    for block in list(doctree.findall(nodes.math_block)):
        label = block.get("label")
        if not label:
            log.warning("a displayed equation has no label", location=block)
        elif label not in proofs:
            log.warning("equation %r is shown and never proved", label, location=block)
        else:
            shown[label] = proofs[label]
            where = block.parent.index(block) + 1
            block.parent.insert(where, _badge(proofs[label], app.config.language))
    for label in sorted(proofs.keys() - shown.keys()):
        log.warning("%r is proved and never shown", label, location=name)
    if not hasattr(app.env, "book_proofs"):
        app.env.book_proofs = {}
    app.env.book_proofs[name] = shown


def _badge(proof: Proof, language: str) -> Any:
    from docutils import nodes

    from minizha_book.languages import word

    title = word("proved", language).format(error=proof.error, twins=proof.twins)
    html = f'<div class="proof"><span title="{title}">✓ {proof.error}</span></div>'
    return nodes.raw("", html, format="html")


def all_proofs(env: Any) -> dict[str, dict[str, Proof]]:
    """{page: {label: proof}}, in the order of the pages."""
    return dict(sorted(getattr(env, "book_proofs", {}).items()))


def purge(app: Any, env: Any, name: str) -> None:
    """Forget the proofs of a page that is read again."""
    getattr(env, "book_proofs", {}).pop(name, None)


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("doctree-read", check_page)
    app.connect("env-purge-doc", purge)
    app.setup_extension("minizha_book.ledger")
