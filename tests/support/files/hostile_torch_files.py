"""Damaged, absurd and malicious files named pytorch_model.bin.

Each is its content and what the error must say.
"""

import struct
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.support.files.torch_files import (
    MAGIC,
    ORDERED_DICT,
    PARAMETER,
    REBUILD,
    SYSTEM,
    Name,
    Ordered,
    Persistent,
    Raw,
    Reduce,
    code,
    entry,
    legacy_file,
    legacy_of,
    pickled,
    storage,
    tensor,
    zip_file,
    zip_of,
)

RAN: list[str] = []  # gets an entry when a pickle runs
GOOD = np.arange(6, dtype=np.float32).reshape(2, 3)
DATA = {"0": GOOD.tobytes()}
GOOD_ENTRY = entry("0", GOOD)


def evil(module: str = "builtins", name: str = "exec") -> Reduce:
    """A call that adds to ``RAN`` if Python reads the pickle."""
    return Reduce(
        Name(module, name),
        ("import tests.support.files.hostile_torch_files as h; h.RAN.append('ran')",),
    )


def in_zip(value: object, storages: dict[str, bytes] = DATA, **options) -> bytes:
    return zip_file(pickled(value), storages, **options)


def opcodes(body: bytes, start: bytes = b"\x80\2") -> bytes:
    """A zip file whose pickle is exactly these bytes."""
    return zip_file(start + body, DATA)


def with_tensor(call: object) -> bytes:
    return in_zip({"a": call})


def view(shape: object, strides: object, offset: object = 0, **options: object) -> bytes:
    return with_tensor(tensor(storage("0", 6), shape, strides, offset, **options))


def legacy(value: object, storages: dict | None = None, **options) -> bytes:
    storages = {"0": (6, GOOD.tobytes())} if storages is None else storages
    return legacy_file(pickled(value), storages, **options)


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    """``data`` with the one occurrence of ``old`` replaced."""
    assert data.count(old) == 1
    return data.replace(old, new)


RUNS_CODE = "a pickle that would run code; only tensors are read"
DAMAGED = "a damaged or truncated pickle$"
EXPECTED_TENSOR = "expected a tensor, found something else"
EXPECTED_STORAGE = "expected a storage, found something else"
NO_FUNCTION = "a call of a value that is not a function"
TOO_MUCH = "needs more memory than a file of this size allows"
OBJECT = code(evil())[:-1]  # the function and its arguments, not yet called


