"""Is the built site whole? ``python docs/book/check_site.py [FOLDER]`` prints a table and every fault.

- Every link inside the site leads to a page, and to a place in it.
- No page loads a script, a style, a font or an image from elsewhere.
- A page has at most 300 kB of HTML as a server sends it, compressed by gzip.
- In Chromium, no page is wider than a phone's 390 pixels, none asks for anything from elsewhere, and none
  reports an error.

The exit status is 1 if there is a fault. ``--no-browser`` leaves out what needs Chromium.
"""

from __future__ import annotations

import argparse
import gzip
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

SITE = Path(__file__).resolve().parent / "_build/site"
LARGEST = 300_000
"""Bytes of HTML that a page may have, compressed."""
PHONE = 390
"""The width of a phone in pixels."""
LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("image", "href"), ("source", "src"),
          ("iframe", "src"), ("image", "xlink:href"), ("object", "data")}  # fmt: skip
"""What a page loads by itself; all other addresses are links, which a reader follows."""
IN_STYLES = re.compile(r"""(?:url\(|@import)\s*["']?(https?:|//)""")
TEXT = {".html", ".css", ".js", ".mjs", ".json", ".svg"}


class Page(HTMLParser):
    """The addresses of a page and the places that links can lead to."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.places: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what the element has."""
        for name, value in attributes:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)
            elif (tag, name) in LOADED:
                self.loads.append(value)
            elif name == "href":
                self.links.append(value)


class Browsed(NamedTuple):
    """What Chromium saw of a page."""

    width: int
    foreign: list[str]
    errors: list[str]
    files: list[Path]


def read(site: Path) -> dict[Path, Page]:
    """Every page of the site, by its file."""
    return {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }


def dead_links(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Links and loaded files that are missing, and fragments that no element has."""
    languages = {folder.name for folder in site.iterdir() if folder.is_dir()}
    for path, page in pages.items():
        for address in (*page.links, *page.loads):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = path if not parts.path else (path.parent / unquote(parts.path)).resolve()
            if not target.is_relative_to(site):
                yield f"{path.relative_to(site)}: {address} leads out of the site"
                continue
            inside = target.relative_to(site)
            if inside.parts and inside.parts[0] in {"en", "zh"} - languages:
                continue  # only one language was built
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{path.relative_to(site)}: {address} leads to no file"
            elif target in pages and not has(pages[target], parts.fragment):
                yield f"{path.relative_to(site)}: {address} leads to no place of that page"


def has(page: Page, fragment: str) -> bool:
    """Whether a link with this fragment leads to a place of the page."""
    return not fragment or unquote(fragment) in page.places


def foreign(site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """What pages and style sheets load from elsewhere."""
    for path, page in pages.items():
        for address in page.loads:
            if urlsplit(address).netloc:
                yield f"{path.relative_to(site)}: loads {address}"
    for path in sorted(site.rglob("*.css")):
        if IN_STYLES.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)}: loads something from elsewhere"


def too_large(site: Path, pages: Iterable[Path]) -> Iterator[str]:
    """Pages with too much HTML."""
    for path in pages:
        if loaded_bytes([path])[1] > LARGEST:
            raw, sent = loaded_bytes([path])
            yield f"{path.relative_to(site)}: {raw:,} bytes of HTML, {sent:,} sent, more than {LARGEST:,}"


def chromium() -> str | None:
    """The program, or None."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def browse(pages: Iterable[Path]) -> dict[Path, Browsed]:
    """Open each page in Chromium, as wide as a phone."""
    from playwright.sync_api import sync_playwright

    found = {}
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": PHONE, "height": 844})
        requests: list[str] = []
        errors: list[str] = []
        window.on("request", lambda request: requests.append(request.url))
        window.on("pageerror", lambda error: errors.append(str(error)))
        window.on("requestfailed", lambda request: errors.append(f"can't load {request.url}"))
        for path in pages:
            requests.clear()
            errors.clear()
            window.goto(path.resolve().as_uri(), wait_until="load")
            width = window.evaluate("document.documentElement.scrollWidth")
            local = [unquote(urlsplit(url).path) for url in requests if url.startswith("file:")]
            other = [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
            found[path] = Browsed(
                width, other, list(errors), [Path(name) for name in dict.fromkeys(local)]
            )
        browser.close()
    return found


def faults_of_browsing(site: Path, browsed: dict[Path, Browsed]) -> Iterator[str]:
    """Pages that are too wide, ask for something from elsewhere, or have an error."""
    for path, seen in browsed.items():
        name = path.relative_to(site)
        if seen.width > PHONE:
            yield f"{name}: {seen.width} pixels wide on a phone of {PHONE}"
        yield from (f"{name}: asks for {url}" for url in seen.foreign)
        yield from (f"{name}: {error}" for error in seen.errors)


def loaded_bytes(files: Iterable[Path]) -> tuple[int, int]:
    """The bytes of some files: as they are, and as a server sends them (text by gzip)."""
    raw = sent = 0
    for path in files:
        data = path.read_bytes() if path.is_file() else b""
        raw += len(data)
        sent += len(gzip.compress(data, 6)) if path.suffix in TEXT else len(data)
    return raw, sent


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the faults; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", nargs="?", type=Path, default=SITE)
    parser.add_argument("--no-browser", action="store_true", help="leave out what needs Chromium")
    options = parser.parse_args(arguments)
    site = options.site.resolve()
    pages = read(site)
    if not pages:
        parser.error(f"{site} has no page; python docs/book/build.py makes the site")
    faults = [*dead_links(site, pages), *foreign(site, pages), *too_large(site, pages)]
    sizes = {path: loaded_bytes([path]) for path in pages}
    largest = max(sizes, key=lambda path: sizes[path][1])
    everything = [path for path in site.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in everything)
    runtime = sum(
        path.stat().st_size for path in everything if "runtime" in path.relative_to(site).parts
    )
    rows = [
        ("pages", f"{len(pages)}"),
        (
            "files",
            f"{len(everything)}, {total / 1e6:.1f} MB, of them {runtime / 1e6:.1f} MB to run Python",
        ),
        (
            "largest page",
            f"{largest.relative_to(site)}, {sizes[largest][0] / 1e3:.0f} kB of HTML, "
            f"sent {sizes[largest][1] / 1e3:.0f} kB",
        ),
        ("addresses checked", f"{sum(len(p.links) + len(p.loads) for p in pages.values()):,}"),
    ]
    if not options.no_browser:
        if chromium() is None:
            parser.error("needs Chromium; --no-browser leaves out what it checks")
        browsed = browse(pages)
        faults += faults_of_browsing(site, browsed)
        loads = {path: loaded_bytes(seen.files) for path, seen in browsed.items()}
        most = max(loads, key=lambda path: loads[path][1])
        middle = sorted(loads.values(), key=lambda pair: pair[1])[len(loads) // 2]
        rows += [
            ("widest page", f"{max(seen.width for seen in browsed.values())} pixels on a phone of {PHONE}"),
            ("requests to elsewhere", f"{sum(len(seen.foreign) for seen in browsed.values())}"),
            ("loaded by a page", f"{middle[0] / 1e3:.0f} kB, sent {middle[1] / 1e3:.0f} kB (the median)"),
            ("loaded at most", f"{loads[most][0] / 1e3:.0f} kB, sent {loads[most][1] / 1e3:.0f} kB: "
                               f"{most.relative_to(site)}"),
        ]  # fmt: skip
    for name, value in [*rows, ("faults", f"{len(faults)}")]:
        print(f"{name:22} {value}")
    print(*faults, sep="\n", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
