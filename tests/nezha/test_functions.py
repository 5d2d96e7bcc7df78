"""Rules for every function and class: few arguments, backward functions without the configuration, and
a network of functions only."""

import ast
import inspect
import pkgutil
from importlib import import_module

import pytest

import minizha.nezha
from minizha import MinizhaError, NezhaConfig
from minizha.model.auto import CLASSES
from minizha.nezha.parameters import Tree
from tests.test_architecture import MODULES

MOST = 6  # positional arguments


def long_signatures(source):
    """(name, number of positional parameters) of each function that has too many."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            count = len(names) - (names[:1] in (["self"], ["cls"]))
            name = getattr(node, "name", "lambda")
            if count > MOST and name != "__call__":
                yield name, count


@pytest.mark.parametrize("module", MODULES)
def test_no_function_takes_more_than_six_arguments_by_position(module):
    assert list(long_signatures(MODULES[module])) == []


def test_a_long_signature_is_seen():
    """Negative control."""
    assert list(long_signatures("def f(a, b, c, d, e, f, *, g): ...")) == []
    assert list(long_signatures("def f(self, a, b, c, d, e, f): ...")) == []
    assert list(long_signatures("class C:\n def f(a, b, c, d, e, f, g): ...")) == [("f", 7)]
    assert list(long_signatures("f = lambda a, b, c, d, e, f, g: 0")) == [("lambda", 7)]


def backwards_with(source, argument):
    return [
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        and node.name.endswith("_backward")
        and argument in {a.arg for a in (*node.args.args, *node.args.kwonlyargs)}
    ]


@pytest.mark.parametrize("module", MODULES)
def test_no_backward_function_takes_the_configuration(module):
    assert backwards_with(MODULES[module], "config") == []


def test_a_backward_function_with_a_configuration_is_seen():
    """Negative control."""
    source = "def f_backward(dy, cache, config): ...\ndef g(config): ..."
    assert backwards_with(source, "config") == ["f_backward"]


def own_classes(module):
    return [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__
    ]


def is_record(cls):
    """Whether a class is a named tuple without methods."""
    methods = [n for n, v in vars(cls).items() if inspect.isfunction(v) and n[0] != "_"]
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and methods == []


def test_the_network_is_functions_only():
    """But for named tuples, and the tree of parameters."""
    path = minizha.nezha.__path__
    modules = [import_module(m.name) for m in pkgutil.iter_modules(path, "minizha.nezha.")]
    classes = [cls for module in modules for cls in own_classes(module)]
    assert len(classes) > 20
    assert [cls for cls in classes if not is_record(cls)] == [Tree]
    assert not is_record(CLASSES[0])


def test_the_classes_are_two_levels_deep():
    for cls in CLASSES:
        ancestor, level = cls, 0
        while ancestor.__base__ is not object:
            ancestor, level = ancestor.__base__, level + 1
        assert level == 2, cls


def test_the_base_of_the_classes_is_no_class_to_use():
    with pytest.raises(MinizhaError, match=r"^NezhaPreTrainedModel: expected one of the Nezha cla"):
        CLASSES[0].__base__(NezhaConfig())
