"""Random mutants of files. Of JSON, safetensors files, pickles and zip archives, half are changed in
a way that keeps the file format valid, so that they pass the first check; the others are random bytes
changed.
"""

import io
import json
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from random import Random
from typing import Any

from tests.support.files.damage import MAX_BYTES, NUMBERS, damaged, focus, other_number
from tests.support.files.safetensors_files import safetensors_file
from tests.support.files.torch_files import code, zip_file


def mutate(rng: Random, data: bytes, file_format: str, others: Sequence[bytes]) -> bytes:
    """One mutant of ``data``; ``file_format`` is a key of ``FORMAT_AWARE`` or any other text;
    ``others`` are files to splice it with."""
    mutant, rounds = data, min(1 + int(rng.expovariate(1.2)), 5)
    format_aware = FORMAT_AWARE.get(file_format)
    for _ in range(20):
        if format_aware and rng.random() < 0.55:
            mutant = format_aware(rng, mutant, rounds)
            rounds = int(rng.random() < 0.1)
        for _ in range(rounds):
            mutant = damaged(rng, mutant, focus(mutant, file_format), others)
        if mutant != data:
            return mutant[:MAX_BYTES]
        rounds = 1
    raise AssertionError("no damage changes it")


# --- JSON ---------------------------------------------------------------------------------------

_DEEP = "a deep value of depth "
TEXTS = (
    "", "F32", "F16", "BF16", "F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "C64", "F99", "gelu",
    "bert", "nezha", "WordPiece", "BertNormalizer", "[UNK]", "[MASK]", "##", "0", "-1", "1e3", "x",
    "../x", "/etc/passwd", "a.safetensors", "a.bin", "model.safetensors", "config.json", ".", "\0",
    "\ud800", "a\nb", "\x1b[2J", "\u2028", "\u202e", "x" * 300, "好" * 70_000, "regression",
    "__metadata__", "9" * 5000, "float32", "NezhaForMaskedLM", "None", "nezha.embeddings.LayerNorm.weight",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0.0, -0.0, 0.5, 1.0, 1e300, float("inf"), float("nan"), [], {}, [1], {"0": 1},
    [[]], [0, 4], {"x": None}, [None] * 70, {"0": "a", "1": "b"}, {"": ""},
    *NUMBERS, *TEXTS,
)  # fmt: skip


