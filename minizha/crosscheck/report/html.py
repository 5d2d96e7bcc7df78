"""The report as a self-contained HTML page without scripts, for light and dark screens and paper."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference, Location
from minizha.crosscheck.report.chart import depth_chart
from minizha.crosscheck.report.heat import heat_map
from minizha.crosscheck.report.style import STYLE
from minizha.crosscheck.report.words import (
    clean,
    entry_text,
    error_text,
    finding_text,
    number,
    safe,
    sizes,
    times,
    verdict,
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def as_html(report: Comparison) -> str:
    """The report as an HTML document.

    It has the verdict; the size of the first difference, a heat map of it and the known mistakes that
    give it; a chart of the error over depth; and a table of all arrays. The page of 1,000 arrays has
    less than 1 MB.
    """
    title = f"minizha compare: {verdict(report).partition(':')[0]}"
    body = (
        _head(report),
        _why(report),
        _first(report),
        _chart(report),
        _leftovers(report),
        _table(report.differences),
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"{''.join(filter(None, body))}</main>\n</body>\n</html>\n"
    )


def _head(report: Comparison) -> str:
    css_class = "same" if report.ok else "other"
    word, _, rest = verdict(report).partition(": ")
    facts = [(str(len(report.differences)), "arrays compared")]
    facts += [(str(sum(not d.ok for d in report)), "of them differ")]
    if report.missing:
        facts.append((str(len(report.missing)), "missing in theirs"))
    if report.left_over:
        facts.append((str(len(report.left_over)), "left over in theirs"))
    tiles = "".join(f"<li><b>{value}</b> {text}</li>" for value, text in facts)
    return (
        f'<header>\n<p class="brand">minizha compare</p>\n'
        f'<h1><span class="{css_class}">{escape(word)}</span> {escape(rest)}</h1>\n'
        f'<ul class="facts">{tiles}</ul>\n</header>\n'
    )


def _first(report: Comparison) -> str:
    """The first array that differs: by how much, and where."""
    d = report.divergence
    if d is None:
        return ""
    shape = " × ".join(map(str, d.shape)) or "a single number"
    intro = f"<p>{shape}, {safe(d.dtype)}"
    intro += f"; their name for it: <code>{safe(d.their_name)}</code>" * (d.their_name != d.name)
    intro += "</p>\n" + f'<p class="other">{_text(d.reason)}</p>\n' * bool(d.reason)
    text = ""
    if math.isfinite(d.error):
        head = _row(("", "found", "rounding alone", "allowed"), "th")
        body = "".join(map(_row, sizes(d)))
        text += f'<table class="sizes"><thead>{head}</thead><tbody>{body}</tbody></table>\n'
    if not (math.isnan(d.ours) and math.isnan(d.theirs)):
        text += f"<p>Worst entry {_text(entry_text(d))}</p>\n"
    location = report.location
    picture = _picture(location, d.name) if location else ""
    return (
        f"<section>\n<h2>The first difference: <code>{safe(d.name)}</code></h2>\n"
        f'{intro}<div class="beside">\n<div>\n{text}{_places(location) if location else ""}</div>\n'
        f"{picture}</div>\n</section>\n"
    )


def _places(location: Location) -> str:
    lines = [_text(line) for line in location.lines]
    if math.isfinite(location.share):
        lines.insert(0, f"{number(100 * location.share)} % of its entries differ")
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>\n" if lines else ""


def _picture(location: Location, name: str) -> str:
    picture = heat_map(location, name)
    caption = "The largest error in each cell"
    return (
        f"<figure>\n<figcaption>{caption}</figcaption>\n{picture}\n</figure>\n" if picture else ""
    )


def _why(report: Comparison) -> str:
    text = ""
    if report.findings:
        head = _row(("known mistake", "remaining error with it", "without it"), "th")
        rows = (
            _row((_text(finding_text(f)), number(f.error), number(f.right_error)))
            for f in report.findings
        )
        text += (
            "<p>These mistakes give their array from their own inputs, the likeliest first.</p>\n"
            f'<table class="why"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>\n'
        )
    if len(report.errors) > 1 or (report.errors and report.first_divergence is None):
        head = _row(("arrays that do not follow from their own inputs", "cause"), "th")
        causes = (_row(map(escape, error_text(error))) for error in report.errors)
        text += (
            f'<table class="why"><thead>{head}</thead><tbody>{"".join(causes)}</tbody></table>\n'
        )
    return f"<section>\n<h2>Why</h2>\n{text}</section>\n" if text else ""


def _chart(report: Comparison) -> str:
    keys = [("error", "error: largest difference ÷ largest entry of ours")]
    keys += [("expected", "what rounding alone explains"), ("allowed", "what is allowed")]
    legend = "".join(f'<li><i class="{css_class}"></i>{text}</li>' for css_class, text in keys)
    return (
        f'<section>\n<h2>Error over depth</h2>\n<ul class="legend">{legend}</ul>\n<figure>\n'
        f"{depth_chart(report)}\n<figcaption>Arrays that are exactly equal are on the lower edge."
        "</figcaption>\n</figure>\n</section>\n"
    )


def _leftovers(report: Comparison) -> str:
    text = "".join(f"<p>{_text(remark)}</p>\n" for remark in report.remarks)
    text += _names(report.missing, "arrays missing in theirs")
    text += _names(report.left_over, "arrays left over in theirs")
    return f"<section>\n<h2>Also noticed</h2>\n{text}</section>\n" if text else ""


def _names(names: Sequence[str], what: str) -> str:
    if not names:
        return ""
    items = "".join(f"<li><code>{safe(name)}</code></li>" for name in names)
    return f"<details><summary>{len(names)} {what}</summary>\n<ul>{items}</ul>\n</details>\n"


def _table(differences: Sequence[Difference]) -> str:
    """The table of all arrays, collapsed at first."""
    titles = (
        "",
        "array",
        "shape",
        "dtype",
        "absolute",
        "relative",
        "rounding alone",
        "times rounding",
        "ULP",
        "remark",
    )
    rows = "\n".join(_array(i, d) for i, d in enumerate(differences, 1))
    return (
        f'<section>\n<details class="all"><summary>All {len(differences)} arrays</summary>\n'
        f'<div class="wide"><table class="arrays"><thead>{_row(titles, "th")}</thead>\n'
        f"<tbody>{rows}</tbody></table></div>\n</details>\n</section>\n"
    )


def _array(position: int, d: Difference) -> str:
    remark = "" if d.ok else "differs"
    if d.reason:
        remark = clean(d.reason)
    if d.their_name != d.name:
        remark += f"{'; ' if remark else ''}theirs: {shown(d.their_name)}"
    sizes = (number(v) for v in (d.max_abs, d.error, d.expected, times(d), d.ulp))
    shape = "×".join(map(str, d.shape))
    texts = (str(position), shown(d.name), shape, d.dtype, *sizes, remark)
    return _row(map(escape, texts), css_class="" if d.ok else "other")


def _row(texts: Iterable[str], cell: str = "td", css_class: str = "") -> str:
    """A row of a table; the texts are HTML already."""
    start = f'<tr class="{css_class}">' if css_class else "<tr>"
    return f"{start}{''.join(f'<{cell}>{text}</{cell}>' for text in texts)}</tr>"


def _text(sentence: str) -> str:
    return escape(clean(sentence))
