"""Do the distributions hold what they should, no more and no less?

    python .ci/check_dist.py DIST

In the folder DIST lie the two files that ``python -m build`` made. The sdist has to have every file that
git tracks, with the same content, and the wheel the files of minizha/ and the licences.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
MADE = {"PKG-INFO"}
"""What building adds to the sdist."""
LICENSES = {"LICENSE", "NOTICE", "docs/examples/LICENSE", "tutorials/fonts/OFL.txt"}


def read_sdist(path):
    """``{name: content}``, without the folder in which all lie."""
    with tarfile.open(path) as archive:
        return {
            member.name.split("/", 1)[1]: archive.extractfile(member).read()
            for member in archive.getmembers()
            if member.isfile()
        }


def read_wheel(path):
    """``{name: content}``."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def faults(tracked, sdist, wheel):
    """In words; each argument is ``{name: content}``."""
    found = _compared("sdist", tracked, {n: c for n, c in sdist.items() if n not in MADE})
    metadata = {name for name in wheel if name.split("/")[0].endswith(".dist-info")}
    package = {name: content for name, content in tracked.items() if name.startswith("minizha/")}
    found += _compared("wheel", package, {n: c for n, c in wheel.items() if n not in metadata})
    licenses = {name.split("/licenses/")[1] for name in metadata if "/licenses/" in name}
    return found + [f"wheel: no licence {name}" for name in sorted(LICENSES - licenses)]


def _compared(kind, expected, found):
    named = {
        "lacks": expected.keys() - found.keys(),
        "should not have": found.keys() - expected.keys(),
        "has another content of": {
            n for n in expected.keys() & found.keys() if expected[n] != found[n]
        },
    }
    return [f"{kind} {verb} {name}" for verb, names in named.items() for name in sorted(names)]


def tracked_files():
    """``{name: content}`` of what git tracks."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    names = done.stdout.decode().rstrip("\0").split("\0")
    return {name: (ROOT / name).read_bytes() for name in names}


def main(folder):
    """Print the faults; return the exit status."""
    (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
    found = faults(tracked_files(), read_sdist(sdist), read_wheel(wheel))
    print(*found or [f"{sdist.name} and {wheel.name} are complete"], sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
