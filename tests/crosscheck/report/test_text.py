"""What a comparison's report says in a terminal and in JSON."""

import io
import json
import math
import re
import unicodedata
from dataclasses import asdict, replace

import numpy as np
import pytest

from minizha.crosscheck.report.report import Report
from minizha.crosscheck.report.text import as_json, as_text, wants_color
from tests.support.report_cases import (
    REPORTS,
    array,
    different,
    equal,
    every_report,
    shape_differs,
    thousand,
    with_nan,
)


def widest(text):
    return max(
        sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)
        for line in text.split("\n")
    )


def bare(text):
    return re.sub(r"\x1b\[\d+m", "", text)


@every_report
@pytest.mark.parametrize("width", [48, 61, 80, 100, 200])
def test_no_line_is_wider(build, width):
    for every in (False, True):
        plain = as_text(build(), width=width, every=every)
        assert widest(plain) <= width
        assert all(c.isprintable() for c in plain.replace("\n", ""))
        assert all(line == line.rstrip() for line in plain.split("\n"))
        assert bare(as_text(build(), color=True, width=width, every=every)) == plain
    assert widest("曹" * 30) == 60


def test_first_line_is_the_verdict():
    assert as_text(equal()).split("\n") == [
        "equal: 28 arrays agree to rounding (largest error 0.3 of what rounding explains)"
    ]
    assert as_text(different()).startswith(
        "different: the first array to differ is encoder.layer.0.attention.scores\n"
    )
    some = Report((array("loss", 4.0),), missing=("a", "b"))
    assert as_text(some, width=120).split("\n")[0] == (
        "equal: 1 array agrees within what is allowed (largest error 4 times what rounding explains), "
        "2 missing"
    )
    assert str(different()) == as_text(different())
    unsure = REPORTS["undecided"]()
    assert as_text(unsure, width=120).startswith(
        "undecided: 28 arrays compared, none is wrong, but 2"
    )
    assert as_json(unsure)["verdict"] == "undecided"
    assert not unsure.ok


def test_a_difference_is_told_in_full():
    text = as_text(different())
    lines = [" ".join(line.split()) for line in text.split("\n")]
    assert "array 4 of 28, 2 × 4 × 16 × 16, float32; 25 in all differ" in lines
    assert "found rounding allowed" in lines
    assert "relative 0.01 1.0e-7 1.0e-6" in lines
    assert "absolute 0.08 8.0e-7 8.0e-6" in lines
    assert "in ULP 3 ≥ 0.839" in lines
    assert "worst entry [B 1, N 3, L 0, J 12]: ours 0.125, theirs 1" in lines
    assert "50 % of its entries differ" in lines
    assert "heads: 2 of 4 (0, 3)" in lines
    why = lines.index("why: this mistake gives their array")
    assert lines[why + 1 : why + 3] == [
        "layer 0 scores match: 1/√d missing — seen in bert4torch 0.6.2",
        "remaining error: 2.0e-7 with this mistake, 0.9 without it",
    ]
    assert "missing in theirs (1): pooler.dense" in lines
    assert "left over in theirs (1): bert.position_ids" in lines
    assert lines[-1] == "2 names were matched by shape and value"


def test_several_mistakes_that_give_the_same():
    report = different()
    findings = (*report.findings, replace(report.findings[0], mistake="other", text="another one"))
    lines = as_text(replace(report, findings=findings)).split("\n")
    assert "why: each of these mistakes gives their array" in lines
    assert sum("remaining error" in line for line in lines) == 2
    assert not any(line.startswith("why") for line in as_text(shape_differs()).split("\n"))


def test_what_no_number_tells():
    text = as_text(with_nan())
    assert "NaN where ours is finite" in text
    assert "relative" not in text
    assert "ours -inf, theirs nan" in text
    text = as_text(shape_differs())
    assert "ours is 2 × 4, theirs 4 × 2" in text
    assert "worst entry" not in text


def test_what_has_a_reason_is_worse_than_any_number():
    small = array("loss", 0.1, False, reason="infinity where ours is finite")
    assert " ∞ " in as_text(Report((small,)))
    assert " ∞ " not in as_text(Report((replace(small, reason=""),)))


