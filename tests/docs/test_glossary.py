"""Each English term of the glossary has one Chinese term, on every page."""

import re
import tomllib
from pathlib import Path

import pytest

polib = pytest.importorskip("polib", reason='needs pip install -e ".[book]"')

BOOK = Path(__file__).resolve().parents[2] / "docs/book"
CATALOGUES = BOOK / "locale/zh_CN/LC_MESSAGES"
TERMS = tomllib.loads((BOOK / "glossary.toml").read_text(encoding="utf-8"))["terms"]

NOT_WORDS = re.compile(r"`+[^`]+`+|\]\([^)]*\)|\$[^$]+\$|\[MASK\]|“[^”]*”|\"[^\"]*\"|\*[^*]*\*")
"""Code, targets of links, formulas, and titles and quotations are not translated."""

OTHER_SENSE = {
    ("vectors/v1/README", "weight"),  # names of arrays in formulas
    ("vectors/v1/README", "attention"),
    ("vectors/v1/README", "dropout"),
    ("docs/reference/adapters", "attention"),  # "attentions", a field
    ("docs/reference/checkpoints", "tokenizer"),  # the library
    ("docs/reference/pretraining", "batch"),
    ("docs/reference/transformers-tests", "attention"),  # Flash Attention
}
"""Pages on which a word is a name or means something else in at least one message."""


def untranslated_terms(english, chinese):
    """The terms of the glossary that the English text has and whose Chinese the translation lacks."""
    plain = NOT_WORDS.sub(" ", english)
    return [
        term
        for term, (translation, *_) in TERMS.items()
        if re.search(rf"(?<![\w-]){re.escape(term)}s?(?![\w-])", plain, re.IGNORECASE)
        and translation not in chinese
    ]


def test_every_page_keeps_to_the_glossary():
    found = set()
    for path in sorted(CATALOGUES.rglob("*.po")):
        page = str(path.relative_to(CATALOGUES).with_suffix(""))
        for entry in polib.pofile(str(path)):
            found |= {(page, term) for term in untranslated_terms(entry.msgid, entry.msgstr)}
    assert found - OTHER_SENSE == set()
    assert OTHER_SENSE - found == set()  # no exception that is not needed


def test_no_two_terms_share_a_translation():
    translations = [row[0] for row in TERMS.values()]
    assert len(set(translations)) == len(translations)


def test_another_word_for_a_term_is_found():
    assert untranslated_terms("The upstream gradient is `dy`.", "上级梯度是 `dy`。") == [
        "upstream gradient"
    ]
    assert untranslated_terms("The upstream gradient is `dy`.", "上游梯度是 `dy`。") == []
    assert untranslated_terms("`mask` and $mask$", "") == []
