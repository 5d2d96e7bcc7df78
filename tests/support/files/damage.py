"""Random damage to any bytes."""

from collections.abc import Callable, Sequence
from random import Random

from tests.support.files.torch_files import MAGIC

NUMBERS = (
    0, 1, -1, 2, 3, 5, 7, 64, 65, 127, 128, 255, 256, 1000, 32767, 65535, 99_999, 100_000, 1_000_000,
    2**20,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**60, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64,
    -2, -(2**31), -(2**63), -(2**64), 10**30,
)  # fmt: skip
ODD_TEXT = (
    b"1e999", b"-1e999", b"1e-400", b"0.5", b"1e3", b"-0", b"00", b"NaN", b"-Infinity", b"0x10",
    b"1" * 4000, b"1" * 5000, b"true", b"null", b'""', b"[]", b"{}", b"1.", b"-", b"\xd9\xa3",
)  # fmt: skip
# special in JSON, line ends and UTF-8, or not printable
SPECIAL_BYTES = (
    *(bytes([byte]) for byte in b'{}[]":,\\-+.eE \t\r\n\0\x1b\x7f\xff\xc3'),
    b'":', b"null", b"true", b"\xef\xbb\xbf", "\u2028".encode(), "\u202e".encode(),
    "\ue000".encode(), b"\xed\xa0\x80", "𝄞".encode(), b"\\ud800", b"\\u0000", b"../", b"\r\n",
)  # fmt: skip
MAX_LENGTH, MAX_BYTES = 4096, 600_000


def damaged(rng: Random, data: bytes, region: tuple[int, int], others: Sequence[bytes]) -> bytes:
    """``data``, damaged once; four times in five inside ``region``."""
    low, high = region if rng.random() < 0.8 else (0, len(data))
    position = rng.randrange(low, high) if high > low else low
    damage = rng.choices(DAMAGES, _FREQUENCIES)[0]
    return damage(rng, data, position, others)


def _flip(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    return data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def _set(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    byte = rng.choice((0, 255, 0, 255, rng.randrange(256)))
    return data[:position] + bytes([byte]) + data[position + 1 :]


def _insert(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    inserted = rng.randbytes(rng.randint(1, 8)) if rng.random() < 0.5 else rng.choice(SPECIAL_BYTES)
    return data[:position] + inserted + data[position:]


def _delete(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    return data[:position] + data[position + _length(rng) :]


def _truncate(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    return data[:position] if rng.random() < 0.8 else data[position:]


def _splice(rng: Random, data: bytes, position: int, others: Sequence[bytes]) -> bytes:
    """The beginning of one file and the end of another, or with a piece of the other in the middle."""
    other = rng.choice(others)
    start = min(position, len(other)) if rng.random() < 0.3 else rng.randrange(len(other) + 1)
    if rng.random() < 0.5:
        return data[:position] + other[start:]
    count = _length(rng)
    return (
        data[:position] + other[start : start + count] + data[position + count * rng.randrange(2) :]
    )


def _repeat(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    piece = data[position : position + _length(rng)]
    times = rng.choice((1, 1, 1, 2, 3, 10, 100, 1000)) if rng.random() < 0.97 else MAX_BYTES
    return data[:position] + piece * min(times, MAX_BYTES // (len(piece) or 1)) + data[position:]


def _copy(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    count, source = _length(rng), rng.randrange(len(data) + 1)
    piece = data[source : source + count]
    return data[:position] + piece + data[position + len(piece) :]


def _fill(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    count = _length(rng)
    return data[:position] + rng.choice((b"\0", b"\xff", b" ")) * count + data[position + count :]


def _digits(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    """Replace the next number that is written in digits."""
    while position < len(data) and not 48 <= data[position] < 58:
        position += 1
    end = position
    while end < len(data) and 48 <= data[end] < 58:
        end += 1
    return data[:position] + _other_digits(rng, int(data[position:end][:18] or b"0")) + data[end:]


def other_number(rng: Random, data: bytes, position: int, _: Sequence[bytes]) -> bytes:
    """Replace some bytes by a binary number."""
    size = rng.choice((1, 2, 2, 4, 4, 4, 8))
    number = rng.choice((*NUMBERS, len(data), position))
    near = int.from_bytes(data[position : position + size], "little") + rng.randint(-2, 2)
    number = (near if rng.random() < 0.4 else number) % 256**size
    order = "little" if rng.random() < 0.8 else "big"
    return data[:position] + number.to_bytes(size, order) + data[position + size :]


def _other_digits(rng: Random, number: int) -> bytes:
    if rng.random() < 0.3:
        return rng.choice(ODD_TEXT)
    near = (number + rng.choice((-1, 1)), number * 2, -number, number // 2)
    return b"%d" % rng.choice(near if rng.random() < 0.5 else NUMBERS)


def _length(rng: Random) -> int:
    return min(1 + int(rng.expovariate(1 / rng.choice((2, 10, 60, 400)))), MAX_LENGTH)


DAMAGES: tuple[Callable[[Random, bytes, int, Sequence[bytes]], bytes], ...] = (
    _flip,
    _set,
    _insert,
    _delete,
    _truncate,
    _splice,
    _repeat,
    _copy,
    _fill,
    _digits,
    other_number,
)
_FREQUENCIES = (4, 3, 3, 3, 1, 2, 2, 2, 1, 4, 3)


def focus(data: bytes, file_format: str) -> tuple[int, int]:
    """The region for most of the damage: the bytes that are parsed, not the numbers of the arrays."""
    if file_format == "safetensors":
        return 0, min(len(data), 8 + int.from_bytes(data[:8], "little"))
    if file_format == "zip":
        found = data.find(b"PK\1\2") if len(data) % 2 else data.find(b"data/0") - 30
        return (max(found, 0), len(data)) if len(data) % 2 else (0, max(found, 0) or len(data))
    if file_format == "legacy":
        return min(len(MAGIC), len(data)), max(min(len(MAGIC), len(data)), len(data) * 3 // 4)
    return 0, len(data)
