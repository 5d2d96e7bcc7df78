"""The faults of the shapes at the ends of a function's lines, found from its recorded calls."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.inline_shapes import Assignment, Axes, Call, Watched, shapes_of
from tests.support.shape_lines import ShapeError, fit_shape, parse, shapes_line

LEAST = 5  # sizes


class Fit(NamedTuple):
    """A function's comments compared with its calls. By line: the first misfit, and the sizes at which
    all axes of the comment differed. ``same`` maps each symbol that only comments have to the axes
    of the docstring that it was equal to in every call."""

    misfits: dict[int, str]
    sizes: dict[int, set]
    same: dict[str, set[str]]


def faults(watched: Watched, least: int = LEAST) -> list[str]:
    """A sentence for each fault, with its location."""
    found, comments = [], {}
    for assignment in watched.assignments.values():
        try:
            shapes = _readable(watched, assignment)
        except ShapeError as error:
            found.append((assignment.line, str(error)))
        else:
            if shapes:
                comments[assignment.line] = shapes
    fit = fitted(watched, comments)
    found += fit.misfits.items()
    for line, shapes in comments.items():
        sizes = len(fit.sizes.get(line, ()))
        if line not in fit.misfits and any(shapes) and sizes < least:
            found.append((line, f"{sizes} sizes with all axes different, expected {least}"))
    start = watched.function.__code__.co_firstlineno
    for symbol, axes in fit.same.items():
        if axes:
            found.append((start, f"{symbol} is {' and '.join(sorted(axes))} in every call"))
    name = watched.function.__name__
    return [f"{watched.place}:{line}: {name}: {text}" for line, text in sorted(found)]


def comments_of(watched: Watched) -> dict[int, tuple[Axes, ...]]:
    """The shapes that the function's comments have, by line."""
    lines = watched.assignments.values()
    return {a.line: shapes_of(a.comment) for a in lines if a.comment is not None}


def _readable(watched: Watched, assignment: Assignment) -> tuple[Axes, ...]:
    """The comment's shapes; an error where it can't be compared, or is missing."""
    line, targets, comment = assignment
    if not _notes(watched, line):
        raise ShapeError("no case reaches this line")
    arrays = _arrays(watched, line)
    if comment is None:
        _not_missing(watched, assignment)
        return ()
    shapes = shapes_of(comment)
    if len(shapes) != len(arrays):
        names = ", ".join(targets[k] for k in arrays) or "none"
        raise ShapeError(f"{comment}: {len(shapes)} shapes, but the arrays are: {names}")
    return shapes


def _notes(watched: Watched, line: int) -> list[tuple]:
    return [shapes for call in watched.calls for at, shapes in call.notes if at == line]


def _arrays(watched: Watched, line: int) -> list[int]:
    """The indices of the targets that are arrays in any call."""
    columns = enumerate(zip(*_notes(watched, line), strict=True))
    return [k for k, shapes in columns if set(shapes) != {None}]


def _not_missing(watched: Watched, assignment: Assignment) -> None:
    """An error where the line makes a shape that the call did not have before."""
    for call in watched.calls:
        seen = set(call.given)
        for line, shapes in call.notes:
            arrays = [shape for shape in shapes if shape is not None]
            if line == assignment.line and not seen.issuperset(arrays):
                text = ", ".join(_in_symbols(watched, call, shape) for shape in arrays)
                raise ShapeError(f"missing: # {text}")
            seen.update(arrays)


def _in_symbols(watched: Watched, call: Call, shape: tuple[int, ...]) -> str:
    """The shape as a comment would have it; numbers where no symbol of the docstring fits."""
    sizes, axes = dict(call.sizes), []
    lead = sizes.get("…", ())
    if lead and shape[: len(lead)] == lead:
        axes, shape = ["…"], shape[len(lead) :]
    for size in shape:
        axes.append(next(_equal(watched, sizes, size), str(size)))
    return f"({', '.join(axes)})"


def _equal(watched: Watched, sizes: dict, size: int) -> Iterator[str]:
    """The docstring's axes of this size."""
    line = parse(shapes_line(watched.function))
    axes = [axis for side in line for item in side for axis in item.axes]
    for axis in dict.fromkeys([*axes, *sizes]):
        symbols = re.findall(r"[A-Za-z]\w*", axis)
        if symbols and " or " not in axis and all(symbol in sizes for symbol in symbols):
            try:
                fit_shape((axis,), (size,), dict(sizes), "")
            except ShapeError:
                continue
            yield axis


def fitted(watched: Watched, comments: dict[int, tuple[Axes, ...]]) -> Fit:
    """Compare comments with all calls."""
    fit = Fit({}, {}, {})
    arrays = {line: _arrays(watched, line) for line in comments}
    for call in watched.calls:
        sizes = dict(call.sizes)
        for line, shapes in call.notes:
            if line in comments:
                _fit_line(line, comments[line], [shapes[k] for k in arrays[line]], sizes, fit)
        for symbol in sizes.keys() - dict(call.sizes).keys() - {"…"}:
            same = set(_equal(watched, dict(call.sizes), sizes[symbol]))
            fit.same[symbol] = fit.same.get(symbol, same) & same
    return fit


def _fit_line(line: int, comment: tuple[Axes, ...], shapes: list, sizes: dict, fit: Fit) -> None:
    """One line in one call; targets that are no arrays in this call are skipped."""
    pairs = [pair for pair in zip(comment, shapes, strict=True) if pair[1] is not None]
    for axes, shape in pairs:
        what = f"({', '.join(axes)}), found {shape} where {sizes}"
        try:
            fit_shape(axes, shape, sizes, what)
        except ShapeError as error:
            fit.misfits.setdefault(line, str(error))
            return
    if all(_different(axes, shape) for axes, shape in pairs):
        fit.sizes.setdefault(line, set()).add(tuple(shapes))


def _different(axes: Axes, shape: tuple[int, ...]) -> bool:
    """Whether axes that are written differently have different sizes."""
    lead, names = len(shape) - len(axes) + 1, []
    for axis in axes:
        names += [f"…{n}" for n in range(lead)] if axis == "…" else [axis]
    sizes = dict(zip(names, shape, strict=True))
    return len(set(sizes.values())) == len(sizes)
