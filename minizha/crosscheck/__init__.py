"""Checks of implementations: traces of a model, their comparison with those of another one, test
vectors, and checks of gradients, of minizha's models and of any backward function.

Read table, names, recorder, trace_entries, nesting, tracing, trace_file, inputs_file; comparison,
diagnosis, report, comparing; adapters; vectors, vectors_report; gradient_checks; derivatives,
relations, pair_functions, pair_report, replacements, pair_entries, pair_arguments, pair_checks;
commands.

The public names are imported on first use, as in :mod:`minizha`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minizha.crosscheck import adapters as adapters
    from minizha.crosscheck.comparing import compare as compare
    from minizha.crosscheck.diagnosis import diagnose as diagnose
    from minizha.crosscheck.diagnosis import mistaken as mistaken
    from minizha.crosscheck.diagnosis import mistakes as mistakes
    from minizha.crosscheck.gradient_checks import GradientReport as GradientReport
    from minizha.crosscheck.gradient_checks import gradcheck as gradcheck
    from minizha.crosscheck.pair_checks import check_pair as check_pair
    from minizha.crosscheck.pair_report import PairReport as PairReport
    from minizha.crosscheck.report.report import Report as Report
    from minizha.crosscheck.trace_file import Trace as Trace
    from minizha.crosscheck.trace_file import open_trace as open_trace
    from minizha.crosscheck.tracing import trace as trace

_MODULES = {
    "GradientReport": "gradient_checks",
    "PairReport": "pair_report",
    "Report": "report.report",
    "Trace": "trace_file",
    "check_pair": "pair_checks",
    "compare": "comparing",
    "diagnose": "diagnosis",
    "gradcheck": "gradient_checks",
    "mistaken": "diagnosis",
    "mistakes": "diagnosis",
    "open_trace": "trace_file",
    "trace": "tracing",
}

__all__ = [*_MODULES, "adapters"]


if not TYPE_CHECKING:  # to a type checker, every name would be one of ours

    def __getattr__(name: str) -> Any:
        if name == "adapters":
            return import_module("minizha.crosscheck.adapters")
        if name in _MODULES:
            return getattr(import_module(f"minizha.crosscheck.{_MODULES[name]}"), name)
        raise AttributeError(f"module 'minizha.crosscheck' has no attribute {name!r}")
