"""What becomes of the figures: text for the terminal, and the tables and pictures of the pages.

The pages are written by hand, but for what stands between ``<!-- figures: NAME -->`` and
``<!-- end -->``: ``python -m benchmarks write`` replaces that, and a test holds page and figures together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import pictures
from benchmarks.cases import CASES, SCALING
from benchmarks.peers import PEERS, TITLES
from minizha.errors import MinizhaError

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs/reference"
FIGURES = REFERENCE / "performance.json"
PAGE = REFERENCE / "performance.md"
NONE = "–"
BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

README_ROWS = {
    "body-8x128": ("forward pass, body", "前向传播，主体"),
    "body-2x512": ("forward pass, body", "前向传播，主体"),
    "body-1x2048": ("forward pass, body", "前向传播，主体"),
    "logits-8x128": ("forward pass, all logits", "前向传播，全部 logits"),
    "training-8x128": ("training step", "训练一步"),
    "training-2x512": ("training step", "训练一步"),
    "training-8x128-12-layers": ("training step", "训练一步"),
    "training-small": ("training step, small model", "训练一步，小模型"),
}
README_HEADS = (
    (
        "",
        "layers",
        "(B, L)",
        "minizha, s",
        "Transformers",
        "torch.compile",
        "ONNX Runtime",
        "memory",
    ),
    ("", "层数", "(B, L)", "minizha，秒", "Transformers", "torch.compile", "ONNX Runtime", "内存"),
)


def pages(figures: Mapping[str, Any]) -> dict[str, bytes]:
    """{file: content} of every page and picture that shows the figures.

    Raises:
        MinizhaError: the figures are incomplete, or a page has a block that nothing fills.
    """
    if not isinstance(figures.get("cases"), dict) or not isinstance(figures.get("machine"), dict):
        raise MinizhaError("the figures: expected a machine and cases, as --json writes them")
    blocks = {
        "speed": speed_table(figures["cases"]),
        "rates": rate_table(figures["cases"]),
        "memory": memory_table(figures["cases"]),
        "machine": machine_block(figures["machine"]),
    }
    files = {
        PAGE: fill(PAGE, blocks),
        ROOT / "README.md": fill(ROOT / "README.md", {"readme": readme_table(figures["cases"], 0)}),
        ROOT / "README.zh-CN.md": fill(
            ROOT / "README.zh-CN.md", {"readme": readme_table(figures["cases"], 1)}
        ),
    }
    for name, text in drawn(figures).items():
        files[REFERENCE / "performance" / f"{name}.svg"] = text
    return {str(path): text.encode() for path, text in files.items()}


def fill(path: Path, blocks: Mapping[str, str]) -> str:
    """The page with its blocks replaced."""
    found = path.read_text(encoding="utf-8")
    named = [name for _, name, _ in BLOCK.findall(found)]
    if sorted(named) != sorted(blocks):
        raise MinizhaError(f"{path.name}: expected the blocks {sorted(blocks)}, found {named}")
    return BLOCK.sub(lambda m: f"{m[1]}\n{blocks[m[2]]}\n{m[3]}", found)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"|{'|'.join(f' {c} ' if c != '---' else c for c in line)}|\n" for line in lines)


def _measured(cases: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(case.name, cases[case.name]) for case in CASES if case.name in cases]


def _number(value: float | None, form: str = ".2f") -> str:
    return NONE if value is None else format(value, form)


def seconds_text(seconds: float) -> str:
    """Three digits, without an exponent."""
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.3f}"


def speed_table(cases: Mapping[str, Any]) -> str:
    """A row a case: our seconds, each peer's time over ours, the share of the products."""
    head = ["case", "minizha, s", *(TITLES[p] for p in PEERS), "products"]
    rows = [
        [
            name,
            seconds_text(case["seconds"]["minizha"]),
            *(_number(case["ratios"].get(side)) for side in (*PEERS, "products")),
        ]
        for name, case in _measured(cases)
    ]
    return _table(head, rows)


