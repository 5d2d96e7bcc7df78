"""One verdict, for CI, the terminal and the browser alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from minizha.checks import choice
from minizha.errors import ArgumentError
from minizha.exercises.catalogue import LANGUAGES, Exercise, exercise
from minizha.exercises.checks import Checks
from minizha.exercises.chinese import in_chinese
from minizha.exercises.code import LONGEST_OUTPUT, THE_CODE, Code, CodeError, caught_output
from minizha.exercises.findings import Finding


@dataclass(frozen=True)
class Verdict:
    """``ok`` is True, False, or None if undecided; ``text`` is what a reader reads, the hint first."""

    ok: bool | None
    text: str

    def __str__(self) -> str:
        return self.text


def verdict(ID: str, text: str, language: str = "en") -> Verdict:
    """Judge what a reader wrote for an exercise.

    Each verdict runs the text in a namespace of its own. What the text prints is caught and shown below
    the verdict. An error in it is a verdict, too: its type, its message and the line.

    Args:
        ID: of the exercise, such as ``"5.2"``.
        text: Python.
        language: of the verdict's text, ``"en"`` or ``"zh"``.

    Raises:
        ArgumentError: there is no such exercise or language, or ``text`` is no string.
    """
    choice("verdict: language", language, LANGUAGES)
    if not isinstance(text, str):
        raise ArgumentError(f"verdict: text: expected a string, found {type(text).__name__}")
    task = exercise(ID)
    with caught_output() as (output, warned), np.errstate(all="warn"):
        try:
            findings = _findings(task, text)
        except CodeError as error:
            findings = [Finding(False, [str(error)])]
    lines = [line for finding in _most_telling(findings) for line in finding.lines]
    lines += dict.fromkeys(f"remark: {w.category.__name__}: {w.message}" for w in warned)
    printed = output.text.rstrip("\n")
    if printed:
        lines.append("your code printed:")
    if language == "zh":
        lines = [in_chinese(line) for line in lines]
    if printed:
        lines += [printed, "…"] if len(output.text) >= LONGEST_OUTPUT else [printed]
    oks = {finding.ok for finding in findings}
    return Verdict(False if False in oks else None if None in oks else True, "\n".join(lines))


def _findings(task: Exercise, text: str) -> list[Finding]:
    solution = Code(task.solution, f"solution of {task.id}")
    start = Code(task.start, f"start of {task.id}")
    reader = Code(text, task.file_name)
    with reader.errors_in_words(THE_CODE):  # what it returns may raise anything, too
        found: Any = eval(task.check, Checks(reader, solution, start).names)
    return [found] if isinstance(found, Finding) else list(found)


def _most_telling(findings: list[Finding]) -> list[Finding]:
    """The wrong ones, if there are any; else the undecided ones; else all."""
    for ok in (False, None):
        some = [finding for finding in findings if finding.ok is ok]
        if some:
            return some[:1]
    return findings
