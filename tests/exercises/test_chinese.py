"""Every wording of a verdict has its Chinese."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import minizha
from minizha.exercises import exercise, exercises, verdict
from minizha.exercises.chinese import WORDINGS, in_chinese, translated
from tests.crosscheck.test_relations import RELATIONS

PACKAGE = Path(minizha.__file__).parent
SOURCES = [
    *(
        f"crosscheck/{name}"
        for name in ("relations", "replacements", "pair_arguments", "pair_checks", "pair_functions")
    ),
    "crosscheck/pair_entries",
    *(f"exercises/{name}" for name in ("checks", "code", "findings", "judging")),
]
UNREACHED = {
    # a reader is told the error itself
    "a pair (y, cache) of the arguments", "the gradients of", "given dy of shape",
    "and forward's cache, a", "expected",
    # the book's arguments are right
    "expected a function, found", "expected an array, found a list; write numpy.array(…)",
    # names of files that no reader sees, and what programs are told
    "solution of", "start of",
    "verdict: language", "verdict: text: expected a string, found",
}  # fmt: skip
"""What no verdict has in it."""


def codes(task):
    return [task.solution, task.start, *map(task.code_of, task.mistakes)]


@pytest.mark.parametrize("ID", [task.id for task in exercises()])
def test_the_verdicts_that_ship_are_translated_whole(ID):
    for code in codes(exercise(ID)):
        english, chinese = verdict(ID, code), verdict(ID, code, "zh")
        assert english.ok is chinese.ok
        lines = english.text.splitlines()
        assert [translated(line) for line in lines] == chinese.text.splitlines()
        # what is left in Latin letters: names, code, and messages of Python
        rest = re.sub(r"Warning: .*|(改写为|写成乘积，).*", "", chinese.text)
        assert re.findall(r"[a-z]+ [a-z]+", rest) == []


@pytest.mark.parametrize("text", [*filter(None, RELATIONS)])
def test_every_relation_is_translated(text):
    assert re.search("[一-鿿]", translated(text))
    line = f"3 of 20 entries of x's gradient are wrong: {text}"
    assert translated(line).startswith("x 的梯度：20 个元素中有 3 个是错的：")


def wordings(source):
    """The literal parts of all strings of a module but docstrings, where they have two words."""
    module = ast.parse(source)
    documented = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
    patterns = {
        id(key) for node in ast.walk(module) if isinstance(node, ast.Dict) for key in node.keys
    }
    for node in ast.walk(module):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        text = node.value.strip(" ,:;\n'")
        if id(node) not in documented | patterns and re.search(r"[a-z]+'?s? [a-z]", text):
            yield text


def unknown(source):
    """The wordings that the table lacks."""
    known = [re.sub(r"\{\w+\}", "\0", english) for english in WORDINGS]
    return [
        text
        for text in wordings(source)
        if text not in UNREACHED
        and not text.startswith("check_pair")
        and not any(text in english for english in known)
        and translated(text) is None
    ]


@pytest.mark.parametrize("name", SOURCES)
def test_every_wording_of_a_module_is_in_the_table(name):
    source = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    assert list(wordings(source))
    assert unknown(source) == []


def test_a_new_wording_is_seen():
    """Negative control."""
    assert unknown(
        'def f(c):\n    """It is new."""\n    yield f"it is {c} times too cold: why?"'
    ) == ["times too cold: why?"]
    assert translated("it is colder than it should be") is None
    assert in_chinese("it is colder than it should be") == "it is colder than it should be"


@pytest.mark.parametrize("english", WORDINGS)
def test_both_sides_of_a_wording_have_the_same_slots(english):
    slots = [set(re.findall(r"\{\w+\}", text)) for text in (english, WORDINGS[english])]
    # a parameter that has a name needs no number
    assert slots[0] - slots[1] == ({"{k}"} if english == "argument {k} ({name})" else set())
    assert slots[1] <= slots[0]
    assert re.search("[一-鿿：；]", WORDINGS[english]) or english == WORDINGS[english]


def test_errors_in_code_are_told_in_chinese():
    found = verdict("5.2", "def f(:\n    pass", "zh")
    assert found.text == "SyntaxError: invalid syntax，在第 1 行：`def f(:`"
    assert verdict("5.2", "x = 1", "zh").text == "应有函数 rms_norm，没有找到"
    assert verdict("5.2", "print(3)\nexit()", "zh").text == (
        "代码抛出 SystemExit: None，在第 2 行：`exit()`\n你的代码打印了：\n3"
    )


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        (
            "remark: forward drops imaginary parts, so that it was checked by differences, to about "
            "1e-08, and not by the complex step; np.abs drops imaginary parts: write np.where(x > 0, "
            "x, -x); .real drops imaginary parts: leave it out",
            "备注：前向函数丢掉了虚部，所以用有限差分检验，精度约 1e-08，而不是用复步法；"
            "np.abs 会丢掉虚部：改写为 np.where(x > 0, x, -x)；.real 会丢掉虚部：去掉即可",
        ),
        (
            "the gradient of x can't be decided: forward has a kink at [0, 1], [2, 3], where its "
            "derivatives from both sides differ and backward may take either; the other 6 entries are "
            "right. Move x a little",
            "x 的梯度无法判定：前向函数在 [0, 1], [2, 3] 处有尖点，两侧的导数不同，"
            "反向函数取哪一个都可以；其余 6 个元素正确。请把 x 挪动一点",
        ),
        (
            "backward: expected 2 gradients, one for each float argument of forward (x, w), in their "
            "order, found 1",
            "反向函数应按顺序返回 2 个梯度，前向函数的每个浮点数组参数（x, w）各一个；实际返回了 1 个",
        ),
    ],
)
def test_long_lines_are_translated(english, chinese):
    assert translated(english) == chinese


def other_terms(english, chinese):
    """The glossary's terms in an English text whose Chinese is not in the Chinese text."""
    glossary = PACKAGE.parent / "docs" / "book" / "glossary.toml"
    terms = tomllib.loads(glossary.read_text(encoding="utf-8"))["terms"]
    text = re.sub(r"`[^`]*`|\$[^$]*\$|\{\w+\}|\(y, cache\)", " ", english)
    found = [t for t in terms if re.search(rf"\b{re.escape(t)}s?\b", text, re.IGNORECASE)]
    return [term for term in found if terms[term][0] not in chinese]


@pytest.mark.parametrize("task", exercises(), ids=lambda task: task.id)
def test_the_terms_are_those_of_the_glossary(task):
    for texts in (task.title, task.statement, task.explanation):
        assert other_terms(texts["en"], texts["zh"]) == []


def test_the_terms_of_the_wordings_are_those_of_the_glossary():
    assert [pair for pair in WORDINGS.items() if other_terms(*pair)] == []
    assert other_terms("A mask of $mask$.", "面具") == ["mask"]  # the control