def rate_table(cases: Mapping[str, Any]) -> str:
    """A row a case: tokens and floating-point operations a second."""
    rows = [
        [name, f"{case['tokens_per_second']:,}", f"{case['gigaflops_per_second']:.0f}"]
        for name, case in _measured(cases)
        if "tokens_per_second" in case
    ]
    return _table(["case", "tokens a second", "GFLOP/s"], rows)


def memory_table(cases: Mapping[str, Any]) -> str:
    """A row a case: megabytes above the loaded model and in all, ours and Transformers'."""
    head = [
        "case",
        "minizha, above",
        "Transformers, above",
        "minizha, in all",
        "Transformers, in all",
    ]
    rows = []
    for name, case in _measured(cases):
        sides = [case["memory"].get(side) for side in ("minizha", "transformers")]
        rows.append([name, *(_number(above(m), ",.0f") for m in sides)])
        rows[-1] += [_number(m and m["peak"], ",.0f") for m in sides]
    return _table(head, rows)


def above(memory: Mapping[str, float | None] | None) -> float | None:
    """Megabytes of the peak above what was resident before the first run."""
    if not memory or memory["peak"] is None or memory["before"] is None:
        return None
    return memory["peak"] - memory["before"]


def machine_block(machine: Mapping[str, str]) -> str:
    """The description as a block of code, which no translation touches."""
    lines = [f"{name:12} {value}" for name, value in machine.items()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def readme_table(cases: Mapping[str, Any], language: int) -> str:
    """The short table, in English (0) or Chinese (1)."""
    rows = []
    for name, words in README_ROWS.items():
        if name not in cases:
            continue
        case = cases[name]
        peaks = [case["memory"].get(s, {}).get("peak") for s in ("minizha", "transformers")]
        share = peaks[0] / peaks[1] if all(peaks) else None
        rows.append(
            [
                words[language],
                str(case["layers"]),
                f"({case['batch']}, {case['length']})",
                seconds_text(case["seconds"]["minizha"]),
                *(_number(case["ratios"].get(peer)) for peer in PEERS),
                _number(share),
            ]
        )
    return _table(README_HEADS[language], rows)


def drawn(figures: Mapping[str, Any]) -> dict[str, str]:
    """{name: SVG} of every picture."""
    cases = _measured(figures["cases"])
    found = {
        "speed": pictures.bars(
            [
                (name, [(p, case["ratios"][p]) for p in PEERS if p in case["ratios"]])
                for name, case in cases
                if case["task"] != "loading"
            ]
        )
    }
    scaling = figures.get("scaling", {})
    for name, series in SCALING.items():
        points = [
            (float(c.name.split("=")[1]), scaling[c.name]) for c in series if c.name in scaling
        ]
        if len(points) > 1:
            time = {s: [(x, p["seconds"].get(s)) for x, p in points] for s in pictures.PAIR}
            memory = {s: [(x, above(p["memory"].get(s))) for x, p in points] for s in pictures.PAIR}
            found[f"scaling-{name}"] = pictures.lines(name, {"s": time, "MB": memory})
    return found


def as_text(name: str, case: Mapping[str, Any]) -> str:
    """A case for the terminal."""
    lines = [name]
    for side, seconds in case["seconds"].items():
        ratio, memory = case["ratios"].get(side), case["memory"].get(side)
        line = f"  {TITLES[side]:14} {seconds_text(seconds):>8} s"
        line += f"   {ratio:5.2f} of minizha's" if ratio else " " * 22
        if memory and above(memory) is not None:
            line += f"   {above(memory):7,.0f} MB above {memory['before']:,.0f}"
            line += f", {memory['after']:,.0f} after"
        lines.append(line.rstrip())
    if "tokens_per_second" in case:
        lines.append(
            f"  {case['tokens_per_second']:,} tokens/s, {case['gigaflops_per_second']:.0f} GFLOP/s"
        )
    lines += [f"  {TITLES[side]}: {reason}" for side, reason in case.get("failed", {}).items()]
    return "\n".join(lines)
