"""``python -m benchmarks``: measure; ``scaling``: measure while one size grows; ``write``: the pages."""

from __future__ import annotations

import argparse
import datetime
import difflib
import itertools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.cases import CASES, QUICK, SCALING, Case, gigaflops
from benchmarks.machine import commit, cores, describe
from benchmarks.pairs import measure
from benchmarks.peers import PEERS, why_not
from minizha.checks import integer
from minizha.errors import MinizhaError, listed
from minizha.files import read_json_object, write_atomic
from minizha.progress import progress_bar

SLOW = 80.0
"""10⁹ operations a second, for the estimate of the time: what a slow side reaches on two cores."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    try:
        options = _parser().parse_args(arguments)
        COMMANDS[options.command](options)
    except MinizhaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="measure")
    parser.add_argument(
        "--list", action="store_true", help="the cases and the peers; measure nothing"
    )
    parser.add_argument(
        "--case", action="append", metavar="NAME", help="only this case; may be repeated"
    )
    parser.add_argument(
        "--peer", action="append", metavar="NAME", help="only this peer; may be repeated"
    )
    parser.add_argument("--rounds", default=7, type=int, metavar="N", help="turns of each side (7)")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads of each side (all cores)", default=cores()
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="add the figures to this file; for write: read them there (the file in docs/reference)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny models: try the harness in seconds"
    )
    return parser


def _measure(options: argparse.Namespace) -> None:
    """Measure the cases one after the other; what is measured is kept if a later one fails."""
    _run(options, "cases", list(QUICK if options.quick else CASES), list(PEERS))


def _scaling(options: argparse.Namespace) -> None:
    """Measure each series, against Transformers unless other peers are named."""
    cases = [case for series in SCALING.values() for case in series]
    _run(options, "scaling", cases, ["transformers"])


def _run(options: argparse.Namespace, part: str, cases: list[Case], peers: list[str]) -> None:
    rounds = integer("--rounds", options.rounds, 1, 1000)
    threads = integer("--threads", options.threads, 1, 1024)
    cases = _named("--case", cases, [case.name for case in cases], options.case)
    peers = _named("--peer", PEERS, PEERS, options.peer) if options.peer else peers
    if options.list:
        _list(cases)
        return
    stored = _stored(options.json, describe(threads))
    for peer in peers:
        reason = why_not(peer, cases[0])
        if reason and all(why_not(peer, case) for case in cases):
            print(f"{peer}: left out: {reason}", file=sys.stderr)
    minutes = sum(_estimate(case, _sides(case, peers), rounds) for case in cases) / 60
    print(f"{len(cases)} to measure, about {max(1, round(minutes))} min", file=sys.stderr)
    for case in cases:
        sides = _sides(case, peers)
        with progress_bar(len(sides) * (rounds + 1), case.name) as show:  # the start is a step, too
            turns = itertools.count()
            found = measure(case, sides, rounds, threads, lambda side, t=turns: show(next(t), side))
            show(next(turns), "done")
        found |= {"date": datetime.date.today().isoformat(), "commit": commit()}
        print(report.as_text(case.name, found), flush=True)
        stored.setdefault(part, {})[case.name] = found
        if options.json:
            write_atomic(options.json, dump(stored))


def _sides(case: Case, peers: Sequence[str]) -> list[str]:
    """minizha first; the products in every case that has some."""
    return ["minizha", *(side for side in ("products", *peers) if not why_not(side, case))]


def _estimate(case: Case, sides: Sequence[str], rounds: int) -> float:
    """Seconds, roughly: compiling takes a minute, and another one for the step without dropout."""
    compiling = 60 * ("torch.compile" in sides) * (1 + (case.task == "training"))
    return compiling + len(sides) * (6 + (rounds + 6) * max(0.4, gigaflops(case) / SLOW))


def _named(option: str, items: Sequence[Any], names: Sequence[str], wanted: Any) -> list[Any]:
    """The items that are asked for, in their own order; all if none is."""
    for name in wanted or ():
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise MinizhaError(f"{option}: expected one of {listed(names)}, found {name!r}{hint}")
    return [item for item, name in zip(items, names, strict=True) if not wanted or name in wanted]


def _list(cases: Sequence[Case]) -> None:
    """The cases with their products, and the peers."""
    for case in cases:
        print(f"{case.name:26} {gigaflops(case):8.1f} GFLOP of matrix products")
    for peer in PEERS:
        print(f"{peer:26} {why_not(peer, CASES[0]) or 'installed'}")


def _stored(path: str | None, machine: dict[str, str]) -> dict[str, Any]:
    """The file's figures, to which those of the same machine and versions can be added.

    Raises:
        MinizhaError: the file's figures are of another machine.
    """
    if path is None or not os.path.exists(path):
        return {"machine": machine}
    stored = read_json_object(path)
    was = stored.get("machine")
    differing = sorted(
        name
        for name in {*machine, *(was if isinstance(was, dict) else {})}
        if not isinstance(was, dict) or was.get(name) != machine.get(name)
    )
    if differing:
        raise MinizhaError(
            f"{path}: expected figures of this machine and these versions, found others: "
            f"{', '.join(differing)}; name another file"
        )
    return stored | {"machine": machine}


def dump(stored: dict[str, Any]) -> bytes:
    """JSON with a line for each list of numbers."""
    text = json.dumps(stored, indent=1, ensure_ascii=False)
    lines: list[str] = []
    for line in text.splitlines():  # a number alone on its line joins the line before
        if line.strip().rstrip(",").replace(".", "").replace("e-", "").isdigit() or (
            line.strip() in ("]", "],") and lines
        ):
            lines[-1] += line.strip() if lines[-1].endswith("[") else " " + line.strip()
        else:
            lines.append(line)
    return ("\n".join(lines).replace(" ]", "]") + "\n").encode()


def _write(options: argparse.Namespace) -> None:
    """Write tables and pictures from the figures."""
    path = Path(options.json) if options.json else report.FIGURES
    for name, data in report.pages(read_json_object(path)).items():
        Path(name).parent.mkdir(exist_ok=True)
        write_atomic(name, data)
        print(Path(name).relative_to(report.ROOT))


COMMANDS = {"measure": _measure, "scaling": _scaling, "write": _write}

if __name__ == "__main__":
    sys.exit(main())
