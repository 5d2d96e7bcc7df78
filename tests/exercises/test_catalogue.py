"""Every exercise: its start fails, its solution passes, each mistake fails with the hint that is named."""

import re

import pytest

from minizha.errors import ArgumentError
from minizha.exercises import exercise, exercises, verdict
from minizha.exercises.catalogue import LANGUAGES

EXERCISES = {each.id: each for each in exercises()}
MISTAKES = [(ID, k) for ID, each in EXERCISES.items() for k in range(len(each.mistakes))]


def test_the_ids_are_those_of_the_book_without_gaps():
    chapters = {}
    for ID in EXERCISES:
        chapter, number = map(int, ID.split("."))
        chapters.setdefault(chapter, []).append(number)
    assert list(chapters) == sorted(chapters)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in chapters.values())


@pytest.mark.parametrize("ID", EXERCISES)
def test_the_solution_passes(ID):
    found = verdict(ID, EXERCISES[ID].solution)
    assert found.ok is True, found.text
    assert "remark" not in found.text


@pytest.mark.parametrize("ID", EXERCISES)
def test_the_start_runs_and_fails(ID):
    found = verdict(ID, EXERCISES[ID].start)
    assert found.ok is False
    assert "raised" not in found.text


@pytest.mark.parametrize(("ID", "k"), MISTAKES)
def test_a_mistake_fails_with_its_hint(ID, k):
    task, mistake = EXERCISES[ID], EXERCISES[ID].mistakes[k]
    assert task.solution.count(mistake.replace) == 1
    found = verdict(ID, task.code_of(mistake))
    assert found.ok is False
    assert mistake.hint in found.text
    assert re.search("[a-z]{3}", mistake.hint), "a hint has words"


@pytest.mark.parametrize("ID", EXERCISES)
def test_an_exercise_is_whole(ID):
    task = EXERCISES[ID]
    assert len(task.mistakes) >= 2
    assert len({task.code_of(mistake) for mistake in task.mistakes}) == len(task.mistakes)
    for texts in (task.title, task.statement, task.explanation):
        assert tuple(texts) == LANGUAGES
        assert all(text.strip() for text in texts.values())
    assert texts["en"] != texts["zh"]
    assert not any(re.search("[一-鿿]", t["en"]) for t in (task.title, task.statement))
    assert all(re.search("[一-鿿]", t["zh"]) for t in (task.statement, task.explanation))


@pytest.mark.parametrize("ID", EXERCISES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_formulas_are_ascii_and_the_same_in_both_languages(ID, language):
    task = EXERCISES[ID]
    for texts in (task.title, task.statement, task.explanation):
        formulas = re.findall(r"\$([^$]+)\$", texts[language])
        assert texts[language].count("$") == 2 * len(formulas)
        assert all(formula.isascii() for formula in formulas)
        names = sorted(re.findall(r"`[^`]+`", texts["en"]))
        assert names == sorted(re.findall(r"`[^`]+`", texts["zh"])), "code is not translated"


def test_the_version_is_that_of_start_and_check():
    task = EXERCISES["5.2"]
    assert re.fullmatch("[0-9a-f]{12}", task.version)
    assert len({each.version for each in EXERCISES.values()}) == len(EXERCISES)


def test_an_unknown_exercise_names_the_nearest():
    assert exercise("5.2") is EXERCISES["5.2"]
    with pytest.raises(
        ArgumentError, match=r"^exercise: expected an ID, such as 5\.\d \(.*found '5.99'"
    ):
        exercise("5.99")
    with pytest.raises(ArgumentError, match=r"found 5\.2"):
        exercise(5.2)
