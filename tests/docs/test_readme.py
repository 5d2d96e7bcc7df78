"""README's reading order is complete, and it is the only one."""

import re

import pytest

from tests.support.paths import REFERENCE, ROOT

SOURCE = re.compile(r"\]\((minizha/(?:ops|nezha)/\w+\.py)\)")
EASY_FIRST = ["linear", "softmax", "cross_entropy", "layer_norm", "gelu"]


def reading_order(text):
    """The files of the operations and of the network, each where it first appears."""
    return list(dict.fromkeys(SOURCE.findall(text)))


def files(folder):
    found = (ROOT / "minizha" / folder).glob("*.py")
    return {f"minizha/{folder}/{path.name}" for path in found if path.stem != "__init__"}


def test_the_reading_order_has_every_file_of_the_mathematics():
    order = reading_order((ROOT / "README.md").read_text("utf-8"))
    assert set(order) == files("ops") | files("nezha")
    assert [place.rsplit("/", 1)[1].removesuffix(".py") for place in order[:5]] == EASY_FIRST
    operations = [i for i, place in enumerate(order) if place.startswith("minizha/ops/")]
    assert operations == list(range(len(operations)))  # the network comes behind all of them
    assert order.index("minizha/ops/attention.py") > order.index("minizha/ops/embedding.py")
    assert order[-1] == "minizha/nezha/body.py"


@pytest.mark.parametrize("package", ["ops", "nezha", "model", "crosscheck", "checkpoint"])
def test_no_second_list_of_files_grows_old(package):
    """README orders ops and nezha; the other packages order their own files, in their docstring."""
    names = {path.stem for path in (ROOT / "minizha" / package).glob("[a-z]*.py")}
    pages = [ROOT / "CONTRIBUTING.md", REFERENCE / "design.md"]
    if package in ("ops", "nezha"):
        pages.append(ROOT / "minizha" / package / "__init__.py")
    for page in pages:
        for paragraph in page.read_text("utf-8").split("\n\n"):
            assert longest_list(paragraph, names) < 5, (page, paragraph)
    assert longest_list(f"Read {', '.join(sorted(names)[:5])}.", names) == 5


def longest_list(text, names):
    """How many of the names follow each other, with nothing between them but commas and the like."""
    runs = re.findall(r"\w+(?:(?:[,;]\s*| and )\w+)+", text)
    return max((len(names.intersection(re.split(r"\W+", run))) for run in runs), default=0)


def missing_links(text):
    """The tests that a page links to a file that doesn't define them."""
    linked = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", text)
    return [n for n, path in linked if f"def {n}(" not in (ROOT / path).read_text("utf-8")]


def test_every_row_links_to_the_file_of_its_test():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("[`test_") > 25
    assert missing_links(text) == []
    assert missing_links("[`test_nothing`](tests/docs/test_readme.py)") == ["test_nothing"]


def names_of_page(page):
    """What the Python of a page defines."""
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (REFERENCE / page).read_text("utf-8"), re.S):
        exec(block, names)
    return names


def test_the_python_of_the_page_on_decoders_runs():
    assert names_of_page("decoders.md")["rest"].last_hidden_state.shape == (1, 3, 32)


def test_the_python_of_the_page_on_parts_of_a_batch_runs():
    names = names_of_page("accumulation.md")
    assert names["difference"](names["exact"], names["expected"]) < 1e-12
    assert names["difference"](names["plain"], names["expected"]) > 0.5  # the control
    assert names["difference"](names["pretrained"], names["both"]) < 1e-12