def rows(text):
    """{name: its numbers and bars}, from the table at the end."""
    table = text[text.index("÷ rounding") :].split("\n")[1:]
    found = (re.match(r"[✗ ] (\S+(?: \d+)?) +(.*)", line) for line in table)
    return {m[1]: m[2].split() for m in found if m}


def test_one_row_for_each_stage():
    table = rows(as_text(thousand(), width=80))
    assert list(table) == ["embeddings", *(f"layer {i}" for i in range(99)), "heads", "loss"]
    # the forward pass is equal, the backward pass is not
    assert table["embeddings"][:2] == ["2/4", "0.3"]
    assert table["layer 0"][0] == "9/10"
    assert len(as_text(thousand()).split("\n")) < 130
    forward_only = Report(tuple(d for d in different().differences if "grad" not in d.name))
    assert "backward" in as_text(different())
    assert "backward" not in as_text(forward_only)


def test_every_array_and_longer_bars_for_larger_errors():
    report = different()
    table = rows(as_text(report, every=True))
    assert list(table) == [d.name for d in report]
    by_ratio = sorted((float(row[1]), len((*row, "")[2])) for row in table.values())
    lengths = [length for _, length in by_ratio]
    assert lengths == sorted(lengths)
    assert lengths[0] == 0
    assert len(set(lengths)) > 4


def test_colours_mean_something():
    report = Report((array("a", 0.5), array("b", 5.0), array("c", 50.0, False)))
    lines = as_text(report, color=True, every=True).split("\n")
    red, green, yellow = "\x1b[31m", "\x1b[32m", "\x1b[33m"
    found = {name: [line for line in lines if f" {name} " in bare(line)][-1] for name in "abc"}
    assert green in found["a"]
    assert yellow in found["b"]
    assert red in found["c"]
    assert green not in found["c"]
    assert lines[0].startswith(red)
    assert as_text(equal(), color=True).startswith(green)
    assert "\x1b" not in as_text(report, every=True)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_who_wants_colour(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    closed = Terminal()
    closed.close()
    closed.isatty = lambda: io.StringIO.isatty(closed)
    for stream in (io.StringIO(), None, object(), closed):
        assert not wants_color(stream)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_color(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_color(Terminal())


# --- JSON ---------------------------------------------------------------------------------------


@every_report
def test_strict_json(build):
    report = build()
    content = as_json(report)
    text = json.dumps(content, allow_nan=False)
    assert json.loads(text) == content
    assert content["version"] == 2
    assert "location" in content  # "whereabouts" in version 1
    assert content["first_divergence"] == report.first_divergence
    assert [d["name"] for d in content["differences"]] == [d.name for d in report]
    assert content == report.to_json()


def test_json_keeps_what_is_not_finite():
    with pytest.raises(ValueError, match="JSON"):
        json.dumps(asdict(with_nan()), allow_nan=False)
    content = as_json(with_nan())
    found = content["differences"][1]
    assert (found["error"], found["max_abs"], found["ours"]) == ("NaN", "Infinity", "-Infinity")
    assert math.isnan(float(found["error"]))
    assert content["location"]["heat"][1][1] == "NaN"
    assert content["findings"][0]["text"] == "1/√d missing"
    assert content["tolerances"]["least"] == 10 * 1e-7
    assert content["tolerances"]["unit"].startswith("in units of `error`")


def test_json_of_numpy_numbers():
    d = array(
        "loss",
        ok=np.bool_(False),
        error=np.float32(0.5),
        index=(np.int64(2),),
        ulp=np.float64("inf"),
    )
    found = json.loads(json.dumps(as_json(Report((d,))), allow_nan=False))["differences"][0]
    assert (found["ok"], found["error"], found["index"], found["ulp"]) == (
        False,
        0.5,
        [2],
        "Infinity",
    )


def test_json_verdicts():
    assert [as_json(r)["verdict"] for r in (equal(), different())] == ["equal", "different"]
