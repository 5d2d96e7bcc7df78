"""Build the site, English and Chinese, into docs/book/_build/site: ``python docs/book/build.py``

Needs ``pip install -e ".[book]"`` and Node. The first build fetches KaTeX and Pyodide with npm, as
package-lock.json names them; then no network is needed. Warnings are errors. To read the site, and to
check exercises in it: ``python -m http.server -d docs/book/_build/site``.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from minizha_book.translations import ENGLISH_ONLY

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parents[1]
BUILD = BOOK / "_build"
SITE = BUILD / "site"
LANGUAGES = {"en": "en", "zh": "zh_CN"}
"""The folder of each language in the site, and its name for Sphinx."""

RUNTIME = (
    "pyodide.mjs",
    "pyodide.asm.js",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
    "pyodide-lock.json",
)
"""What the browser needs of the npm package pyodide."""


def main() -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--language", choices=LANGUAGES, help="only one language")
    parser.add_argument(
        "--fresh", action="store_true", help="forget earlier builds and execute every page again"
    )
    parser.add_argument(
        "--catalogues",
        action="store_true",
        help="bring the Chinese catalogues in locale/ up to date, and build nothing",
    )
    arguments = parser.parse_args()
    if arguments.catalogues:
        catalogues()
        return
    start = time.perf_counter()
    if arguments.fresh:
        shutil.rmtree(BUILD, ignore_errors=True)
    packages()
    runtime()
    for folder in [arguments.language] if arguments.language else LANGUAGES:
        # MyST-NB keeps its own files beside the pages: only the pages go into the site
        sphinx("html", BUILD / "html" / folder, LANGUAGES[folder])
        shutil.rmtree(SITE / folder, ignore_errors=True)
        shutil.copytree(BUILD / "html" / folder, SITE / folder)
    shutil.copy(BOOK / "_templates/languages.html", SITE / "index.html")
    (SITE / ".nojekyll").touch()  # GitHub Pages: folders may begin with _
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    print(f"{SITE}: {size / 1e6:.1f} MB, built in {time.perf_counter() - start:.0f} s")


def packages() -> None:
    """KaTeX and Pyodide, of the versions and hashes in package-lock.json."""
    lock = BOOK / "package-lock.json"
    done = BOOK / "node_modules/.package-lock.json"
    if not done.is_file() or done.stat().st_mtime < lock.stat().st_mtime:
        if not shutil.which("npm"):
            raise SystemExit("npm is missing: install Node, which brings it")
        subprocess.run(["npm", "ci", "--silent"], cwd=BOOK, check=True)
    katex = BUILD / "static/katex"
    shutil.rmtree(katex, ignore_errors=True)
    (katex / "fonts").mkdir(parents=True)
    dist = BOOK / "node_modules/katex/dist"
    shutil.copy(dist / "katex.min.css", katex)
    for font in dist.glob("fonts/*.woff2"):
        shutil.copy(font, katex / "fonts")


def runtime() -> None:
    """Python for the browser: Pyodide, NumPy and minizha, once for both languages."""
    target = SITE / "runtime"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in RUNTIME:
        shutil.copy(BOOK / "node_modules/pyodide" / name, target)
    for line in (BOOK / "runtime/SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        wheel = BOOK / "runtime" / name
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != digest:
            raise SystemExit(f"{wheel}: expected the SHA-256 {digest}, found {found}")
        shutil.copy(wheel, target)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", BUILD / "wheel"]
    shutil.rmtree(BUILD / "wheel", ignore_errors=True)
    subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    (wheel,) = (BUILD / "wheel").glob("*.whl")
    # exercises need neither the novel nor the trained model: five sixths of the wheel
    with ZipFile(wheel) as whole, ZipFile(target / "minizha.whl", "w", ZIP_DEFLATED) as small:
        for name in whole.namelist():
            if not name.startswith("minizha/data/"):
                small.writestr(name, whole.read(name))


def sphinx(builder: str, target: Path, language: str) -> None:
    """Run Sphinx over the repository with the settings of this folder; stop on any warning."""
    pages = BUILD / f"doctrees-{builder}-{language}"
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-c", BOOK, "-d", pages]
    strict = [] if builder == "gettext" else ["-W", "--keep-going"]  # html shows every fault
    command += [*strict, "-q", "-D", f"language={language}", ROOT, target]
    if subprocess.run(command, check=False).returncode:
        shutil.rmtree(pages, ignore_errors=True)  # a page that is not read again warns of nothing
        raise SystemExit(1)


def catalogues() -> None:
    """Read the messages of all pages and merge them into the catalogues."""
    templates = BUILD / "gettext"
    shutil.rmtree(templates, ignore_errors=True)
    sphinx("gettext", templates, "en")
    for template in templates.rglob("*.pot"):
        if str(template.relative_to(templates)).startswith(ENGLISH_ONLY):
            template.unlink()
    command = [
        sys.executable,
        "-m",
        "sphinx_intl",
        "update",
        "-p",
        templates,
        "-d",
        BOOK / "locale",
        "-l",
        "zh_CN",
    ]
    subprocess.run([*command, "-w", "0"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
