"""The report of a comparison: what was found, and the three forms in which it can be had."""

from __future__ import annotations

from typing import Any

from minizha.crosscheck.comparison.differences import Comparison
from minizha.crosscheck.report.html import as_html
from minizha.crosscheck.report.text import as_json, as_text


class Report(Comparison):
    """The result of :func:`minizha.crosscheck.compare`: ``report.ok``, ``report.first_divergence``,
    ``str(report)``, and what :class:`~minizha.crosscheck.comparison.differences.Comparison` has."""

    def __str__(self) -> str:
        return as_text(self)

    def to_json(self) -> dict[str, Any]:
        """The report as what JSON can hold."""
        return as_json(self)

    def to_html(self) -> str:
        """The report as a page of its own, with pictures and without anything to fetch."""
        return as_html(self)
