"""The check of the built site, python docs/book/check_site.py, sees what is wrong."""

import importlib.util
import random
import shutil

import pytest

from tests.support.paths import DOCS

SPEC = importlib.util.spec_from_file_location("check_site", DOCS / "book/check_site.py")
check_site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(check_site)

RIGHT = """<html><head><link rel="stylesheet" href="_static/style.css"></head>
<body><h1 id="top">A page</h1><a href="#top">up</a> <a href="other.html#there">there</a>
<a href="https://example.org">elsewhere</a> <img src="_static/dot.png" alt="a dot"></body></html>"""
FAULTS = {
    "dead link": ("other.html#there", "nowhere.html", "leads to no file"),
    "dead place": ("other.html#there", "other.html#here", "leads to no place"),
    "dead place in the page": ('"#top"', '"#bottom"', "leads to no place"),
    "missing picture": ("dot.png", "dots.png", "leads to no file"),
    "out of the site": ("other.html#there", "../../secret.html", "leads out of the site"),
    "foreign style": ("_static/style.css", "https://example.org/style.css", "loads https://"),
    "foreign picture": ("_static/dot.png", "//example.org/dot.png", "loads //example.org"),
    "foreign script": (
        "<h1",
        '<script src="https://example.org/a.js"></script><h1',
        "loads https://",
    ),
    "too large": ("A page", str([random.random() for _ in range(40_000)]), "bytes of HTML"),
}
ASKS = "<script>fetch('http://127.0.0.1:9/').catch(() => 0)</script>"
IN_BROWSER = {
    "too wide": ("A page", '<div style="width: 500px">wide</div>', "pixels wide"),
    "foreign request": ("A page", ASKS, "asks for http"),
    "error": ("A page", "<script>undefined_name.x</script>", "undefined_name"),
}


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text(RIGHT)
    (folder / "other.html").write_text('<p id="there">Here. <a href="index.html">back</a></p>')
    (folder / "_static/style.css").write_text("body { color: black }")
    (folder / "_static/dot.png").write_bytes(b"")
    return folder


def plant(site, old, new):
    assert RIGHT.count(old) == 1
    (site / "index.html").write_text(RIGHT.replace(old, new))


def test_a_whole_site_has_no_fault(site, capsys):
    assert check_site.main([str(site), "--no-browser"]) == 0
    out, err = capsys.readouterr()
    assert "addresses checked      6" in out
    assert err.strip() == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_fails(fault, site, capsys):
    old, new, text = FAULTS[fault]
    plant(site, old, new)
    assert check_site.main([str(site), "--no-browser"]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if text in line)
    assert line.startswith("index.html: ")


def test_a_style_sheet_that_loads_from_elsewhere_fails(site, capsys):
    (site / "_static/style.css").write_text("@import 'https://example.org/a.css';")
    assert check_site.main([str(site), "--no-browser"]) == 1
    assert "_static/style.css: loads" in capsys.readouterr().err


def test_an_empty_folder_is_no_site(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        check_site.main([str(tmp_path), "--no-browser"])
    assert stopped.value.code == 2
    assert "has no page" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [None, *IN_BROWSER])
def test_chromium_sees_what_a_page_does(fault, site, capsys):
    pytest.importorskip("playwright.sync_api", reason='needs pip install -e ".[book]"')
    if not shutil.which("chromium") and not shutil.which("google-chrome"):
        pytest.skip("needs Chromium")
    if fault:
        plant(site, *IN_BROWSER[fault][:2])
    assert check_site.main([str(site)]) == (1 if fault else 0)
    if fault:
        assert IN_BROWSER[fault][2] in capsys.readouterr().err
