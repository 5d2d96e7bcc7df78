"""The exercises of the book: data, one TOML file a chapter, and the code that checks what a reader wrote.

Read catalogue, code, findings, checks, judging; chinese; commands. CI, the terminal and the browser all
call :func:`verdict`.

The public names are imported on first use, as in :mod:`minizha`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minizha.exercises.catalogue import Exercise as Exercise
    from minizha.exercises.catalogue import Mistake as Mistake
    from minizha.exercises.catalogue import exercise as exercise
    from minizha.exercises.catalogue import exercises as exercises
    from minizha.exercises.judging import Verdict as Verdict
    from minizha.exercises.judging import verdict as verdict

_MODULES = {
    "Exercise": "catalogue",
    "Mistake": "catalogue",
    "Verdict": "judging",
    "exercise": "catalogue",
    "exercises": "catalogue",
    "verdict": "judging",
}

__all__ = [*_MODULES]


if not TYPE_CHECKING:  # to a type checker, every name would be one of ours

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return getattr(import_module(f"minizha.exercises.{_MODULES[name]}"), name)
        raise AttributeError(f"module 'minizha.exercises' has no attribute {name!r}")
