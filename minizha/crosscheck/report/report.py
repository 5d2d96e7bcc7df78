"""The report of a comparison, with its three forms: text, JSON, HTML."""

from __future__ import annotations

from typing import Any

from minizha.crosscheck.comparison.differences import Comparison
from minizha.crosscheck.report.html import as_html
from minizha.crosscheck.report.text import as_json, as_text


class Report(Comparison):
    """The result of :func:`minizha.crosscheck.compare`: ``report.ok``, ``report.first_divergence``,
    ``str(report)``, and all of :class:`~minizha.crosscheck.comparison.differences.Comparison`."""

    def __str__(self) -> str:
        return as_text(self)

    def to_json(self) -> dict[str, Any]:
        """The report as dicts, lists, strings, numbers and None, for JSON."""
        return as_json(self)

    def to_html(self) -> str:
        """The report as a self-contained HTML page with pictures."""
        return as_html(self)
