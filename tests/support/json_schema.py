"""The rules of JSON Schema (draft 2020-12) that the schema of the test vectors uses; any other rule is
an error, so that none is ignored."""

import re

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
IGNORED = {"$schema", "$defs", "title", "description"}


def faults(value, schema, root=None, path="$"):
    """The faults of a value, one line each; an empty list if it is valid."""
    root = root or schema
    found = []
    for keyword, rule in schema.items():
        if keyword not in IGNORED:
            found += RULES[keyword](value, rule, schema, root, path)
    return found


def _type(value, rule, schema, root, path):
    names = [rule] if isinstance(rule, str) else rule
    # in Python a bool is an int
    fits = any(
        isinstance(value, TYPES[n]) and (not isinstance(value, bool) or n == "boolean")
        for n in names
    )
    return [] if fits else [f"{path}: expected {rule}, found {value!r:.50}"]


def _ref(value, rule, schema, root, path):
    *_, name = rule.split("/")
    assert rule == f"#/$defs/{name}", rule
    return faults(value, root["$defs"][name], root, path)


def _one_of(value, rule, schema, root, path):
    faults_of = [faults(value, option, root, path) for option in rule]
    fitting = sum(not found for found in faults_of)
    if fitting == 1:
        return []
    return [f"{path}: {fitting} of the alternatives fit", *min(faults_of, key=len)]


def _properties(value, rule, schema, root, path):
    if not isinstance(value, dict):
        return []
    return [
        line
        for name, inner in rule.items()
        if name in value
        for line in faults(value[name], inner, root, f"{path}.{name}")
    ]


def _additional(value, rule, schema, root, path):
    if not isinstance(value, dict):
        return []
    unlisted = [name for name in value if name not in schema.get("properties", {})]
    if rule is False:
        return [f"{path}: unknown {name}" for name in unlisted]
    return [line for n in unlisted for line in faults(value[n], rule, root, f"{path}.{n}")]


def _items(value, rule, schema, root, path):
    if not isinstance(value, list):
        return []
    return [line for i, v in enumerate(value) for line in faults(v, rule, root, f"{path}[{i}]")]


def _dependent(value, rule, schema, root, path):
    if not isinstance(value, dict):
        return []
    return [
        f"{path}: {need} is missing beside {name}"
        for name, needs in rule.items()
        for need in needs
        if name in value and need not in value
    ]


def _check(types, holds):
    """A rule for values of some types alone."""

    def check(value, rule, schema, root, path):
        if not isinstance(value, types) or isinstance(value, bool) or holds(value, rule):
            return []
        return [f"{path}: {value!r:.50} does not fit {rule!r}"]

    return check


def _same(value, rule):
    """In Python, True equals 1."""
    return type(value) is type(rule) and value == rule


def _alternatives(value, rule, schema, root, path):
    fits = any(_same(value, option) for option in rule)
    return [] if fits else [f"{path}: expected one of {rule}, found {value!r:.50}"]


RULES = {
    "type": _type,
    "$ref": _ref,
    "oneOf": _one_of,
    "properties": _properties,
    "additionalProperties": _additional,
    "dependentRequired": _dependent,
    "items": _items,
    "required": lambda value, rule, schema, root, path: (
        [f"{path}: {name} is missing" for name in rule if name not in value]
        if isinstance(value, dict)
        else []
    ),
    "const": lambda value, rule, *place: _alternatives(value, [rule], *place),
    "enum": _alternatives,
    "pattern": _check(str, lambda value, rule: re.search(rule, value)),
    "minLength": _check(str, lambda value, rule: len(value) >= rule),
    "minimum": _check((int, float), lambda value, rule: value >= rule),
    "exclusiveMinimum": _check((int, float), lambda value, rule: value > rule),
    "minItems": _check(list, lambda value, rule: len(value) >= rule),
    "maxItems": _check(list, lambda value, rule: len(value) <= rule),
    "minProperties": _check(dict, lambda value, rule: len(value) >= rule),
    "uniqueItems": _check(list, lambda value, rule: len({repr(v) for v in value}) == len(value)),
}
