"""The parser of the command line: errors in one line, an example in each help, versions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from minizha.errors import visible

DEFAULT_FOLDER = "minizha-sanguo"
"""Where ``minizha pretrain`` saves its model."""

EXAMPLES = {
    "minizha": "minizha pretrain",
    "minizha pretrain": "minizha pretrain --steps 200 --out small-model",
    "minizha prepare": "minizha prepare corpus.txt --out data",
    "minizha evaluate": "minizha evaluate --json",
    "minizha fill-mask": "minizha fill-mask '曹操引[MASK]来攻' --top-k 3",
    "minizha next-sentence": "minizha next-sentence '曹操大怒，引兵来攻。' '玄德大惊。'",
    "minizha info": "minizha info",
    "minizha convert": f"minizha convert {DEFAULT_FOLDER} converted",
    "minizha trace": f"minizha trace {DEFAULT_FOLDER} --inputs inputs.json --out ours.safetensors",
    "minizha compare": "minizha compare ours.safetensors theirs.safetensors",
    "minizha vectors": "minizha vectors verify results",
    "minizha vectors verify": "minizha vectors verify results --vectors vectors/v1",
    "minizha exercise": "minizha exercise list",
    "minizha exercise list": "minizha exercise list --language zh",
    "minizha exercise start": "minizha exercise start 5.2",
    "minizha exercise check": "minizha exercise check 5.2",
}
"""{command: the example that its help shows}; each can be pasted into bash and zsh."""


class Parser(argparse.ArgumentParser):
    """Reports an error in one line, without the usage; ``--help`` ends with an example."""

    def __init__(self, **options: Any) -> None:
        # an abbreviation would change its meaning, or end a script, when an option is added
        options |= {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**options)
        if self.prog in EXAMPLES:
            self.epilog = f"example:\n  {EXAMPLES[self.prog]}\n\n{self.epilog or ''}"

    def error(self, message: str) -> NoReturn:
        """Print the message and exit with status 2."""
        if message.startswith("unrecognized arguments: ") and message[24] != "-":
            message += " (a text with spaces needs quotes)"
        message = message if len(message) <= 500 else message[:400] + " …"
        about = about_bytes(message)
        self.exit(2, f"minizha: error: {visible(message)} (see {self.prog} --help){about}\n")


class ShowVersions(argparse.Action):
    """Unlike argparse's action "version", it finds the versions only when they are wanted."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the versions and exit."""
        from minizha.versions import describe_versions

        print(describe_versions(), flush=True)
        parser.exit()


def about_bytes(message: str) -> str:
    """What a message has to add if it shows an argument that is not UTF-8.

    Python puts a character of U+DC80 … U+DCFF in the place of each byte that it can't decode.
    """
    found = re.search(r"[\udc80-\udcff]|\\udc[89a-f][0-9a-f]", message)
    if found is None:
        return ""
    byte = ascii(found[0]).strip("'")[-2:]
    return f" (\\udc{byte} stands for the byte 0x{byte}: expected UTF-8 in the arguments)"
