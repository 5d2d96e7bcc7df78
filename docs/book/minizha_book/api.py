"""The pages of the API: what docstrings name leads somewhere, and fields without text are left out."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from docutils import nodes

from minizha_book.links import ROOT, address


def resolve(app: Any, env: Any, node: Any, content: Any) -> nodes.Node | None:
    """A name of the code that no page documents leads to its line in the source.

    The errors are documented in the page of the package and named without it. A name that does not
    exist stays unresolved, which fails the build.
    """
    if node.get("refdomain") != "py":
        return None
    target, page = node["reftarget"], node.get("refdoc", env.docname)
    if node["reftype"] == "exc":
        error = f"minizha.errors.{target}"
        domain = env.get_domain("py")
        found = domain.resolve_xref(env, page, app.builder, "exc", error, node, content)
        if found is not None:
            return found
    for name in (target, f"{node.get('py:module')}.{target}"):
        place = source_of(name)
        if place:
            return nodes.reference(
                "", "", content, internal=True, refuri=address(app, page, *place)
            )
    return None


def source_of(name: str) -> tuple[str, int] | None:
    """The file and the line where a name of the package is defined; None if there is none."""
    if not name.startswith("minizha."):
        return None
    try:
        module = importlib.import_module(name)
        return str(Path(module.__file__).relative_to(ROOT)), 0
    except ImportError:
        pass
    home, _, attribute = name.rpartition(".")
    try:
        module = importlib.import_module(home)
        thing = getattr(module, attribute)
    except (ImportError, AttributeError):
        return None
    file = str(Path(module.__file__).relative_to(ROOT))
    if inspect.isclass(thing) or inspect.isfunction(thing):
        thing = inspect.unwrap(thing)
        file = str(Path(inspect.getsourcefile(thing)).relative_to(ROOT))
        return file, inspect.getsourcelines(thing)[1]
    return file, 0


def leave_out(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a named tuple have no text of their own."""
    doc = inspect.getdoc(thing) or ""
    return True if doc.startswith("Alias for field number") else None


def shorten(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: Any
) -> tuple[str | None, Any]:
    """A default that is a module or a function is shown by its name."""
    if signature:
        signature = re.sub(r"<module '([\w.]+)'[^>]*>", r"\1", signature)
        signature = re.sub(r"<function (\w+) at 0x\w+>", r"\1", signature)
    return signature, returns


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-skip-member", leave_out)
    app.connect("autodoc-process-signature", shorten)
