"""Putting a mistake into the package: functions replaced by wrong ones, wherever they are looked up."""

import functools

from minizha.ops.operation import operation


def as_operation(right, wrong):
    """``wrong`` marked as an operation, so that a trace has what it takes and returns."""

    @functools.wraps(right)
    def call(*arguments, **options):
        return wrong(*arguments, **options)

    return operation(call)


def changed_pair(pair, **halves):
    """A pair in a table, such as ``ACTIVATIONS["gelu"]``, with another ``forward`` or ``backward``."""
    return pair._replace(**{n: as_operation(getattr(pair, n), half) for n, half in halves.items()})


def replaced(monkeypatch, owners, name, wrong):
    """``wrong(right)`` takes the function's place in each module or class that has the name."""
    owners = owners if isinstance(owners, tuple) else (owners,)
    assert any(hasattr(owner, name) for owner in owners), f"nothing is called {name}"
    for owner in owners:
        if hasattr(owner, name):
            right = getattr(owner, name)
            is_operation = getattr(right, "__module__", "").startswith("minizha.ops.")
            new = as_operation(right, wrong(right)) if is_operation else wrong(right)
            monkeypatch.setattr(owner, name, new)


def changed_result(monkeypatch, owners, name, change):
    """The function's result goes through ``change(result, *arguments)``."""

    def wrong(right):
        def call(*arguments, **options):
            return change(right(*arguments, **options), *arguments)

        return call

    replaced(monkeypatch, owners, name, wrong)


def changed_y(monkeypatch, owners, name, change):
    """The ``y`` of ``(y, cache)`` goes through ``change(y, *arguments)``."""

    def new_y(result, *arguments):
        y, cache = result
        return change(y, *arguments), cache

    changed_result(monkeypatch, owners, name, new_y)


def changed_gradient(monkeypatch, owners, name, change):
    """The gradient goes through ``change(gradient, dy, cache)``; the cache is right."""
    changed_result(monkeypatch, owners, name, lambda d, dy, cache, *_: change(d, dy, cache))


def changed_arguments(monkeypatch, owners, name, change):
    """The function is called with ``change(*arguments)`` for its positional arguments."""

    def wrong(right):
        return lambda *arguments, **options: right(*change(*arguments), **options)

    replaced(monkeypatch, owners, name, wrong)


def changed_options(monkeypatch, owners, name, **changes):
    """These keywords get other values, or functions of the positional arguments."""

    def wrong(right):
        def call(*arguments, **options):
            new = {n: c(*arguments) if callable(c) else c for n, c in changes.items()}
            return right(*arguments, **(options | new))

        return call

    replaced(monkeypatch, owners, name, wrong)


def remembering(memory, name, argument):
    """A wrapper that stores one argument, by its position or its keyword, as ``memory[name]``."""

    def wrong(right):
        def call(*arguments, **options):
            memory[name] = options[argument] if isinstance(argument, str) else arguments[argument]
            return right(*arguments, **options)

        return call

    return wrong