def that_run_code() -> Iterator[tuple[str, bytes, str]]:
    yield (
        "exec as a value",
        in_zip({"a": GOOD_ENTRY, "b": evil()}),
        "names builtins.exec: " + RUNS_CODE,
    )
    yield "exec at the top", in_zip(evil()), RUNS_CODE
    yield "exec before the tensors", opcodes(code(evil()) + b"0" + pickled({})[2:]), RUNS_CODE
    yield "exec in the legacy format", legacy({"a": evil()}), RUNS_CODE
    yield "exec for the version", legacy({}, version=evil()), RUNS_CODE
    yield "exec for the keys", legacy({"a": entry("0", GOOD, None)}, keys=evil()), RUNS_CODE
    yield "exec for a storage", with_tensor(tensor(Persistent(evil()), (2,), (1,))), RUNS_CODE
    for module, name in (
        ("os", "system"),
        ("posix", "system"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes"),
        ("collections", "Counter"),
        ("torch", "device"),
        ("torch.nn.modules.linear", "Linear"),
        ("this", "s"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("collections.OrderedDict", "fromkeys"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("x" * 200, "y\x1b[2J"),
    ):
        yield f"{module[:30]} {name!r}", in_zip({"a": Name(module, name)}), RUNS_CODE
    yield "a plain pickle", pickled(evil()), "not a file that torch.save wrote$"
    yield "a new object", opcodes(OBJECT + b"\x81."), RUNS_CODE
    for name, body in {
        "INST": b"(X\1\0\0\0xibuiltins\nexec\n.",
        "OBJ": b"(" + code("x") + b"o.",
        "NEWOBJ": code(ORDERED_DICT) + b")\x81.",
        "NEWOBJ_EX": code(ORDERED_DICT) + b")}\x92.",
        "STACK_GLOBAL": code("builtins") + code("exec") + b"\x93.",
        "EXT1": b"\x82\1.",
        "PERSID": b"Pstorage\n.",
        "POP": b"N0.",
        "DUP": b"N2.",
        "INT": b"I1\n.",
        "BINBYTES": b"B\xff\xff\xff\xff.",
        "BINUNICODE8": b"\x8d" + b"\xff" * 7 + b"\x7f.",
        "BYTEARRAY8": b"\x96" + b"\xff" * 7 + b"\x7f.",
        "LONG4": b"\x8b\xff\xff\xff\x7f.",
        "FRAME": b"\x95" + b"\0" * 8 + b"N.",
    }.items():
        yield f"opcode {name}", opcodes(body), f"the opcode {name}, which no file of tensors needs"
    yield "no opcode", opcodes(b"\xff."), "the byte 0xff, which is no opcode"


def that_need_too_much_memory() -> Iterator[tuple[str, bytes, str]]:
    yield "a string of 4 GB", opcodes(b"X\xff\xff\xff\xff."), DAMAGED
    yield "a long string of 4 GB", opcodes(b"T\xff\xff\xff\xff."), DAMAGED
    yield "an integer of 255 bytes", opcodes(b"\x8a\xff" + b"\1" * 255 + b"."), "an integer of 255"
    yield "a memo of 4 G entries", opcodes(b"]r\xff\xff\xff\xff."), "found a list"
    many, four_bytes = 400_000, struct.Struct("<I").pack
    for name, body in {
        "lists": b"]" * many,
        "dicts": b"}" * many,
        "marks": b"(" * many,
        "numbers": b"J\1\2\3\4" * many,
        "memo": b"]" + b"".join(b"r" + four_bytes(i) for i in range(many)),
        "lists and memo": b"".join(b"]r" + four_bytes(i) for i in range(many // 2)),
        "nested tuples": b")" + b"\x85" * many,
        "nested lists": b"]" * (many // 2) + b"a" * (many // 2),
        "nested storages": b"N" + b"Q" * many,
        "one list in itself": b"]q\0" + b"h\0a" * many,
        "dicts of one entry": b"](" + b"}U\0Ns" * many,
        "a string with a rare character": code("x" * 3_000_000 + "𝄞"),
        "calls": code(REBUILD) + b"q\0" + b"h\0)R" * many,
        "one list as many dicts": (
            code([["a", 1]] * 2_000) + b"q\0" + (code(ORDERED_DICT) + b"h\0\x85R") * 2_000
        ),
    }.items():
        yield f"a flood of {name}", opcodes(body + b"."), TOO_MUCH
    deep = Raw(b")" + b"\x85" * 10_000)
    yield "a deep value", in_zip({"b": deep}), "found no named tensor"
    yield "a deep key", opcodes(b"}" + deep.code + b"Ns."), "a key of type tuple"
    yield "a deep name", in_zip({"b": {"c": Reduce(PARAMETER, (deep,))}}), "found no named tensor"
    yield "a deep tensor", with_tensor(Reduce(PARAMETER, (deep,))), EXPECTED_TENSOR
    yield "a deep shape", view(deep, ()), "must be integers"
    yield "a deep storage", with_tensor(tensor(Persistent(deep), (), ())), EXPECTED_STORAGE
    yield "keys that collide", in_zip({2**61 - 1: 1}), "a key of type int"
    yield "a list in itself", opcodes(b"]q\0h\0a."), "found a list"
    yield "a dict in itself", opcodes(b"}q\0(" + code("state_dict") + b"h\0u."), "no named tensor"


def that_are_damaged() -> Iterator[tuple[str, bytes, str]]:
    for name, body in {
        "an empty pickle": b"",
        "no end": b"N",
        "an end without a value": b".",
        "half a number": b"J\0",
        "half a string": b"X\4\0\0\0ab.",
        "no UTF-8": b"U\2\xff\xfe.",
        "append to nothing": b"a.",
        "appends without a mark": b"]e.",
        "set nothing": b"s.",
        "sets without a mark": b"}u.",
        "a tuple without a mark": b"t.",
        "a tuple of nothing": b"\x86.",
        "call nothing": b"R.",
        "attributes of nothing": b"b.",
        "put nothing": b"q\0.",
        "get nothing": b"h\7.",
        "ask for nothing": b"Q.",
    }.items():
        yield name, opcodes(body), DAMAGED
    for version in (0, 3, 4, 5, 255):
        protocol = bytes([0x80, version])
        yield (
            f"protocol {version}",
            opcodes(b"N.", protocol),
            f"pickle protocol {version}, expected 2",
        )
    yield "append to a dict", opcodes(b"}Na."), "items for a value that is not a list"
    yield "set in a list", opcodes(b"]NNs."), "entries for a value that is not a dict"
    yield "a key without a value", opcodes(b"}(Nu."), "a key without a value"
    yield "a key that is None", opcodes(b"}NNs."), "a key of type NoneType"
    yield "attributes of a list", opcodes(b"]}b."), "attributes for a value that is not a dict"
    yield (
        "calling a string",
        in_zip({"a": Reduce("x", ())}),
        "a call of a value that is not a function",
    )
    yield (
        "arguments in a list",
        in_zip({"a": Reduce(REBUILD, [])}),
        "a call of a value that is not a function",
    )
    for arguments in ((1,), ([1],), ([["a"]],), ([], [])):
        call = Reduce(ORDERED_DICT, arguments)
        yield f"an OrderedDict of {arguments}", in_zip({"a": call}), "values that are not pairs"
    yield "a global without an end", opcodes(b"ctorch"), "a global without an end"


def that_hold_no_arrays() -> Iterator[tuple[str, bytes, str]]:
    for name, message in {
        "_rebuild_sparse_tensor": "a sparse tensor",
        "_rebuild_qtensor": "a quantised tensor",
        "_rebuild_tensor_v3": "a tensor of a newer dtype",
    }.items():
        yield name, with_tensor(Reduce(Name("torch._utils", name), ())), f"holds {message}"
    complex_one = tensor(storage("0", 3, "ComplexFloatStorage"), (3,), (1,))
    yield "complex numbers", with_tensor(complex_one), "holds complex numbers"
    for value in ([1], None, "text", 1.5, (GOOD_ENTRY,), GOOD_ENTRY):
        yield (
            f"no dict: {value!r:.20}",
            in_zip(value),
            "expected a dict of names and tensors, found",
        )
    for value in ({}, {"a": 1}, {1: GOOD_ENTRY}, {"state_dict": {}}, {"other": {"a": GOOD_ENTRY}}):
        yield f"no tensor: {value!r:.20}", in_zip(value), "found no named tensor in it"
    call = Reduce(Name("torch", "FloatStorage"), (3,))
    yield "a storage type that is called", with_tensor(call), EXPECTED_TENSOR
    yield "a tensor of two arguments", with_tensor(Reduce(REBUILD, (1, 2))), EXPECTED_TENSOR
    yield "a parameter of nothing", with_tensor(Reduce(PARAMETER, ())), EXPECTED_TENSOR
    yield "a parameter of a string", with_tensor(Reduce(PARAMETER, ("a",))), EXPECTED_TENSOR
    twice = Reduce(PARAMETER, (Reduce(PARAMETER, (GOOD_ENTRY, False)), False))
    yield "a parameter of a parameter", with_tensor(twice), EXPECTED_TENSOR
    yield "no storage", with_tensor(tensor("0", (2,), (1,))), "a tensor without a storage"
    yield "negated", view((2,), (1,), metadata={"neg": True}), "negated or conjugated"


def with_bad_views() -> Iterator[tuple[str, bytes, str]]:
    integers, beyond, larger = "must be integers of at least 0", "reaches beyond", "is larger than"
    for name, shape, strides, offset, message in (
        ("negative offset", (2,), (1,), -1, integers),
        ("negative stride", (2,), (-1,), 1, integers),
        ("negative shape", (-2,), (1,), 0, integers),
        ("fractional shape", (2.0,), (1,), 0, integers),
        ("True in the shape", (True,), (1,), 0, integers),
        ("shape in a list", [2], (1,), 0, integers),
        ("no strides", (2,), None, 0, integers),
        ("offset that is text", (2,), (1,), "0", integers),
        ("more strides than axes", (2,), (1, 1), 0, "1 axes, but 2 strides"),
        ("offset past the end", (2,), (1,), 5, beyond),
        ("empty, past the end", (0,), (1,), 7, beyond),
        ("stride past the end", (2,), (6,), 0, beyond),
        ("stride of 2**100", (2,), (2**100,), 0, beyond),
        ("offset of 2**100", (2,), (1,), 2**100, beyond),
        ("one number 7 times", (7,), (0,), 0, larger),
        ("one number 2**50 times", (2**25, 2**25), (0, 0), 0, larger),
        ("shape of 2**100", (2**100,), (0,), 0, "is too big"),
        ("empty shape of 2**62", (0, 2**62), (0, 0), 0, "is too big"),
        ("65 axes", (1,) * 65, (1,) * 65, 0, "expected at most 64 axes, found 65"),
    ):
        yield name, view(shape, strides, offset), message


def with_bad_storages() -> Iterator[tuple[str, bytes, str]]:
    def of(*id: object) -> bytes:
        return with_tensor(tensor(Persistent(id), (2,), (1,)))

    float_type, right = Name("torch", "FloatStorage"), "data/0: expected"
    yield from (
        ("no id", of(), EXPECTED_STORAGE),
        ("a module's id", of("module", float_type, "x.py", "", 6), EXPECTED_STORAGE),
        ("a type that is text", of("storage", "FloatStorage", "0", "cpu", 6), EXPECTED_STORAGE),
        ("a type that is none", of("storage", REBUILD, "0", "cpu", 6), EXPECTED_STORAGE),
        ("a number as the key", of("storage", float_type, 0, "cpu", 6), EXPECTED_STORAGE),
        ("a negative count", of("storage", float_type, "0", "cpu", -6), EXPECTED_STORAGE),
        ("a count of 2**100", of("storage", float_type, "0", "cpu", 2**100), EXPECTED_STORAGE),
        ("a count of True", of("storage", float_type, "0", "cpu", True), EXPECTED_STORAGE),
        ("a count too large", of("storage", float_type, "0", "cpu", 7), right),
        ("a count too small", of("storage", float_type, "0", "cpu", 5), right),
        ("another type", of("storage", Name("torch", "LongStorage"), "0", "cpu", 6), right),
        (
            "a missing storage",
            of("storage", float_type, "9", "cpu", 6),
            "data/9 is missing in the archive",
        ),
        (
            "a path as the key",
            of("storage", float_type, "../x", "cpu", 6),
            r"data/\.\./x is missing",
        ),
        (
            "a view of a storage",
            of("storage", float_type, "0", "cpu", 6, ("1", 0, 6)),
            "a view of another",
        ),
    )
    both = {"a": GOOD_ENTRY, "b": tensor(storage("0", 3, "DoubleStorage"), (3,), (1,))}
    yield "a storage of two kinds", in_zip(both), "has two dtypes or sizes"


def that_are_bad_archives() -> Iterator[tuple[str, bytes, str]]:
    good, archive = zip_of({"a": GOOD}), "a damaged or truncated zip archive"
    local, central = b"PK\3\4", b"PK\1\2"
    yield (
        "compressed",
        zip_of({"a": GOOD}, compression=zipfile.ZIP_DEFLATED),
        "data.pkl is compressed",
    )
    yield "no data.pkl", zip_file(b"", {}).replace(b"data.pkl", b"data.pkk"), "found 0 in it"
    doubled = zip_of({"a": GOOD}, others={"x/data.pkl": b"N."})
    yield "two data.pkl", doubled, "one data.pkl, as torch.save writes it, found 2"
    for size in (5, 29, 30, 100, len(good) // 2, len(good) - 30, len(good) - 1):
        yield f"the first {size} bytes", good[:size], archive
    yield "zeros behind the signature", local + b"\0" * 1000, archive
    yield "a name twice", good.replace(b"archive/version", b"archive/data/0\0"), "appears twice"
    encrypted = bytearray(good)
    encrypted[good.find(central) + 8] |= 1
    yield "encrypted", bytes(encrypted), "data.pkl is encrypted"
    # in the directory: the sizes at bytes 20 and 24, the offset at byte 42
    forged = bytearray(good)
    first = good.find(central)
    forged[first + 20 : first + 28] = struct.pack("<II", 2**31, 2**31)
    yield "a size beyond the file", bytes(forged), "is not where the archive says"
    forged = bytearray(good)
    forged[first + 42 : first + 46] = struct.pack("<I", len(good) - 10)
    yield "a place beyond the file", bytes(forged), "is not where the archive says"
    forged[first + 42 : first + 46] = struct.pack("<I", 3)
    yield "a place between two parts", bytes(forged), "is not where the archive says"
    unsigned = patched(good, local + good.split(local)[3], b"PK\3\5" + good.split(local)[3])
    yield "a part without a signature", unsigned, "data/0 is not where the archive says"
    forged = bytearray(good)
    forged[first + 28 : first + 30] = b"\xff\xff"
    yield "a name beyond the directory", bytes(forged), archive + "|found 0 in it"
    end = good.rfind(b"PK\5\6")
    forged = bytearray(good)
    forged[end + 12 : end + 16] = struct.pack("<I", 2**31)
    yield "a directory of 2 GB", bytes(forged), archive
    hole = bytes(2_000_000)
    flood = local + hole + b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 9, 9, len(hole), 4, 0)
    yield "a directory of 2 MB", flood, "a directory of 2,000,000 bytes"
    order = zip_of({"a": GOOD}, others={"byteorder": b"middle"})
    yield "byteorder", order, "byteorder: expected little or big"


def that_are_bad_legacy_files() -> Iterator[tuple[str, bytes, str]]:
    value, good = {"a": entry("0", GOOD, None)}, legacy_of({"a": GOOD})
    storages = {"0": (6, GOOD.tobytes())}
    listed, cut = "the listed storages are not those that the tensors use", "truncated"
    yield from (
        ("version 1002", legacy(value, version=1002), "expected version 1001"),
        ("version True", legacy(value, version=True), "expected version 1001"),
        (
            "big-endian",
            legacy(value, system=SYSTEM | {"little_endian": False}),
            "not little-endian",
        ),
        ("no system", legacy(value, system=[]), "not little-endian"),
        ("no keys", legacy(value, keys=[]), listed),
        ("other keys", legacy(value, keys=["1"]), listed),
        ("a key twice", legacy(value, keys=["0", "0"]), listed),
        ("a key too many", legacy(value, keys=["0", "1"]), listed),
        ("keys that are numbers", legacy(value, keys=[0]), listed),
        ("keys that are none", legacy(value, keys={}), listed),
        ("another count", legacy(value, {"0": (5, GOOD.tobytes())}), cut),
        ("a count of -1", legacy(value, {"0": (-1, GOOD.tobytes())}), cut),
        ("a view", legacy({"a": entry("0", GOOD, ("1", 0, 6))}), "a view of another storage"),
        ("a count of 2**59", legacy({"a": tensor(storage("0", 2**59), (1,), (1,))}), cut),
        ("bytes behind the end", good + b"\0", "1 bytes too many at the end"),
        ("the magic number alone", MAGIC, DAMAGED),
        ("exec behind the keys", legacy(value, storages) + pickled(evil()), "bytes too many"),
    )
    for size in (len(MAGIC) + 1, len(good) // 2, len(good) - 25, len(good) - 1):
        yield f"the first {size} bytes of legacy", good[:size], f"{DAMAGED}|{cut}|without an end"
    yield (
        "another magic number",
        good.replace(MAGIC, MAGIC[:-2] + b"\x1a."),
        "not a file that torch",
    )


def that_are_other_files() -> Iterator[tuple[str, bytes, str]]:
    not_torch = "not a file that torch.save wrote"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "nothing", b"", not_torch + "$"
    yield "half a magic number", MAGIC[:7], not_torch
    yield "text", "好".encode() * 99, not_torch
    yield "a pointer of git-lfs", pointer, "this is a Git LFS pointer, not the file"
    yield "a web page", b"<!DOCTYPE html>\n" * 9, "this is a web page"
    yield "a tar archive", b"sys_info" + b"\0" * 2000, not_torch
    yield "a safetensors file", b"\2" + b"\0" * 7 + b"{}", not_torch


HOSTILE: dict[str, tuple[bytes, str]] = {}
for files in (
    that_run_code,
    that_need_too_much_memory,
    that_are_damaged,
    that_hold_no_arrays,
    with_bad_views,
    with_bad_storages,
    that_are_bad_archives,
    that_are_bad_legacy_files,
    that_are_other_files,
):
    for case, content, words in files():
        assert case not in HOSTILE, case
        HOSTILE[case] = (content, words)
# modules that must not be imported afterwards
GUARDED_MODULES = ("this", "antigravity")
# valid files of each kind, which show that the others are refused for the reason that they name
CONTROLS = {
    "zip": zip_of({"a": GOOD}),
    "legacy": legacy_of({"a": GOOD}),
    "in_zip": in_zip({"a": GOOD_ENTRY}),
    "view": view((2,), (1,), 4),
    "a stride never taken": view((1, 2), (2**100, 1), 4),
    "metadata": view((2,), (1,), 4, metadata={}),
    "legacy value": legacy({"a": entry("0", GOOD, None)}),
    "pairs": in_zip(Reduce(ORDERED_DICT, ([["a", GOOD_ENTRY]],))),
    "parameter": with_tensor(Reduce(PARAMETER, (GOOD_ENTRY, False, Ordered({})))),
    "attributes": in_zip(Ordered({"a": GOOD_ENTRY}, {"_metadata": Ordered({"": {"version": 1}})})),
    "wrapped": in_zip({"state_dict": {"a": GOOD_ENTRY}, "epoch": 3}),
    "in a model": in_zip({"model": {"a": GOOD_ENTRY}, "optimizer": {"state": {0: {}}}}),
    "beside others": in_zip({"a": GOOD_ENTRY, "b": 1.5, "c": None, "d": [True, ()]}),
}
