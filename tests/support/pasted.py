"""What a shell makes of a command that a person copies from a help text, a message or a page."""

import shutil
import subprocess
import sys

_OPTIONS = {
    "bash": ["-O", "failglob", "-c"],
    "zsh": ["-f", "-c"],
}  # both refuse an unmatched [MASK]
SHELLS = sorted(name for name in _OPTIONS if shutil.which(name) and sys.platform != "win32")

_STUB = """#!/bin/sh
for argument; do printf '%s\\0' "$argument"; done >"$RECORDED"
"""


def arguments_of(line, shell, folder):
    """The arguments that ``minizha`` or ``pip`` gets from a command line; None if the shell refuses it.

    A stub in place of the program writes its arguments into a file of ``folder``. The shell starts
    in an empty folder.
    """
    stubs, here, recorded = folder / "stubs", folder / "empty", folder / "recorded"
    for path in (stubs, here):
        path.mkdir(parents=True, exist_ok=True)
    for program in ("minizha", "pip"):
        (stubs / program).write_text(_STUB, "utf-8")
        (stubs / program).chmod(0o755)
    recorded.unlink(missing_ok=True)
    done = subprocess.run(
        [shutil.which(shell), *_OPTIONS[shell], line],
        cwd=here,
        env={"PATH": f"{stubs}:/bin:/usr/bin", "HOME": "/nowhere", "RECORDED": str(recorded)},
        capture_output=True,
        timeout=60,
    )
    if done.returncode or done.stderr or not recorded.exists():
        return None
    return recorded.read_text("utf-8").split("\0")[:-1]
