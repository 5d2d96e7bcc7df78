"""The doors of the command line. An argument is the text of an option or of a positional argument."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from minizha.cli import main
from minizha.errors import MinizhaError
from tests.support.careless.kinds import Kind, anything
from tests.support.careless.world import Door, V, World
from tests.support.paths import V1


class ReportedError(MinizhaError):
    """What a command said on stderr before it ended with status 2."""


def told(value: Any) -> str:
    """What a person would type for this value, in one line."""
    return os.fspath(value) if isinstance(value, Path) else " ".join(str(value).split("\n"))


def command(*words: str, **options: Any) -> None:
    """Run one; positional arguments have names that begin with ``_``."""
    argv = list(words)
    for name, value in options.items():
        option = "--" + name.replace("_", "-")
        # a value that begins with a hyphen is an option to argparse, unless it is joined to one
        argv += [told(value)] if name.startswith("_") else [f"{option}={told(value)}"]
    out, error = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            status = main(argv)
    except SystemExit as stopped:
        status = stopped.code
    # a progress bar begins with a carriage return
    lines = [line for line in error.getvalue().split("\n")[:-1] if not line.startswith("\r")]
    said = [line for line in lines if "note:" not in line]
    if status == 2:
        assert len(said) == 1, f"not one line: {error.getvalue()!r:.300}"
        assert said[0].startswith("minizha: error: "), said
        raise ReportedError(said[0])
    assert status in (0, 1), status


def as_text(kind: Kind) -> Kind:
    return lambda value: kind(told(value))


def whole(low: int, high: float = float("inf")) -> Kind:
    def kind(value: str) -> bool:
        try:
            return low <= int(value) <= high
        except ValueError:
            return False

    return as_text(kind)


def real(low: float, high: float) -> Kind:
    def kind(value: str) -> bool:
        try:
            return low <= float(value) <= high
        except ValueError:
            return False

    return as_text(kind)


def among(*choices: str) -> Kind:
    return as_text(lambda value: value in choices)


def of(*words: str) -> Any:
    return lambda **options: command(*words, **options)


PATH = as_text(lambda value: value not in ("", "\0"))
HAS_MASK = as_text(lambda value: "[MASK]" in value)
# more of these would take minutes, or start processes
MOST = {"steps": 3, "workers": 1, "hidden_size": 64, "layers": 3, "batch_size": 64, "length": 64}
PRETRAIN = {name: whole(1, high) for name, high in MOST.items()} | {
    "length": whole(8, 64),
    "corpus": PATH,
    "out": PATH,
    "seed": whole(0),
    "learning_rate": real(0, 1),
}


def pretrain(w: World) -> dict[str, Any]:
    sizes = {"steps": 1, "workers": 1, "hidden_size": 8, "layers": 1, "batch_size": 2, "length": 12}
    others = {"heads": 2, "intermediate_size": 8, "min_count": 1, "held_out": 3}
    paths = {"corpus": w.corpus, "out": w.target()}
    return sizes | others | paths | {"seed": 0, "learning_rate": 0.1}


DOORS = [
    Door(
        "minizha fill-mask",
        of("fill-mask"),
        lambda w: {"model": w.model_folder, "top_k": 3, "backend": "numpy", "_text": "一[MASK]"},
        {"model": PATH, "top_k": whole(1, V), "backend": among("numpy"), "_text": HAS_MASK},
    ),
    Door(
        "minizha next-sentence",
        of("next-sentence"),
        lambda w: {"model": w.model_folder, "_a": "一", "_b": "二"},
        {"model": PATH, "_a": anything, "_b": anything},
    ),
    Door("minizha info", of("info"), lambda w: {"_folder": w.model_folder}, {"_folder": PATH}),
    Door(
        "minizha convert",
        of("convert"),
        lambda w: {"_source": w.model_folder, "_target": w.target()},
        {"_source": PATH, "_target": PATH},
    ),
    Door(
        "minizha trace",
        of("trace"),
        lambda w: {
            "_model": w.model_folder,
            "inputs": w.inputs,
            "out": w.target(),
            "dtype": "float64",
        },
        {"_model": PATH, "inputs": PATH, "out": PATH, "dtype": among("float32", "float64")},
    ),
    Door(
        "minizha compare",
        of("compare"),
        lambda w: {"_ours": w.trace_file, "_theirs": w.trace_file, "rtol": 0.1, "atol": 0.1},
        {"_ours": PATH, "_theirs": PATH, "rtol": real(0, 1e308), "atol": real(0, 1e308)},
    ),
    Door(
        "minizha vectors verify",
        of("vectors", "verify"),
        lambda w: {"_folder": V1 / "cases", "vectors": V1},
        {"_folder": PATH, "vectors": PATH},
    ),
    Door(
        "minizha prepare",
        of("prepare"),
        lambda w: {
            "_corpus": w.corpus,
            "out": w.target(),
            "min_count": 1,
            "held_out": 3,
            "workers": 1,
        },
        {
            "_corpus": PATH,
            "out": PATH,
            "min_count": whole(1),
            "held_out": whole(2),
            "workers": whole(1),
            "titles": among("auto", "yes", "no"),
        },
    ),
    Door(
        "minizha evaluate",
        of("evaluate"),
        lambda w: {"corpus": w.corpus, "model": w.model_folder, "length": 12, "seed": 1},
        {
            "corpus": PATH,
            "model": PATH,
            "length": whole(8, 64),
            "seed": whole(0),
            "held_out": whole(2),
            "backend": among("numpy"),
        },
        avoid={"length": whole(65)},
    ),
    Door(
        "minizha pretrain",
        of("pretrain"),
        pretrain,
        PRETRAIN,
        avoid={name: whole(high + 1) for name, high in MOST.items()},
    ),
]
