"""What happened in a run so far: the points of its curve, its seconds, and the log of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minizha.errors import FileError
from minizha.files import read_bytes, write_atomic
from minizha.training.evaluation import Metrics
from minizha.training.report import CurvePoint

LOG_NAME = "log.jsonl"


class History:
    """The curve over the training, its held-out points, and the seconds of earlier sessions."""

    def __init__(self) -> None:
        self.curve: list[CurvePoint] = []
        self.held_out: list[CurvePoint] = []
        self.seconds = 0.0

    def best_step(self) -> int | None:
        """The step of the held-out point with the smallest loss; the first of equal ones."""
        if not self.held_out:
            return None
        return min(self.held_out, key=lambda p: p.metrics.word_loss + p.metrics.pair_loss).step

    def to_json(self) -> dict[str, Any]:
        """The content, for a checkpoint."""
        curves = {"curve": self.curve, "held_out": self.held_out}
        rows = {name: [[p.step, *p.metrics] for p in points] for name, points in curves.items()}
        return {**rows, "seconds": self.seconds}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> History:
        """The history that :meth:`to_json` gave."""
        history = cls()
        for points, rows in (
            (history.curve, content["curve"]),
            (history.held_out, content["held_out"]),
        ):
            points.extend(CurvePoint(step, Metrics(*numbers)) for step, *numbers in rows)
        history.seconds = float(content["seconds"])
        return history


class Log:
    """``log.jsonl``: one JSON object a line, written as soon as it is known.

    A line that can't be written is left out: no training ends because of its log. ``fault`` then says
    what was wrong, "" if nothing was.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.fault = path, ""

    def begin(self, step: int) -> None:
        """Keep the lines of the steps up to ``step``; later ones are of a session that was killed
        before it had saved them. With ``step`` 0, begin anew."""
        lines: list[bytes] = []
        try:
            if step and self.path.exists():
                lines = [x for x in read_bytes(self.path).splitlines() if _step_of(x) <= step]
            write_atomic(self.path, b"".join(line + b"\n" for line in lines))
        except FileError as error:
            self.fault = str(error)

    def write(self, **line: Any) -> None:
        """Append a line. Numbers that JSON lacks (NaN, infinity) become null."""
        finite = {name: _plain(value) for name, value in line.items()}
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            self.fault = f"{self.path}: can't be written: {error.strerror or error}"


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}") if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value


def _step_of(line: bytes) -> float:
    """The step of a line; infinity for one that was cut off by a kill."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
