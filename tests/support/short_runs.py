"""A pre-training run of a second, and the command line as a process of its own."""

import subprocess
import sys

from minizha.cli import main

COMMAND = [sys.executable, "-c", "import sys; from minizha.cli import main; sys.exit(main())"]
DOCUMENT = "一二三四五六七。八九十百千万，春夏秋冬东西南北。\n你好吗？我很好，你也好。\n\n"
TINY = ["--hidden-size", "8", "--layers", "1", "--heads", "2", "--intermediate-size", "8"]
TINY += ["--length", "16", "--batch-size", "4", "--workers", "1"]


def train_into(folder):
    """The model folder that two steps leave in ``folder``; its vocabulary has 35 tokens."""
    (folder / "corpus.txt").write_text(DOCUMENT * 4, "utf-8")
    arguments = ["--corpus", str(folder / "corpus.txt"), "--out", str(folder / "m")]
    assert main(["pretrain", "--steps", "2", *TINY, *arguments]) == 0
    return folder / "m"


def command(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        **options,
    )
