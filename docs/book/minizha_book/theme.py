"""The theme, made small: without its icon font and its maps for developers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from markupsafe import Markup

UNUSED = ("scripts/fontawesome*", "vendor/fontawesome/**/*", "**/*.map", "images/logo_*")
"""What the theme brings to _static and no page loads."""
ICONS = re.compile(r"\.fa-[\w-]+(?:,\.fa-[\w-]+)*\{--fa:[^}]*\}")
"""The names of two thousand icons, in the theme's styles."""


def without_icons(html: str) -> Markup:
    """The head of a page without the script that draws icons; book.css draws them."""
    return Markup(re.sub(r"<script[^>]*fontawesome[^>]*></script>", "", html))


def prepare(app: Any) -> None:
    """Give the templates the filter."""
    if app.builder.format == "html":
        app.builder.templates.environment.filters["without_icons"] = without_icons


def clean(app: Any, error: Exception | None) -> None:
    """Remove what is not used, and the names of the icons from the theme's styles."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    for pattern in UNUSED:
        for path in static.glob(pattern):
            if path.is_file():
                path.unlink()
    styles = static / "styles/pydata-sphinx-theme.css"
    text = styles.read_text(encoding="utf-8")
    styles.write_text(ICONS.sub("", text), encoding="utf-8")


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("builder-inited", prepare)
    app.connect("build-finished", clean)
