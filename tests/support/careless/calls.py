"""Random careless calls of the public surface, in a separate process.

    python -m tests.support.careless.calls FIRST COUNT FOLDER

prints a report as JSON. The controls add the name of a wrong door and the seconds that a call may take.
Call number i is the same in every run. A call is a door with one argument, at
times two, replaced by a careless value, with an argument left out, or with an unknown keyword. It is at
fault if it ends in another exception than a MinizhaError (or a TypeError, for a missing argument or
an unknown keyword), says more than one line, returns a number that is none, or accepts a value that has no
meaning for the argument.
"""

import json
import os
import reprlib
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from minizha.errors import MinizhaError
from tests.support.careless import doors_commands, doors_model, doors_text
from tests.support.careless.values import careless
from tests.support.careless.world import Door, World

DOORS = [*doors_model.DOORS, *doors_text.DOORS, *doors_commands.DOORS]
MEMORY = 6 * 2**30  # of addresses: what asks for more meets a MemoryError, on every machine
SECONDS = 30


class Call:
    """The call of one number."""

    def __init__(self, number: int, world: World, doors: list[Door]) -> None:
        rng = self.rng = Random(number)
        self.door = rng.choice(doors)
        self.good = self.door.good(world)
        self.changes: dict[str, Any] = {}
        self.keyword, self.dropped = "", ""
        style, names = rng.random(), list(self.door.kinds)
        if style < 0.07 and self.door.required:
            self.dropped = rng.choice(self.door.required)
        elif (style < 0.14 and not self.door.name.startswith("minizha ")) or not names:
            name = rng.choice(names or ["x"])
            self.keyword = rng.choice(
                (name[:-1] + "_", name.upper(), name * 2, "unknown", "kwargs")
            )
        else:
            for name in rng.sample(names, 1 + (rng.random() < 0.2 and len(names) > 1)):
                value = careless(rng, self.good.get(name))
                while name in self.door.avoid and self.door.avoid[name](value):
                    value = careless(rng, self.good.get(name))
                self.changes[name] = value

    @property
    def arguments(self) -> dict[str, Any]:
        arguments = {n: v for n, v in {**self.good, **self.changes}.items() if n != self.dropped}
        return arguments | ({self.keyword: 1} if self.keyword else {})

    def meaningless(self) -> list[str]:
        """The changed arguments whose values have no meaning."""
        return [n for n, v in self.changes.items() if not self.door.kinds[n](v)]

    def __str__(self) -> str:
        changes = {n: shown(v) for n, v in self.changes.items()}
        more = f", without {self.dropped}" if self.dropped else ""
        more += f", with {self.keyword}=1" if self.keyword else ""
        return f"{self.door.name}: {changes}{more}"


def shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"array {value.shape} {value.dtype} {reprlib.repr(value.ravel()[:3])}"
    return ascii(reprlib.repr(value))[1:-1]


def outcome(call: Call) -> tuple[str, str]:
    """ "refused", "keyword" (a TypeError about one) or "accepted"; and the fault, or ""."""
    try:
        meaningless = call.meaningless()  # before the call, which may use an iterator up
        signal.alarm(SECONDS)
        result = call.door.call(**call.arguments)
        signal.alarm(0)
    except MinizhaError as error:
        text = str(error)
        one_line = text and ("\n" not in text or "\n" in repr(call.changes).replace("\\n", "\n"))
        return "refused", "" if one_line else f"says not one line: {text!r:.200}"
    except TypeError as error:
        changed_keywords = any(isinstance(value, dict) for value in call.changes.values())
        about_keywords = ("unexpected keyword argument", "keywords must be strings")
        if any(words in str(error) for words in about_keywords) and (
            call.keyword or changed_keywords
        ):
            return "keyword", ""
        if call.dropped and "required" in str(error) and "argument" in str(error):
            return "keyword", ""
        return "refused", leak(error)
    except BaseException as error:  # noqa: BLE001  every one is a fault
        return "refused", leak(error)
    finally:
        signal.alarm(0)
    if call.dropped:
        return "accepted", f"accepts a call without {call.dropped}"
    if call.keyword and not call.door.open_keywords:
        return "accepted", f"accepts the unknown keyword {call.keyword}"
    if meaningless:
        return "accepted", f"accepts {', '.join(meaningless)}"
    if bad := not_finite(result):
        return "accepted", f"returns {bad}"
    return "accepted", ""


def leak(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    inner = next((f for f in reversed(frames) if "/minizha/" in f.filename), frames[-1])
    place = f"{Path(inner.filename).name}:{inner.lineno}"
    return f"leaks {type(error).__name__} at {place}: {error!s:.150}"


def not_finite(result: Any, depth: int = 0) -> str:
    """The first number in the result that is none."""
    if isinstance(result, (np.ndarray, np.floating, float)):
        array = np.asarray(result)
        if array.dtype.kind in "fc" and not np.isfinite(array).all():
            return "NaN or infinity"
    elif depth < 4 and isinstance(result, (tuple, list)):
        return next(filter(None, (not_finite(r, depth + 1) for r in result)), "")
    elif (
        depth < 4
        and hasattr(result, "values")
        and callable(result.values)
        and not isinstance(result, type)
    ):
        return next(filter(None, (not_finite(r, depth + 1) for r in result.values())), "")
    return ""


def run(first: int, count: int, world: World, doors: list[Door]) -> dict[str, Any]:
    outcomes, called, faults = Counter(), Counter(), []
    for number in range(first, first + count):
        call = Call(number, world, doors)
        result, fault = outcome(call)
        outcomes[result] += 1
        called[call.door.name] += 1
        if fault:
            faults.append(f"{number} {call}: {fault}")
    return {"outcomes": outcomes, "called": called, "faults": faults}


def too_slow(*_: object) -> None:
    raise TimeoutError(f"takes more than {SECONDS} s")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, too_slow)
    first, count, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]).resolve()
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}  # nothing asks the hub
    here = folder / "here"
    here.mkdir()
    os.chdir(here)
    world = World(folder)
    # a warning of NumPy's is a number that is none; others are for the caller
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", RuntimeWarning)
    doors = DOORS
    if len(sys.argv) > 4:
        from tests.support.careless import wrong_doors

        doors = [getattr(wrong_doors, sys.argv[4])]
        SECONDS = int(sys.argv[5]) if len(sys.argv) > 5 else SECONDS
    print(json.dumps(run(first, count, world, doors)))