def damaged_json(rng: Random, data: bytes, rounds: int) -> bytes:
    """The same JSON with other values, keys, types and depths."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    for _ in range(rounds):
        value = _other_json(rng, value)
    return _json(rng, value)


def _other_json(rng: Random, value: Any) -> Any:
    places = list(_places(value))
    if not places or rng.random() < 0.02:
        return _other_value(rng, value)
    holder, key = rng.choice(places)
    match rng.randrange(8):
        case 0 | 1 | 2:
            holder[key] = _other_value(rng, holder[key])
        case 3:
            del holder[key]
        case 4:
            other, other_key = rng.choice(places)
            holder[key], other[other_key] = other[other_key], holder[key]
        case 5:
            _add(rng, holder, holder[key])
        case 6 if isinstance(holder, dict):
            _rename(rng, holder, key)
        case _:
            wrapped: Any = {"a": holder[key]} if rng.random() < 0.5 else [holder[key]]
            holder[key] = wrapped
    return value


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of everything inside ``value``, to a limited depth: swaps can make it circular."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in list(keys)[:300]:
        yield value, key
        if depth < 6:
            yield from _places(value[key], depth + 1)


def _other_value(rng: Random, value: Any) -> Any:
    if isinstance(value, int) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, value * 2, -value, float(value), str(value)))
    if isinstance(value, str) and rng.random() < 0.3:
        position = rng.randrange(len(value) + 1)
        return value[:position] + rng.choice(("", "x", "\0", "/", "字")) + value[position + 1 :]
    if rng.random() < 0.04:
        return f"{_DEEP}{rng.choice((10, 100, 300, 400, 480, 700, 960, 3000, 100_000))}"
    return rng.choice(VALUES)


def _add(rng: Random, holder: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder.extend([value] * rng.choice((1, 2, 70)))
    else:
        holder[rng.choice((*TEXTS, "vocab_size", "num_labels", "id2label", "extra"))] = value


def _rename(rng: Random, holder: dict, key: str) -> None:
    changed = key[:-1] if rng.random() < 0.3 else rng.choice((*TEXTS, key + "x", key.upper()))
    entries = [(changed if name == key else name, value) for name, value in holder.items()]
    holder.clear()
    holder.update(entries)


def _json(rng: Random, value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    except (ValueError, RecursionError):  # it contains itself
        text = "{}"
    if found := re.search(rf'"{_DEEP}([0-9]+)"', text):
        around = rng.choice((("[", "]"), ('{"a":', "}"), ('[1,{"":', "}]")))
        value = f"1{around[1] * int(found[1])}"
        text = f"{text[: found.start()]}{around[0] * int(found[1])}{value}{text[found.end() :]}"
    if rng.random() < 0.05 and "," in text:
        piece = rng.choice(text.split(","))
        text = text.replace(piece, f"{piece},{piece}", 1)  # often a key that appears twice
    return text.encode("utf-8", "surrogatepass")


def damaged_safetensors(rng: Random, data: bytes, rounds: int) -> bytes:
    """A changed header of the right length, or changed tensors with a header that nearly fits."""
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    try:
        entries = json.loads(header)
        if rng.random() < 0.6:
            header, rest = _other_tensors(rng, entries, rest)
        else:
            header = damaged_json(rng, header, 1 if rng.random() < 0.7 else rounds)
    except (ValueError, LookupError, TypeError, AttributeError):  # no longer such a file
        header = damaged_json(rng, header, rounds)
    if rng.random() < 0.5:
        header += b" " * (-len(header) % 8)
    return safetensors_file(header, rest)


_WIDTHS = {
    1: ("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2"),
    2: ("F16", "BF16", "I16", "U16"),
    4: ("F32", "I32", "U32"),
    8: ("F64", "I64", "U64", "C64"),
}


def _other_tensors(rng: Random, entries: dict[str, Any], data: bytes) -> tuple[bytes, bytes]:
    """One tensor with another dtype, shape, name or content, and the offsets that result."""
    metadata = entries.pop("__metadata__", None)
    tensors = []
    for name, tensor in entries.items():
        start, end = tensor["data_offsets"]
        tensors.append([name, tensor["dtype"], list(tensor["shape"]), data[start:end]])
    chosen = rng.choice(tensors)
    _, dtype, shape, content = chosen
    width = next(width for width, names in _WIDTHS.items() if dtype in names)
    match rng.randrange(9):
        case 0:
            chosen[1] = rng.choice(_WIDTHS[width])
        case 1:  # as many bytes, in numbers of half the width
            chosen[1], chosen[2] = rng.choice(_WIDTHS[max(width // 2, 1)]), [*shape, width]
        case 2:
            rng.shuffle(shape)
        case 3:
            shape[rng.randrange(len(shape) + 1) :] = [1] * rng.choice((1, 2, 63, 64, 65))
        case 4:
            chosen[2:] = [rng.choice(([0], [0, 2**62], [0, -1], [2**40, 0, 2**40])), b""]
        case 5:
            chosen[0] = rng.choice((*TEXTS, chosen[0] + "x", chosen[0].replace("nezha", "bert")))
        case 6:
            tensors.remove(chosen)
        case 7:
            chosen[3] = rng.choice((content[:-1], content * 2, content + content[:width]))
        case 8:
            position = rng.randrange(len(content) + 1)
            chosen[3] = content[:position] + b"\xff\x7f\xff\x7f\x01\x7c"[: len(content) - position]
            chosen[3] += content[len(chosen[3]) :]
    if rng.random() < 0.2:
        rng.shuffle(tensors)
    header, position = ({"__metadata__": metadata} if metadata else {}), 0
    for name, dtype, shape, content in tensors:
        ends = [position, position := position + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": ends}
    if rng.random() < 0.1:
        header = dict(rng.sample(list(header.items()), len(header)))
    return _json(rng, header), b"".join(content for *_, content in tensors)


# --- pickles and archives -----------------------------------------------------------------------

GLOBALS = (
    b"cos\nsystem\n",
    b"cbuiltins\nexec\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._utils\n_rebuild_tensor\n",
    b"ctorch\nBFloat16Storage\n",
    b"ctorch\nDoubleStorage\n",
    b"ctorch\nBoolStorage\n",
    b"ctorch\nComplexFloatStorage\n",
    b"ccollections\nOrderedDict\n",
    b"c\n\n",
)
OPCODES = (
    *(op.code.encode("latin-1") for op in pickletools.opcodes), b"]", b"}", b")", b"(", b"t", b"R",
    b"Q", b"0", b"2", b"N", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u", b"b", b"h\0", b"q\0",
    *GLOBALS,
)  # fmt: skip


def damaged_pickle(rng: Random, data: bytes, rounds: int) -> bytes:
    """Other steps or arguments; what follows the pickles stays."""
    steps, rest = _steps(data)
    for _ in range(rounds):
        position = rng.randrange(len(steps) + 1)
        count = rng.choice((1, 1, 1, 2, 5, 30))
        match rng.randrange(6):
            case 0:
                del steps[position : position + count]
            case 1:
                steps[position:position] = [rng.choice(OPCODES)] * (
                    count if rng.random() < 0.9 else 3000
                )
            case 2:
                source = rng.randrange(len(steps) + 1)
                steps[position : position + count] = steps[source : source + count]
            case 3:
                times = rng.choice((2, 2, 3, 100))
                steps[position:position] = steps[position : position + count] * (times - 1)
            case _ if position < len(steps):
                steps[position] = _other_step(rng, steps[position])
    return b"".join(steps) + rest


def _steps(data: bytes) -> tuple[list[bytes], bytes]:
    """The pickles at the beginning, cut into steps, and the bytes that follow them."""
    steps, file = [], io.BytesIO(data)
    end = 0
    try:
        while data[end : end + 1] == b"\x80":
            starts = [position for _, _, position in pickletools.genops(file)] + [file.tell()]
            steps += [data[a:b] for a, b in pairwise(starts)]
            end = file.tell()
    except Exception:  # noqa: BLE001  any exception, if it is no longer a pickle
        return [data[i : i + 3] for i in range(0, len(data), 3)], b""
    return steps, data[end:]


def _other_step(rng: Random, step: bytes) -> bytes:
    match step[:1]:
        case b"K" | b"M" | b"J" | b"\x8a" if len(step) > 1:
            return code(rng.choice((*NUMBERS, step[1] + 1, step[1] - 1)))
        case b"X" if rng.random() < 0.8:
            text = step[5:]
            position = rng.randrange(len(text) + 1)
            other = rng.choice(
                (text[:-1], text[:position] + b"x" + text[position:], b"", b"0", b"\xff")
            )
            return b"X" + struct.pack("<I", len(other)) + other
        case b"c":
            return rng.choice(GLOBALS)
        case b"q" | b"r" | b"h" | b"j" if len(step) > 1 and rng.random() < 0.8:
            return rng.choice((b"h", b"q")) + bytes([rng.choice((step[1], rng.randrange(256)))])
    return rng.choice(OPCODES)


def damaged_zip(rng: Random, data: bytes, rounds: int) -> bytes:
    """A changed data.pkl or other member in a valid archive, or a wrong directory."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        root = next(name for name in members if name.endswith("/data.pkl")).removesuffix(
            "/data.pkl"
        )
    except (zipfile.BadZipFile, StopIteration, ValueError, NotImplementedError, OSError):
        return data
    if rng.random() < 0.3:
        for _ in range(rounds):
            data = _other_entry(rng, data)
        return data
    pickle = members.pop(f"{root}/data.pkl")
    if rng.random() < 0.85:
        pickle = damaged_pickle(rng, pickle, rounds)
    else:
        name = rng.choice(list(members))
        content = members.pop(name)
        changed = rng.choice((content[:-1], content + b"\0", b"", content * 2, None))
        if changed is not None:
            name = rng.choice((name, name, name + "x", f"{root}/data/../0", f"{root}/x/data.pkl"))
            members[name] = changed
    others = {name.removeprefix(f"{root}/"): content for name, content in members.items()}
    return zip_file(pickle, {}, root=root, others=others)


_ENTRIES = {b"PK\3\4": (30, 6), b"PK\1\2": (46, 8), b"PK\5\6": (22, 4)}


def _other_entry(rng: Random, data: bytes) -> bytes:
    """Change a number in a local header, in the directory or at its end."""
    signature = rng.choice(list(_ENTRIES))
    size, first = _ENTRIES[signature]
    found = [i for i in range(len(data)) if data.startswith(signature, i)]
    if not found:
        return data
    position = rng.choice(found) + rng.randrange(first, size, 2)
    return other_number(rng, data, position, ())


FORMAT_AWARE: dict[str, Callable[[Random, bytes, int], bytes]] = {
    "json": damaged_json,
    "safetensors": damaged_safetensors,
    "zip": damaged_zip,
    "legacy": damaged_pickle,
}
