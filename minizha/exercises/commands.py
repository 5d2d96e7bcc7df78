"""The commands ``minizha exercise list``, ``start`` and ``check``."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import partial
from pathlib import Path

from minizha.errors import FileError, visible
from minizha.exercises.catalogue import LANGUAGES, Exercise, exercise, exercises

# NumPy is imported inside the commands: `minizha --help` need not wait for it

EXIT_RIGHT, EXIT_NOT_RIGHT = 0, 1
PROGRESS = "minizha-exercises.json"
LARGEST_TEXT = 1024**2
"""The most bytes of a reader's file."""

CHECK_LINE = {"en": "Check it with:", "zh": "检查："}


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the commands of this module to those of the command line."""
    about = commands.add_parser("exercise", help="solve the exercises of the book")
    actions = about.add_subparsers(required=True, metavar="ACTION")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--dir", default=".", metavar="DIR", help="the folder of your files (the current one)"
    )
    common.add_argument(
        "--language", choices=LANGUAGES, default="en", help="en, or zh for 简体中文 (en)"
    )
    add = partial(actions.add_parser, parents=[common])
    listing = add("list", help="list the exercises, with a mark behind those that you solved")
    listing.set_defaults(command=_list)
    starting = add("start", help="write the file in which you solve an exercise")
    starting.add_argument("id", metavar="ID", help="such as 5.2")
    starting.set_defaults(command=_start)
    checking = add(
        "check",
        help="check your file, with a hint if it is not right",
        epilog=f"exit status: {EXIT_RIGHT} right, {EXIT_NOT_RIGHT} not yet, 2 an exercise or a file "
        "that there is not",
    )
    checking.add_argument("id", metavar="ID", help="such as 5.2")
    checking.add_argument(
        "file", metavar="FILE", nargs="?", help="your file (the one that start writes)"
    )
    checking.set_defaults(command=_check)


def _list(options: argparse.Namespace) -> int:
    solved, mark = _solved(options.dir), {"en": "solved", "zh": "已解出"}[options.language]
    for task in exercises():
        line = f"{task.id}  {task.title[options.language]}"
        print(f"{line}  {mark}" if solved.get(task.id) == task.version else line)
    return 0


def _start(options: argparse.Namespace) -> int:
    from minizha.files import make_folder, path_exists, write_atomic

    task = exercise(options.id)
    path = os.path.join(options.dir, task.file_name)
    if path_exists(path):
        raise FileError(f"{path}: expected no file of this name, found one; it is left as it is")
    make_folder(options.dir)
    write_atomic(path, _text(task, options.language, options.dir).encode())
    print(visible(path))
    return 0


def _text(task: Exercise, language: str, folder: str) -> str:
    """What the reader begins with: the statement and the command as comments, and the start."""
    command = f"minizha exercise check {task.id}"
    if folder != ".":
        between = "=" if folder.startswith("-") else " "
        command += f" --dir{between}{visible(shlex.quote(folder))}"  # one line, being a comment
    if language != "en":
        command += f" --language {language}"
    lines = [
        f"{task.id}  {task.title[language]}",
        "",
        *task.statement[language].strip().split("\n"),
    ]
    lines += ["", CHECK_LINE[language], f"    {command}"]
    comments = "\n".join(f"# {line}".rstrip() for line in lines)
    return f"{comments}\n\n{task.start.strip()}\n"


def _check(options: argparse.Namespace) -> int:
    from minizha.exercises.judging import verdict
    from minizha.files import decode_text, read_bytes

    task = exercise(options.id)
    path = options.file or os.path.join(options.dir, task.file_name)
    if options.file is None and not os.path.lexists(path):
        raise FileError(f"{path}: no such file; `minizha exercise start {task.id}` writes it")
    text = decode_text(read_bytes(path, LARGEST_TEXT), path)
    solved = _solved(options.dir)  # a file that can't be read is said before the verdict
    found = verdict(task.id, text, options.language)
    print(visible(found.text, keep="\n\t"))
    if not found.ok:
        return EXIT_NOT_RIGHT
    if solved.get(task.id) != task.version:
        _keep(options.dir, solved | {task.id: task.version})
    return EXIT_RIGHT


def _solved(folder: str) -> dict[str, str]:
    """{ID: the version that was solved}, from the file of progress, if there is one.

    Raises:
        FileError: the file is damaged; it is left as it is.
    """
    from minizha.files import path_exists, read_json_object

    path = Path(folder) / PROGRESS
    if not path_exists(path):
        return {}
    solved = read_json_object(path, LARGEST_TEXT).get("solved")
    if not isinstance(solved, dict) or not all(isinstance(v, str) for v in solved.values()):
        raise FileError(
            f'{path}: expected {{"solved": {{"5.2": version, …}}}}; move the file away to begin anew'
        )
    return solved


def _keep(folder: str, solved: dict[str, str]) -> None:
    import json

    from minizha.files import write_atomic

    text = json.dumps({"solved": solved}, indent=2, ensure_ascii=False)
    write_atomic(Path(folder) / PROGRESS, f"{text}\n".encode())
