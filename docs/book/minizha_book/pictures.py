"""Pictures: matplotlib's figures become SVG in the colours of the page, and need alternative text."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

STYLE = {
    "svg.fonttype": "path",
    "svg.hashsalt": "minizha",  # the same figure gives the same bytes
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
    "mathtext.fontset": "cm",
    "font.size": 10,
}
"""matplotlib's settings for every picture of the book."""


def figure(
    width: float = 6.5, height: float = 2.8, columns: int = 1, rows: int = 1, **options: Any
) -> Any:
    """``fig, axes``: a figure of so many inches; ``fig`` as the last line of a cell shows it."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(STYLE)
    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, **options)


def heat(
    axes: Any, matrix: Any, title: str = "", x: str = "", y: str = "", limit: float | None = None
) -> Any:
    """A matrix as a heat map: red positive, blue negative, white zero; row 0 is at the top."""
    limit = abs(matrix).max() if limit is None else limit
    image = axes.pcolormesh(
        matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, edgecolors="#8884", linewidth=0.3
    )
    axes.invert_yaxis()
    axes.set(title=title, xlabel=x, ylabel=y, aspect="equal")
    axes.set_xticks([i + 0.5 for i in range(matrix.shape[1])], range(matrix.shape[1]))
    axes.set_yticks([i + 0.5 for i in range(matrix.shape[0])], range(matrix.shape[0]))
    axes.tick_params(length=0, labelsize=7)
    return image


def svg(fig: Any) -> str:
    """The figure as SVG, the same bytes each time."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        out = io.StringIO()
        fig.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return out.getvalue()


def show_as_svg(shell: Any) -> None:
    """Let a notebook's kernel show figures as SVG; called when the kernel starts."""
    formatter = shell.display_formatter.formatters["image/svg+xml"]
    formatter.for_type_by_name("matplotlib.figure", "Figure", svg)


# -- in the pages ---------------------------------------------------------------------------------


def check(app: Any, doctree: Any) -> None:
    """A picture without alternative text fails the build."""
    from docutils import nodes
    from sphinx.util import logging

    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            logging.getLogger(__name__).warning("a picture has no alternative text", location=image)


def inline(app: Any, doctree: Any, name: str) -> None:
    """Put the SVG itself into the page: there it follows the colours of the page."""
    from docutils import nodes

    if app.builder.format != "html":
        return
    for count, image in enumerate(list(doctree.findall(nodes.image))):
        if image["uri"].endswith(".svg"):
            path = Path(app.srcdir) / image["uri"].lstrip("/")
            if path.is_file():
                html = page_svg(path.read_text(encoding="utf-8"), image.get("alt", ""), count)
                image.replace_self(nodes.raw("", html, format="html"))


def page_svg(text: str, alt: str, count: int) -> str:
    """The SVG element: ids are unique in the page, black is the colour of the page's text."""
    from html import escape

    text = re.sub(r".*?<svg ", "<svg ", text, count=1, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<style>@media.*?</style>", "", text)  # for who opens the file itself
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{count}-", text)
    text = re.sub(r"#000000\b", "currentColor", text)
    text = re.sub(r' (?:width|height)="[\d.]+(?:pt)?"', "", text, count=2)
    # a tenth of a pixel is enough; full digits are half of the page
    text = re.sub(
        r'\bd="([^"]*)"(?= transform="scale\(0\.0)', lambda m: f'd="{_rounded(m[1], 0)}"', text
    )
    text = re.sub(r'\b(d|x|y)="([^"]*)"', lambda m: f'{m[1]}="{_rounded(_thinned(m[2]))}"', text)
    text = re.sub(r">\s+<", "><", text)
    width = re.search(r'viewBox="0 0 ([\d.]+)', text)
    wide = f"max-width:{float(width[1]) * 96 / 72:.0f}px" if width else ""
    label = escape(alt, quote=True)
    return f'<div class="picture" role="img" aria-label="{label}" style="{wide}">{text}</div>'


def _rounded(numbers: str, digits: int = 2) -> str:
    def short(match: re.Match[str]) -> str:
        text = f"{float(match[0]):.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text

    return " ".join(re.sub(r"-?\d+\.\d+", short, numbers).split())


def _thinned(path: str, off: float = 0.1) -> str:
    """A long line without the points that are less than ``off`` pixels from what remains."""
    if path.count("L") < 100 or re.search("[^MLz0-9.e\\s+-]", path):
        return path
    lines = []
    for line in re.findall(r"M[^Mz]*z?", path):
        points = [
            complex(*map(float, p.split())) for p in re.split("[ML]", line.rstrip("z")) if p.strip()
        ]
        kept, first = [points[0]], 0
        for last in range(2, len(points)):
            chord = points[last] - points[first]
            length = abs(chord) or 1.0
            between = (points[i] - points[first] for i in range(first + 1, last))
            if any(abs((p * chord.conjugate()).imag) > off * length for p in between):
                first = last - 1
                kept.append(points[first])
        kept.append(points[-1])
        lines.append(
            "M " + " L ".join(f"{p.real} {p.imag}" for p in kept) + line[len(line.rstrip("z")) :]
        )
    return " ".join(lines)


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("doctree-read", check)
    app.connect("doctree-resolved", inline)
