"""Page and figures belong together; the commands fail for people in one line."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import pictures, report
from benchmarks.__main__ import dump, main
from benchmarks.cases import CASES, SCALING
from minizha.errors import MinizhaError

FIGURES = json.loads(report.FIGURES.read_text("utf-8"))


def test_pages_and_pictures_show_the_figures():
    made = report.pages(FIGURES)
    for path, content in made.items():
        with open(path, "rb") as file:
            assert file.read() == content, f"{path}: run python -m benchmarks write"
    pictured = {path.name for path in (report.REFERENCE / "performance").iterdir()}
    assert pictured == {path.rsplit("/", 1)[1] for path in made if path.endswith(".svg")}
    shown = set(re.findall(r"\(performance/([\w-]+\.svg)\)", report.PAGE.read_text("utf-8")))
    assert shown == pictured


@pytest.mark.parametrize("case", ["body-8x128", "training-8x128"])
def test_another_figure_gives_another_page(case):
    altered = json.loads(json.dumps(FIGURES))
    altered["cases"][case]["ratios"]["transformers"] += 0.5
    altered["cases"][case]["memory"]["minizha"]["peak"] *= 2
    before, after = report.pages(FIGURES), report.pages(altered)
    changed = {path.rsplit("/", 1)[1] for path in before if before[path] != after[path]}
    assert changed == {"performance.md", "README.md", "README.zh-CN.md", "speed.svg"}


def test_the_page_has_every_case_that_is_measured_and_the_machine():
    page = report.PAGE.read_text("utf-8")
    assert set(FIGURES["cases"]) <= {case.name for case in CASES}
    assert FIGURES["cases"]
    for name in FIGURES["cases"]:
        assert f"| {name} |" in page
    assert all(value in page for value in FIGURES["machine"].values())
    assert FIGURES["machine"]["processor"] == "AMD EPYC, 2 cores"  # as README says in words
    assert "two cores of an AMD EPYC" in (report.ROOT / "README.md").read_text("utf-8")


def test_what_was_not_measured_is_a_dash():
    case = {
        "task": "body", "batch": 1, "length": 8, "layers": 4, "seconds": {"minizha": 0.51234},
        "ratios": {"transformers": 1.256},
        "memory": {"minizha": {"before": 100, "peak": 1350, "after": 120}},
        "tokens_per_second": 12345, "gigaflops_per_second": 99.6,
    }  # fmt: skip
    cases = {"body-8x128": case}
    last = [
        table(cases).splitlines()[-1]
        for table in (report.speed_table, report.rate_table, report.memory_table)
    ]
    assert last == [
        "| body-8x128 | 0.512 | 1.26 | – | – | – |",
        "| body-8x128 | 12,345 | 100 |",
        "| body-8x128 | 1,250 | – | 1,350 | – |",
    ]
    assert (
        report.readme_table(cases, 1).splitlines()[-1].startswith("| 前向传播，主体 | 4 | (1, 8) |")
    )
    text = report.as_text("body-8x128", case | {"failed": {"onnxruntime": "out of memory"}})
    assert "ONNX Runtime: out of memory" in text


def test_a_block_that_nothing_fills_is_an_error(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- figures: spede -->\nold\n<!-- end -->\nb\n", "utf-8")
    with pytest.raises(MinizhaError, match=r"expected the blocks \['speed'\], found \['spede'\]"):
        report.fill(page, {"speed": "new"})
    assert (
        report.fill(page, {"spede": "new\n"})
        == "a\n<!-- figures: spede -->\n\nnew\n\n<!-- end -->\nb\n"
    )


# --- pictures ------------------------------------------------------------------------------------


def test_bars_are_as_long_as_the_ratios():
    svg = ElementTree.fromstring(
        pictures.bars(
            [("a", [("transformers", 1.0), ("onnxruntime", 0.5)]), ("b", [("transformers", 2.0)])]
        )
    )
    rects = [
        rect for rect in svg.iter() if rect.tag.endswith("rect") and rect.get("height") != "11"
    ]
    assert [float(rect.get("width")) / float(rects[0].get("width")) for rect in rects] == [
        1,
        0.5,
        2,
    ]


def test_lines_leave_out_what_is_missing():
    panel = {
        "s": {
            "minizha": [(1, 0.5), (2, 1.0), (4, 2.0)],
            "transformers": [(1, 1.0), (2, 2.0), (4, None)],
        }
    }
    svg = ElementTree.fromstring(pictures.lines("L", panel))
    circles = [c for c in svg.iter() if c.tag.endswith("circle")]
    assert [c.get("fill") for c in circles].count(pictures.COLOURS["transformers"]) == 2
    across, up = ([float(c.get(name)) for c in circles[:3]] for name in ("cx", "cy"))
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)  # logarithmic
    assert up[0] - up[1] == pytest.approx(up[1] - up[2], abs=0.2)
    assert up[0] > up[1]  # larger numbers are higher


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0.9, 11, [1, 2, 5, 10]), (1, 1e4, [1, 10, 100, 1e3, 1e4]), (3, 4, [3])],
)
def test_ticks(low, high, found):
    assert pictures.ticks(low, high) == pytest.approx(found)


# --- the commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--case", "body-8x12"], "--case: expected one of body-8x128, "),
        (["--case", "body-8x12"], "found 'body-8x12'; did you mean body-8x128?"),
        (["scaling", "--case", "body-8x128"], "--case: expected one of L=64, "),
        (["--peer", "jax"], "--peer: expected one of transformers, torch.compile, onnxruntime"),
        (["--rounds", "0"], "--rounds: expected"),
        (["--threads", "-1"], "--threads: expected"),
        (["write", "--json", "nowhere.json"], "nowhere.json: "),
        (["--quick", "--json", "other.json"], "expected figures of this machine"),
        (["--quick", "--json", "broken.json"], "broken.json: "),
        (["write", "--json", "other.json"], "expected a machine and cases"),
    ],
)
def test_an_error_is_one_line(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"machine": {"processor": "another"}}')
    (tmp_path / "broken.json").write_text('{"machine": ')
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_list_measures_nothing(capsys):
    assert main(["--list"]) == 0
    out = capsys.readouterr().out
    assert all(case.name in out for case in CASES)
    assert main(["scaling", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(case.name in out for case in SCALING["L"])


def test_a_file_gets_case_after_case(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("benchmarks.__main__.why_not", lambda side, case: "not here")
    path = tmp_path / "figures.json"
    command = ["--quick", "--rounds", "1", "--threads", "1", "--json", str(path)]
    assert main([*command, "--case", "quick-body"]) == 0
    first = json.loads(path.read_text("utf-8"))
    assert main([*command, "--case", "quick-loading"]) == 0
    both = json.loads(path.read_text("utf-8"))
    assert both["machine"] == first["machine"]
    assert both["cases"]["quick-body"] == first["cases"]["quick-body"]
    assert both["cases"].keys() == {"quick-body", "quick-loading"}
    assert both["cases"]["quick-body"].keys() >= {"date", "commit", "seconds", "memory"}
    said = capsys.readouterr()
    assert "quick-loading\n  minizha" in said.out
    assert "transformers: left out: not here" in said.err
    assert "1 to measure, about 1 min" in said.err


def test_numbers_of_a_list_stand_on_one_line():
    value = {"a": [1, 2.5, 1e-7], "b": {"c": [], "d": "1"}, "e": None}
    text = dump(value).decode()
    assert json.loads(text) == value
    assert '"a": [1, 2.5, 1e-07]' in text
