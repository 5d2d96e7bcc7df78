"""visible: what a file holds is shown on a terminal, never obeyed by it."""

import sys
import unicodedata

import pytest

from minizha.errors import visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31mred", r"\x9b31mred"),
        ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
        ("a\r\nb\tc\x0b\x7f", r"a\r\nb\tc\x0b\x7f"),
        ("\u2028\u2029\ufeff\U000e0041", r"\u2028\u2029\ufeff\U000e0041"),
        ("\udc9b", r"\udc9b"),
        ("曹操，引兵。　🙂 é́ ##a\\x1b", "曹操，引兵。　🙂 é́ ##a\\x1b"),
        ("", ""),
    ],
)
def test_what_is_shown(text, shown):
    assert visible(text) == shown
    assert visible(shown) == shown


def test_what_is_kept():
    assert visible("a\n\tb\x1b", keep="\n") == "a\n\\tb\\x1b"


def test_every_character():
    """A control or format character never remains; every other stays as it is."""
    for code in range(sys.maxunicode + 1):
        c = chr(code)
        hidden = unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        assert (visible(c) != c) == hidden, hex(code)
        assert not hidden or visible(c).isascii()
