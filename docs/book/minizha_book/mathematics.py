"""Formulas: KaTeX renders them when the site is built, and a fault in one of them fails the build."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinxcontrib import katex

log = logging.getLogger(__name__)

MACROS = {
    r"\mean": r"\operatorname{mean}",
    r"\diag": r"\operatorname{diag}",
    r"\clip": r"\operatorname{clip}",
    r"\softmax": r"\operatorname{softmax}",
    r"\d": r"\mathrm{d}",
    r"\R": r"\mathbb{R}",
    r"\C": r"\mathbb{C}",
    r"\T": r"^{\top}",
    r"\one": r"\mathbf{1}",
    r"\inner": r"\langle #1, #2\rangle",
}


class Untranslated(SphinxTransform):
    """Displayed formulas are the same in every language: they are no messages for translators."""

    default_priority = 5  # before messages are looked up

    def apply(self, **options: Any) -> None:
        """Mark them."""
        for node in self.document.findall(nodes.math_block):
            node["translatable"] = False


def check(app: Any, doctree: nodes.document) -> None:
    """Formulas hold ASCII only: other letters look alike, and fonts lack them."""
    for node in (*doctree.findall(nodes.math), *doctree.findall(nodes.math_block)):
        foreign = sorted({c for c in node.astext() if ord(c) > 127})
        if foreign:
            log.warning("a formula contains %s; write LaTeX", " ".join(foreign), location=node)


def start_server(folder: Path, timeout: float) -> tuple[subprocess.Popen, socket.socket]:
    """Start KaTeX's server and connect. Its socket is there before it can be used, so ask again.

    A server that is left over must not keep a pipe open that somebody reads to its end.
    """
    place = folder / "katex.sock"
    process = subprocess.Popen(
        katex.KaTeXServer.build_command(socket=place),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    end = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(place))
            return process, connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > end:
                process.kill()
                raise
            time.sleep(0.01)


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    # the extension of KaTeX has no setting for these when it renders at build time
    katex.KaTeXServer.start_server_process = start_server
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = (
        60.0  # a busy machine needs more than five seconds
    )
    katex.KATEX_DEFAULT_OPTIONS.update({"throwOnError": True, "strict": "ignore", "macros": MACROS})
    app.add_transform(Untranslated)
    app.connect("doctree-read", check)
