"""What happens to whole files by accident: on the way (encodings, line ends, wrappings, pages of errors),
on the disk (blocks that are lost, swapped or zero) and in an editor (JSON by hand, a merge, look-alikes).

The mutations of ``damage.py`` and ``mutations.py`` are those of an attacker, who changes little; these
change much, and leave what looks like a file.
"""

import base64
import binascii
import bz2
import codecs
import gzip
import io
import json
import lzma
import quopri
import re
import tarfile
import unicodedata
import urllib.parse
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random

MAX_BYTES = 200_000
Accident = Callable[[Random, bytes, Sequence[bytes]], bytes]


def accident(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """``data`` after one accident, at times two or three; ``others`` are files that may take its place."""
    mutant = data
    for _ in range(20):
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutant = rng.choice(ACCIDENTS)(rng, mutant, others)[:MAX_BYTES]
        if mutant != data:
            return mutant
    raise AssertionError("no accident changes it")


# --- encodings and line ends ---------------------------------------------------------------------

ENCODINGS = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "utf-7", "gb18030", "big5",
             "shift_jis", "euc_kr", "cp1252", "ascii")  # fmt: skip


def encoded(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Saved in another encoding."""
    return _text(data).encode(
        rng.choice(ENCODINGS), rng.choice(("replace", "ignore", "xmlcharrefreplace"))
    )


def decoded_wrongly(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Read in another encoding and saved as UTF-8: mojibake, or U+FFFD."""
    name = rng.choice(("latin-1", "cp1252", "utf-8", "gb18030", "ascii", "utf-16-le"))
    return data.decode(name, rng.choice(("replace", "ignore"))).encode("utf-8", "surrogatepass")


def line_ends(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Sent as text: other line ends, also inside of binary data."""
    old, new = rng.choice(((b"\n", b"\r\n"), (b"\r\n", b"\n"), (b"\n", b"\r"), (b"\n", b""),
        (b"\n", b"\n\n"), (b"\n", b"\x0b"), (b"\n", "\u2028".encode()), (b" ", b""), (b" ", b"\xc2\xa0"),
        (b"\t", b"    "), (b"\0", b""), (b"\0", b" "), (b"\r", b""), (b"\x1a", b""), (b"\n", b" \n"),
    ))  # fmt: skip
    return data.replace(old, new)


def seven_bits(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """A bit that is lost or set in every byte, or in every n-th."""
    bit, step, lost = (
        1 << rng.choice((7, 7, 0, 5, 3)),
        rng.choice((1, 1, 2, 7, 64)),
        rng.random() < 0.6,
    )
    changed = bytearray(data)
    for i in range(rng.randrange(step), len(changed), step):
        changed[i] = changed[i] & ~bit if lost else changed[i] | bit
    return bytes(changed)


def byte_order(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Every word of 2, 4 or 8 bytes reversed, from some place on."""
    width, start = rng.choice((2, 4, 8)), rng.choice((0, 8, rng.randrange(len(data) + 1)))
    end = start + (len(data) - start) // width * width
    words = (data[i : i + width][::-1] for i in range(start, end, width))
    return data[:start] + b"".join(words) + data[end:]


def look_alikes(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Characters that look the same or are normalised; other cases, quotes and digits."""
    text = _text(data)
    change: Callable[[str], str] = rng.choice((
        lambda t: unicodedata.normalize("NFD", t), lambda t: unicodedata.normalize("NFKC", t),
        str.upper, str.lower, str.swapcase, str.title,
        lambda t: t.replace('"', "“", 1).replace('"', "”", 1), lambda t: t.replace('"', "＂"),
        lambda t: t.translate({ord("0") + i: 0xFF10 + i for i in range(10)}),
        lambda t: t.translate({ord(":"): "：", ord(","): "，"}), lambda t: t.replace("-", "−"),
        lambda t: t.replace("a", "а"), lambda t: t.replace(".", "．"), lambda t: t.replace("_", "‗"),
        lambda t: t.replace("[", "［"), lambda t: t.replace("#", "＃"),
        lambda t: "\u200b".join(t.split("e")), lambda t: f"\u202e{t}",
    ))  # fmt: skip
    return change(text).encode("utf-8", "surrogatepass")


# --- on the disk ----------------------------------------------------------------------------------


def _blocks(rng: Random, data: bytes) -> list[bytes]:
    size = rng.choice((16, 64, 512, 4096))
    return [data[i : i + size] for i in range(0, len(data), size)] or [b""]


def lost_blocks(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    blocks = _blocks(rng, data)
    del blocks[rng.randrange(len(blocks)) :: rng.choice((1, 2, 10**6))]
    return b"".join(blocks)


def zero_blocks(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Blocks of zeros, as after a power cut."""
    blocks, fill = _blocks(rng, data), rng.choice((b"\0", b"\0", b"\xff", b"\xf6"))
    for i in range(rng.randrange(len(blocks)), len(blocks), rng.choice((1, 2, 10**6))):
        blocks[i] = fill * len(blocks[i])
    return b"".join(blocks)


def swapped_blocks(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    blocks = _blocks(rng, data)
    if rng.random() < 0.3:
        rng.shuffle(blocks)
    i, j = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    blocks[i], blocks[j] = blocks[j], blocks[i]
    return b"".join(blocks)


def foreign_blocks(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Blocks of another file, at the same place."""
    blocks, foreign = _blocks(rng, data), _blocks(rng, rng.choice(others))
    for i in rng.sample(range(len(blocks)), rng.randint(1, min(3, len(blocks)))):
        blocks[i] = foreign[i % len(foreign)]
    return b"".join(blocks)


def padded(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Filled up to whole blocks, or begun with some."""
    fill = rng.choice((b"\0", b" ", b"\n", b"\xff", b"\x1a")) * rng.choice(
        (1, 3, 8, 512 - len(data) % 512)
    )
    return data + fill if rng.random() < 0.7 else fill + data


def twice(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Appended instead of replaced."""
    first, second = (data, rng.choice((data, data, rng.choice(others))))[:: rng.choice((1, -1))]
    return first + rng.choice((b"", b"\n", b",")) + second


# --- on the way -----------------------------------------------------------------------------------

PAGES = (
    b"", b"\n", b"null", b"{}", b"[]", b'""', b"0", b"Not Found", b"Internal Server Error\n",
    b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not Found</body></html>\n",
    b'{"error":"Repository not found"}',
    b'{"error": {"code": 401, "message": "Invalid username or password."}}',
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>',
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d7a" * 16 + b"\nsize 390000000\n",
    b"/annex/objects/MD5-s12--d41d8cd98f00b204e9800998ecf8427e\n", b"../../blobs/" + b"0f" * 20,
    b"XSym\n0011\n" + b"a" * 32, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\x93NUMPY\x01\0v\0{'descr': '<f4', }",
    b"\x89HDF\r\n\x1a\n", b"GGUF\x03\0\0\0", b"%PDF-1.7\n", b"PK\5\6" + bytes(18), b"\x1f\x8b\x08\0",
    b"ustar\0",
    b"\x80\x04.", b"\x80\x02}q\0.", b"ssh: connect to host port 22: Connection refused\n",
)  # fmt: skip


def another_page(rng: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A page of an error, a pointer, a link, or another file under this name."""
    return rng.choice(PAGES) if rng.random() < 0.7 else rng.choice(others)


def wrapped(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Packed, or made fit for a transport."""
    return rng.choice(WRAPPERS)(data)


def unpacked(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """The pieces of a zip archive, or the end of any file, alone."""
    if data.startswith(b"PK") and rng.random() < 0.8:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return archive.read(rng.choice(archive.namelist()))
        except (
            zipfile.BadZipFile,
            LookupError,
            ValueError,
            RuntimeError,
            OSError,
            zlib.error,
            EOFError,
        ):
            return data
    return data[rng.choice((1, 2, 8, 512)) :]


def message(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """With lines around it: of a protocol, of a terminal, of a merge."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines) + 1)
    around = rng.choice((
        [b"HTTP/1.1 200 OK", b"Content-Type: application/octet-stream", b""],
        [b"--boundary", b"Content-Disposition: form-data", b""], [b"$ cat file"], [b"#!/bin/sh"],
        [b"<<<<<<< HEAD", b"=======", b">>>>>>> branch"], [b"```json", b"```"], [b"// a comment"],
        [b"# -*- coding: gbk -*-"], [b"\x1b[31mwarning\x1b[0m"], [b"\x1b]0;title\x07"], [b"---"], [b"..."],
    ))  # fmt: skip
    place = rng.choice((0, i, len(lines)))
    return b"\n".join([*lines[:place], *around, *lines[place:]])


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("file"), data)
    return file.getvalue()


def _tarred(data: bytes) -> bytes:
    file, member = io.BytesIO(), tarfile.TarInfo("file")
    member.size = len(data)
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


WRAPPERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda d: gzip.compress(d, mtime=0), bz2.compress, lzma.compress, zlib.compress, _zipped, _tarred,
    base64.b64encode, base64.b85encode, binascii.hexlify, quopri.encodestring,
    lambda d: urllib.parse.quote_from_bytes(d).encode(), lambda d: repr(d).encode(),
    lambda d: json.dumps(_text(d)).encode(), lambda d: codecs.encode(_text(d), "rot13").encode(),
    lambda d: _text(d).encode("unicode_escape"), lambda d: _text(d).encode("punycode"),
)  # fmt: skip


# --- in an editor ---------------------------------------------------------------------------------

BY_HAND: tuple[tuple[str, str], ...] = (
    (r"}", ",}"), (r"]", ",]"), (r",", ""), (r":", " ="), (r'"(\w+)":', r"\1:"), (r'"', "'"), (r'"', ""),
    (r"true", "True"), (r"false", "no"), (r"null", "None"), (r"(\d+)", r'"\1"'), (r"(\d+)", r"\1.0"),
    (r"(\d+)", r"\1L"), (r"(\d+)", r"\1_000"), (r"(\d)(\d)", r"\1,\2"), (r"(\d+)", "NaN"),
    (r"(\d+)", r"[\1]"),
    (r"(\d+)", r"-\1"), (r"(\d+)", r"0\1"), (r"(\d+)", r"1e\1"), (r"(\d+)", r"\1" * 3), (r"\.", ","),
    (r"\n", " // x\n"), (r"{", "{/* x */"), (r"{", "[{"), (r"}", "}]"), (r"\[", "("), (r"\\u", r"\\x"),
    (r"\\", "/"), (r"\[(\w+)\]", r"<\1>"), (r"\[(\w+)\]", r"\1"), (r"^", " "), (r"$", "\t1"), (r"##", "@@"),
    (r"$", " 0.5"), (r"\s+", " "), (r"。", "."), (r"\n\n", "\n"), (r"\n", "\n\n"), (r"[^\n]", ""),
)  # fmt: skip


def by_hand(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Edited as one would write Python, JavaScript or YAML; once or everywhere."""
    pattern, new = rng.choice(BY_HAND)
    count = rng.choice((1, 1, 0))  # 0: everywhere
    return re.sub(pattern, new, _text(data)[:MAX_BYTES], count=count, flags=re.MULTILINE).encode(
        "utf-8", "surrogatepass"
    )


def other_lines(rng: Random, data: bytes, _: Sequence[bytes]) -> bytes:
    """Sorted, reversed, cut, joined or numbered lines."""
    lines = data.split(b"\n")
    i, j = sorted(rng.randrange(len(lines) + 1) for _ in range(2))
    change: Callable[[list[bytes]], list[bytes]] = rng.choice((
        sorted, lambda x: x[::-1], lambda x: x[:i] + x[j:], lambda x: x[i:j], lambda x: x + x[i:j],
        lambda x: [b"%d\t%s" % (n, line) for n, line in enumerate(x)],
        lambda x: [line.strip() for line in x],
        lambda x: [line[:i] for line in x], lambda x: list(dict.fromkeys(x)),
        lambda x: [line for line in x if line],
        lambda x: [*x[:i], b"".join(x[i:j]), *x[j:]], lambda x: [b'"' + line + b'"' for line in x],
    ))  # fmt: skip
    return b"\n".join(change(lines))


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


ACCIDENTS: tuple[Accident, ...] = (
    encoded, decoded_wrongly, line_ends, seven_bits, byte_order, look_alikes, lost_blocks, zero_blocks,
    swapped_blocks, foreign_blocks, padded, twice, another_page, wrapped, unpacked, message, by_hand,
    by_hand, other_lines,
)  # fmt: skip
