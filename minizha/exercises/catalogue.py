"""The exercises as they are in the files chapter_1.toml, chapter_2.toml, …, in the order of the book."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from importlib.resources import files
from typing import Any

from minizha.errors import ArgumentError

LANGUAGES = ("en", "zh")
"""The languages of titles, statements, explanations and verdicts: English and 简体中文."""


@dataclass(frozen=True)
class Mistake:
    """A mistake that readers make: the solution with the text ``replace`` replaced by ``by``.

    The verdict on it is False, and its text has ``hint`` in it.
    """

    replace: str
    by: str
    hint: str


@dataclass(frozen=True)
class Exercise:
    """An exercise. ``title``, ``statement`` and ``explanation`` are texts by language, in MyST.

    ``start`` is what a reader begins with, ``solution`` complete code, ``check`` an expression over
    the names of :mod:`~minizha.exercises.checks`.
    """

    id: str
    title: dict[str, str]
    statement: dict[str, str]
    start: str
    solution: str
    explanation: dict[str, str]
    check: str
    mistakes: tuple[Mistake, ...]

    @property
    def version(self) -> str:
        """A short hash of ``start`` and ``check``: what a reader wrote for another one may not fit."""
        return hashlib.sha256(f"{self.start}\0{self.check}".encode()).hexdigest()[:12]

    @property
    def file_name(self) -> str:
        """``exercise_5_2.py``"""
        return f"exercise_{self.id.replace('.', '_')}.py"

    def code_of(self, mistake: Mistake) -> str:
        """The solution with one of its mistakes."""
        return self.solution.replace(mistake.replace, mistake.by)


@lru_cache(maxsize=1)
def exercises() -> tuple[Exercise, ...]:
    """All exercises, in the order of the book."""
    texts: dict[int, str] = {}
    for path in files("minizha.exercises").iterdir():
        if path.name.startswith("chapter_") and path.name.endswith(".toml"):
            texts[int(path.name[8:-5])] = path.read_text(encoding="utf-8")
    return tuple(
        _exercise(row)
        for number in sorted(texts)
        for row in tomllib.loads(texts[number])["exercise"]
    )


def exercise(ID: str) -> Exercise:
    """The exercise of an ID such as ``"5.2"``.

    Raises:
        ArgumentError: there is none; names the nearest ID.
    """
    known = {each.id: each for each in exercises()}
    if ID in known:
        return known[ID]
    nearest = max(known, key=lambda each: SequenceMatcher(None, each, str(ID)).ratio())
    raise ArgumentError(
        f"exercise: expected an ID, such as {nearest} ({known[nearest].title['en']}), found {ID!r:.60}"
    )


def _exercise(row: dict[str, Any]) -> Exercise:
    return Exercise(
        row["id"],
        row["title"],
        row["statement"],
        row["start"],
        row["solution"],
        row["explanation"],
        row["check"],
        tuple(Mistake(**mistake) for mistake in row["mistake"]),
    )
