"""``minizha exercise list``, ``start`` and ``check``: files, exit statuses, progress."""

import json
import shlex

import pytest

from minizha.cli import main
from minizha.exercises import exercise, exercises
from minizha.exercises.commands import PROGRESS

TASK = exercise("5.2")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """(exit status, stdout, stderr) of ``minizha exercise …`` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            status = main(["exercise", *arguments])
        except SystemExit as exit:  # argparse's
            status = exit.code
        return (status, *capsys.readouterr())

    return run


def refused(result):
    """The one line on stderr of a command that ends with status 2."""
    status, out, error = result
    assert (status, out) == (2, "")
    assert error.startswith("minizha: error: ")
    assert error.count("\n") == 1
    return error


def test_the_list_has_a_line_for_each(run):
    status, out, error = run("list")
    assert (status, error) == (0, "")
    assert out.splitlines() == [f"{task.id}  {task.title['en']}" for task in exercises()]
    _, out, _ = run("list", "--language", "zh")
    assert out.splitlines() == [f"{task.id}  {task.title['zh']}" for task in exercises()]


@pytest.mark.parametrize("task", exercises(), ids=lambda task: task.id)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_start_writes_the_statement_the_command_and_no_solution(task, language, run, tmp_path):
    status, out, _ = run("start", task.id, "--language", language)
    name = f"exercise_{task.id.replace('.', '_')}.py"
    assert status == 0
    assert out.strip().endswith(name)
    text = (tmp_path / name).read_text(encoding="utf-8")
    comments, code = text.split("\n\n", 1)
    assert code == task.start.strip() + "\n"
    lines = [line.removeprefix("#").removeprefix(" ") for line in comments.splitlines()]
    assert task.title[language] in lines[0]
    assert task.statement[language].strip() in "\n".join(lines)
    assert lines[-1].strip().startswith(f"minizha exercise check {task.id}")
    for part in set(task.solution.splitlines()) - set(task.start.splitlines()):
        assert part not in text.splitlines()
    assert not any(explained in text for explained in task.explanation.values())
    # the command that is shown there, on the file as it is
    command = lines[-1].split()[2:]
    assert run(*command)[0] == 1


def test_a_file_that_exists_is_left_as_it_is(run, tmp_path):
    path = tmp_path / "exercise_5_2.py"
    path.write_text("mine", encoding="utf-8")
    assert "exercise_5_2.py: expected no file of this name" in refused(run("start", "5.2"))
    assert path.read_text(encoding="utf-8") == "mine"
    path.unlink()
    path.symlink_to("nothing")
    refused(run("start", "5.2"))
    assert path.is_symlink()


def test_start_makes_the_folder(run, tmp_path):
    assert run("start", "5.2", "--dir", "new/one")[0] == 0
    assert run("start", "5.3", "--dir", "new/one")[0] == 0
    assert len([*(tmp_path / "new" / "one").iterdir()]) == 2


def test_right_wrong_and_raising(run, tmp_path):
    path = tmp_path / "exercise_5_2.py"
    path.write_text(TASK.start, encoding="utf-8")
    status, out, error = run("check", "5.2")
    assert (status, error) == (1, "")
    assert "each row along axis 1 is off by a multiple of x" in out.splitlines()[0]
    path.write_text("def rms_norm(x, w):\n    return x @ w", encoding="utf-8")
    assert run("check", "5.2")[0] == 1
    path.write_text(TASK.solution, encoding="utf-8")
    status, out, error = run("check", "5.2")
    assert (status, error) == (0, "")
    assert out.startswith("rms_norm_backward is right")
    _, out, _ = run("check", "5.2", "--language", "zh")
    assert out.startswith("rms_norm_backward 正确")


def test_undecided_is_not_right(run, tmp_path):
    text = TASK.solution.replace("n = x * s", "n = x * s * (1 + 1e-11 * np.random.randn())")
    (tmp_path / "exercise_5_2.py").write_text(text, encoding="utf-8")
    status, out, _ = run("check", "5.2")
    assert (status, out.splitlines()[0]) == (
        1,
        "the gradient of x can't be decided: forward is random: called twice with the same "
        "arguments, it gives another y. Draw the random numbers outside and pass them as an argument",
    )


def test_progress_survives_and_is_for_a_version(run, tmp_path):
    (tmp_path / "exercise_5_2.py").write_text(TASK.solution, encoding="utf-8")
    (tmp_path / "mine.py").write_text(exercise("4.1").solution, encoding="utf-8")
    assert run("check", "5.2")[0] == 0
    assert run("check", "4.1", "mine.py")[0] == 0
    (tmp_path / "exercise_5_2.py").write_text(TASK.start, encoding="utf-8")
    assert run("check", "5.2")[0] == 1  # it was solved once, and remains so
    solved = [line for line in run("list")[1].splitlines() if line.endswith("  solved")]
    assert solved == ["4.1  Softmax  solved", "5.2  RMSNorm  solved"]
    assert "已解出" in run("list", "--language", "zh")[1]
    path = tmp_path / PROGRESS
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"solved": {"5.2": TASK.version, "4.1": exercise("4.1").version}}
    path.write_text(json.dumps({"solved": {"5.2": "older"}}), encoding="utf-8")
    assert "solved" not in run("list")[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["exercise_5_2.py", "mine.py", PROGRESS]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"solved": {"5.2": 3}}', '{"solved": []}'])
def test_a_damaged_file_of_progress_is_refused_and_left(text, run, tmp_path):
    (tmp_path / "exercise_5_2.py").write_text(TASK.solution, encoding="utf-8")
    (tmp_path / PROGRESS).write_text(text, encoding="utf-8")
    for arguments in (["list"], ["check", "5.2"]):
        assert PROGRESS in refused(run(*arguments))
    assert (tmp_path / PROGRESS).read_text(encoding="utf-8") == text


def test_another_folder(run, tmp_path):
    (tmp_path / "book").mkdir()
    assert run("start", "5.2", "--dir", "book")[0] == 0
    (tmp_path / "book" / "exercise_5_2.py").write_text(TASK.solution, encoding="utf-8")
    assert run("check", "5.2", "--dir", "book")[0] == 0
    assert run("list", "--dir", "book")[1].count("solved") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["book"]


@pytest.mark.parametrize("folder", ["book", "my book's", "--dir", "two\nlines"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_command_in_a_started_file_names_its_folder(folder, language, run, tmp_path):
    assert run("start", "5.2", f"--dir={folder}", "--language", language)[0] == 0
    text = (tmp_path / folder / "exercise_5_2.py").read_text(encoding="utf-8")
    comments, code = text.split("\n\n", 1)
    assert code == TASK.start.strip() + "\n"
    assert all(line.startswith("#") for line in comments.split("\n"))
    command = shlex.split(comments.split("\n")[-1].removeprefix("#"))
    assert command[:4] == ["minizha", "exercise", "check", "5.2"]
    assert ("--language" in command) == (language == "zh")
    if "\n" not in folder:  # such a name can only be shown
        status, out, _ = run(*command[2:])
        assert status == 1
        assert ("错" in out) == (language == "zh")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["start", "9.9"], "expected an ID, such as "),
        (["check", "9.9"], "expected an ID, such as "),
        (["check", "5.2"], "no such file; `minizha exercise start 5.2` writes it"),
        (["check", "5.2", "none.py"], "none.py: can't be read: "),
        (["check", "5.2", "."], ".: expected a file, found a folder"),
        (
            ["check", "5.2", "bytes.py"],
            "bytes.py, line 1: expected UTF-8 text, found the byte 0xff",
        ),
        (["start", "5.2", "--dir", "bytes.py"], "bytes.py: expected a folder"),
        (["start"], "the following arguments are required: ID"),
        (["list", "--language", "de"], "invalid choice: 'de'"),
        ([], "the following arguments are required: ACTION"),
    ],
)
def test_what_can_not_be_used_is_refused_in_a_line(arguments, part, run, tmp_path):
    (tmp_path / "bytes.py").write_bytes(b"\xff")
    assert part in refused(run(*arguments))


def test_what_the_code_prints_can_not_change_the_terminal(run, tmp_path):
    text = TASK.solution + "\nprint('\\x1b[2J' + 'seen')\n"
    (tmp_path / "exercise_5_2.py").write_text(text, encoding="utf-8")
    _, out, _ = run("check", "5.2")
    assert out.endswith("your code printed:\n\\x1b[2Jseen\n")
