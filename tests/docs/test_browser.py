"""The site in Chromium, with every address but its own blocked: exercises, search, the two languages.

Runs where the site is built (``python docs/book/build.py``) and Chromium is installed.
"""

import functools
import http.server
import shutil
import threading
import time
import tomllib
from pathlib import Path

import pytest

from minizha.exercises import exercises

playwright = pytest.importorskip("playwright.sync_api", reason='needs pip install -e ".[book]"')

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "docs/book/_build/site"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(
        not (SITE / "zh").is_dir(), reason="needs the site: python docs/book/build.py"
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]
FIRST, LATER = 10.0, 0.5
"""Seconds that the first and each later verdict may take."""

QUERIES = tomllib.loads((ROOT / "tests/docs/queries.toml").read_text(encoding="utf-8"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def context(address):
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.foreign = []
        context.route(lambda url: not url.startswith(address), lambda route: refuse(context, route))
        yield context
        assert not context.foreign
        browser.close()


def refuse(context, route):
    context.foreign.append(route.request.url)
    route.abort()


@pytest.fixture
def page(context):
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    yield page
    assert not page.faults
    page.close()


def pages_with_exercises():
    """{ID: page}, read from the English pages."""
    found = {}
    for path in sorted((SITE / "en/docs/book").glob("*.html")):
        text = path.read_text(encoding="utf-8")
        for exercise in exercises():
            if f'data-id="{exercise.id}"' in text:
                found[exercise.id] = path.name
    return found


def check(box, text):
    """Write a text, press the button, wait for the verdict; (class, verdict, seconds)."""
    box.locator("textarea").fill(text)
    began = time.perf_counter()
    box.locator("button.check").click()
    box.locator("button.check:not([disabled])").wait_for(timeout=60_000)
    seconds = time.perf_counter() - began
    return box.get_attribute("class").split(), box.locator(".verdict").text_content(), seconds


def test_every_exercise_is_on_a_page():
    assert set(pages_with_exercises()) == {exercise.id for exercise in exercises()}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_exercise_is_checked_by_the_browser(page, address, language):
    places = pages_with_exercises()
    first, later, open_page = [], [], None
    for exercise in exercises():
        fresh = places[exercise.id] != open_page
        if fresh:
            open_page = places[exercise.id]
            page.goto(f"{address}/{language}/docs/book/{open_page}")
        box = page.locator(f'.exercise-check[data-id="{exercise.id}"]')
        kinds, _, seconds = check(box, exercise.start)
        (first if fresh else later).append(seconds)
        assert "wrong" in kinds, exercise.id
        for mistake in exercise.mistakes:
            kinds, verdict, seconds = check(box, exercise.code_of(mistake))
            assert "wrong" in kinds, exercise.id
            assert language == "zh" or mistake.hint in verdict, exercise.id
            later.append(seconds)
        kinds, verdict, seconds = check(box, exercise.solution)
        assert "right" in kinds, (exercise.id, verdict)
        later.append(seconds)
    print(
        f"{language}: first verdicts at most {max(first):.1f} s, later at most {max(later):.2f} s"
    )
    # the machine may be busy with something else for a moment
    assert sorted(first)[len(first) // 2] < FIRST
    assert sorted(later)[len(later) // 2] < LATER


def test_what_was_written_survives_a_reload(page, address):
    where = f"{address}/en/docs/book/{pages_with_exercises()['5.1']}"
    page.goto(where)
    area = page.locator('.exercise-check[data-id="5.1"] textarea')
    area.fill("my own words")
    page.reload()
    assert area.input_value() == "my own words"
    reset = page.locator('.exercise-check[data-id="5.1"] button.reset')
    reset.click()
    assert "def layer_norm_backward" in area.input_value()
    area.fill("a second try")  # what was written before must not be lost by it
    found = set()
    for _ in range(3):
        reset.click()
        found.add(area.input_value())
        page.reload()
    assert {"my own words", "a second try"} < found
    assert len(found) == 3


def test_a_run_without_end_can_be_stopped(page, address):
    page.goto(f"{address}/en/docs/book/{pages_with_exercises()['5.1']}")
    box = page.locator('.exercise-check[data-id="5.1"]')
    box.locator("textarea").fill("while True:\n    pass")
    box.locator("button.check").click()
    page.wait_for_timeout(500)
    box.locator("button.stop").click()
    kinds, _, _ = check(box, {exercise.id: exercise for exercise in exercises()}["5.1"].solution)
    assert "right" in kinds


def test_the_switch_leads_to_the_same_section(page, address):
    page.goto(f"{address}/en/docs/book/05_layer_norm.html")
    section = page.locator("section[id] section[id]").nth(2)
    section.scroll_into_view_if_needed()
    page.evaluate("id => document.getElementById(id).scrollIntoView()", section.get_attribute("id"))
    page.locator(".language-switch").first.click()
    page.wait_for_load_state()
    assert "/zh/docs/book/05_layer_norm.html#" in page.url
    assert page.locator("html").get_attribute("lang").lower().startswith("zh")
    fragment = page.url.split("#")[1]
    assert page.locator(f"section[id='{fragment}']").count() == 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_search_finds_the_page_first_or_second(page, address, language):
    missed = []
    for query, expected in QUERIES[language].items():
        page.goto(f"{address}/{language}/search.html?q={query}")
        page.locator("#search-results ul.search li a").first.wait_for(timeout=5000)
        page.wait_for_timeout(150)
        links = page.locator("#search-results ul.search > li > a")
        found = [
            links.nth(i).get_attribute("href").split("?")[0].split("#")[0]
            for i in range(min(2, links.count()))
        ]
        if not any(href.endswith(f"{expected}.html") for href in found):
            missed.append((query, expected, found))
    assert len(QUERIES[language]) >= 20
    assert not missed
