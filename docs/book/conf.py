"""Sphinx's settings. The source directory is the root of the repository (build.py names it)."""

import logging
import os
import sys
import tomllib
from pathlib import Path

import jieba

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parents[1]
sys.path[:0] = [str(BOOK), str(ROOT)]
# the kernels that execute the pages: our modules, our pictures, one thread
os.environ["PYTHONPATH"] = os.pathsep.join([str(BOOK), str(ROOT), os.environ.get("PYTHONPATH", "")])
os.environ["IPYTHONDIR"] = str(BOOK / "ipython")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# jieba cuts Chinese words for the search; those of the glossary are whole
jieba.setLogLevel(logging.WARNING)
for row in tomllib.loads((BOOK / "glossary.toml").read_text(encoding="utf-8"))["terms"].values():
    jieba.add_word(row[0])

project = "minizha"
author = "The minizha authors"
copyright = author
language = "en"
root_doc = "docs/index"
include_patterns = [
    "docs/index.md",
    "docs/book/*.md",
    "docs/reference/*.md",
    "docs/reference/api/*.md",
    "tutorials/*.py",
    "vectors/README.md",
    "vectors/v1/README.md",
]
exclude_patterns = ["docs/book/_build", "docs/book/node_modules", ".*"]
nitpicky = True
numfig = True
numfig_secnum_depth = 1
math_numfig = True
math_eqref_format = "({number})"
highlight_language = "none"  # a block without a language is what a terminal shows

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_togglebutton",
    "sphinx_exercise",
    "sphinxcontrib.katex",
    "minizha_book",
]

autodoc_member_order = "bysource"
autodoc_default_options = {"no-value": True}
autodoc_mock_imports = ["torch", "transformers"]  # of two adapters
autodoc_typehints = "none"  # the docstrings give shapes and types
add_module_names = False

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 4
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
nb_execution_cache_path = str(BOOK / "_build" / "cache")
nb_execution_raise_on_error = False  # a warning, which fails the build, too, and tells all faults
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True
nb_mime_priority_overrides = [("gettext", "image/svg+xml", 0)]  # alternative texts are messages

katex_prerender = True
katex_css_path = "katex/katex.min.css"

locale_dirs = ["docs/book/locale"]
gettext_compact = False
gettext_uuid = False
gettext_location = False

templates_path = ["_templates"]
html_static_path = ["_static", "_build/static"]
html_css_files = ["book.css"]
html_theme = "sphinx_book_theme"
html_title = "minizha"
html_search_scorer = str(BOOK / "scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_permalinks_icon = "#"
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "article_header_end": ["language-switch.html", "article-header-buttons.html"],
    "navbar_persistent": [],
    "home_page_in_toc": False,
}
copybutton_exclude = ".linenos, .gp"
