"""The shell commands that a page shows, and a run of each with stubs in place of the programs.

A stub records its arguments and exits with 0, so nothing is installed or trained. What the shell
passes to ``minizha`` is parsed by the real parser of the command line.
"""

import argparse
import contextlib
import io
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.__main__ import _parser as _benchmarks_parser
from minizha.cli import _parser
from tests.support.paths import ROOT

PROGRAMS = (
    *("minizha", "pip", "python", "python3", "pytest", "node", "ruff", "mypy", "twine"),
    *("pre-commit", "git", "tox"),
)
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ +)*(?:{'|'.join(PROGRAMS)})(?: .*)?")
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
SHELL_BLOCKS = ("", "sh", "bash", "console")
INDENTED = re.compile(r"^ {4}(\S.*)$", re.M)
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
MARKDOWN_CELL = re.compile(r"^# %% \[markdown\]\n((?:#.*\n)*)", re.M)

# -m venv and -m build make what the next command of the same line reads
STUB = """#!/bin/sh
printf '%s\\0' "$(($# + 1))" "${0##*/}" "$@" >>"$RECORDED"
case "$1 $2" in
"-m venv") /bin/mkdir -p "$3/bin" && : >"$3/bin/activate" ;;
"-m build") /bin/mkdir -p dist && : >dist/minizha.whl ;;
esac
"""


class Shown(NamedTuple):
    """A command as a page shows it; ``inline`` if in a sentence, where a bare name is a mention."""

    command: str
    inline: bool


def shown_commands(text: str) -> list[Shown]:
    """The commands in the blocks and in the sentences of a Markdown page, in that order."""
    blocks = [block for language, block in FENCED.findall(text) if language in SHELL_BLOCKS]
    prose = FENCED.sub("", text)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines() + INDENTED.findall(prose)
    spans = [" ".join(span.split()) for span in INLINE.findall(prose)]
    stripped = [" ".join(line.split()).removeprefix("$ ") for line in lines]
    return [Shown(line, False) for line in stripped if COMMAND.fullmatch(line)] + [
        Shown(span, True) for span in spans if COMMAND.fullmatch(span)
    ]


def markdown_of(path: Path) -> str:
    """The text of a page; of a tutorial, its Markdown cells without the leading ``#``."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        return text
    return re.sub(r"^# ?", "", "\n".join(MARKDOWN_CELL.findall(text)), flags=re.M)


def shells() -> dict[str, list[str]]:
    """{name: command line} of the shells of this machine, each strict about patterns of file names."""
    strict = {"bash": ["-O", "failglob", "-e", "-c"], "zsh": ["-f", "-e", "-c"]}
    found = {name: shutil.which(name) for name in strict} if sys.platform != "win32" else {}
    return {name: [path, *strict[name]] for name, path in found.items() if path}


def run_in_shell(command: str, shell: list[str], folder: Path) -> list[list[str]]:
    """The programs that a shell starts for a command, each with its arguments.

    Raises:
        AssertionError: the shell refuses the command.
    """
    stubs, here, recorded = folder / "stubs", folder / "here", folder / "recorded"
    shutil.rmtree(folder, ignore_errors=True)
    for path in (stubs, here):
        path.mkdir(parents=True)
    for program in PROGRAMS:
        (stubs / program).write_text(STUB, "utf-8")
        (stubs / program).chmod(0o755)
    recorded.touch()
    environment = {"PATH": str(stubs), "RECORDED": str(recorded), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*shell, command], cwd=here, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return list(_calls(recorded.read_text("utf-8").split("\0")[:-1]))


def arguments_of(command: str, shell: str, folder: Path) -> list[str] | None:
    """The arguments of the one program that a command starts; None where the shell refuses it."""
    try:
        ((_, *arguments),) = run_in_shell(command, shells()[shell], folder)
    except (AssertionError, ValueError):
        return None
    return arguments


def _calls(words: list[str]) -> Iterator[list[str]]:
    """Each call is recorded as the number of its words, then the words."""
    while words:
        end = 1 + int(words[0])
        yield words[1:end]
        words = words[end:]


def faults(shown: Shown, calls: list[list[str]], folder: Path) -> list[str]:
    """What is wrong with the arguments that the programs got: options, files and extras."""
    found = [] if calls else [f"{shown.command}: starts no program"]
    if "#" in re.sub(r"'[^']*'|\"[^\"]*\"", "", shown.command):
        found.append(f"{shown.command}: an interactive zsh takes a comment for arguments")
    for program, *arguments in calls:
        if program.startswith("python") and arguments[:2] == ["-m", "minizha"]:
            program, arguments = "minizha", arguments[2:]
        if program.startswith("python") and arguments[:2] == ["-m", "benchmarks"]:
            found += _refused(arguments[2:], _benchmarks_parser())
        if program == "minizha" and not (shown.inline and _names_a_command(arguments)):
            found += _refused(arguments, _parser())
        for argument in arguments:
            if argument.endswith((".py", ".mjs")) and not _is_file(argument, folder):
                found.append(f"{shown.command}: no file {argument}")
            if program == "pip" and argument.endswith("]"):
                found += _unknown_extras(argument)
    return found


def _refused(arguments: list[str], parser: argparse.ArgumentParser) -> list[str]:
    """What the parser of a command line says against the arguments."""
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(arguments)
    except SystemExit as error:  # --help and --version exit with 0
        return [message.getvalue()] if error.code else []
    return []


def _names_a_command(arguments: list[str]) -> bool:
    parser = _parser()
    for word in arguments:
        choices = commands_of(parser)
        if word not in choices:
            return False
        parser = choices[word]
    return True


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """{name: parser} of a parser's commands."""
    subparsers = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    return dict(subparsers[0].choices) if subparsers else {}


def _is_file(argument: str, folder: Path) -> bool:
    return any((start / argument).is_file() for start in (ROOT, folder))


def _unknown_extras(requirement: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    name, _, extras = requirement.rstrip("]").partition("[")
    if name not in (".", project["name"]):
        return []
    unknown = set(extras.split(",")) - set(project["optional-dependencies"])
    return [f"{requirement}: pyproject.toml has no extra {extra}" for extra in sorted(unknown)]
