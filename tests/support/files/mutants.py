"""Make mutants of files and open them, in a separate process: a crash must not end the tests.

    python -m tests.support.files.mutants KIND FIRST COUNT FOLDER

prints a report as JSON. A KIND that begins with "accidents of " is mutated by ``accidents.py``. Mutant
number i of a kind is the same in every run, and with COUNT 1 it stays in FOLDER. FOLDER/progress holds
the number of the mutant that is being opened. The controls add the name of a wrong reader and the seconds
that it may take.
"""

import codecs
import json
import os
import random
import sys
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minizha import NezhaConfig, NezhaForMaskedLM, NezhaForPreTraining, NezhaModel, NezhaTokenizer
from minizha.checkpoint.folder import stored_weights
from minizha.errors import CheckpointWarning, MinizhaError, TextWarning
from minizha.info import describe_folder
from tests.support.files import accident_seeds, mutant_seeds
from tests.support.files.accidents import accident
from tests.support.files.mutations import mutate
from tests.support.files.refusals import SECONDS

TRACED = 20  # the memory of one mutant in so many is traced, which takes several times as long
MAX_MESSAGE = 3000
# in addition to twice the size of the files: a pickle may take 8 MiB before it is refused, and a model
# more than its files: 1,000 layers of random numbers take 10 MB, 100,000 relative positions 13 MB
EXTRA_BYTES = 16_000_000
ACCIDENTS = "accidents of "
Reader = Callable[[Path], Any]


# --- readers ------------------------------------------------------------------------------------


def stored(folder: Path) -> None:
    for tensor in stored_weights(folder).values():
        tensor.read()


def info(folder: Path) -> None:
    for line in describe_folder(folder).split("\n"):
        assert line.isprintable(), f"not printable: {line!r}"


def tokenizer(folder: Path) -> None:
    loaded = NezhaTokenizer.from_pretrained(folder)
    batch = loaded(["中国NBA é，[MASK] 𝄞", "a\u2028b"])
    loaded.batch_decode(batch["input_ids"])


MODELS = (NezhaForMaskedLM.from_pretrained, NezhaModel.from_pretrained)
MODELS += (NezhaForPreTraining.from_pretrained,)


def choose_reader(rng: random.Random, kind: str, seed: mutant_seeds.Seed) -> Reader:
    """``from_pretrained``, ``minizha info``, or the reader that both begin with, which is faster."""
    if "vocab.txt" in seed.files or "tokenizer.json" in seed.files:
        return tokenizer
    if kind.removeprefix(ACCIDENTS) in accident_seeds.READERS:
        return accident_seeds.READERS[kind.removeprefix(ACCIDENTS)]
    kind = kind.removeprefix(ACCIDENTS)
    first_reader = NezhaConfig.from_pretrained if kind == "config" else stored
    weights = (5, 2, 3) if seed.is_model else (1, 2, 7)
    return rng.choices((rng.choice(MODELS), info, first_reader), weights)[0]


# --- time, memory and outcome of opening one ------------------------------------------------------


class ForbiddenEvents:
    """Records the audit events of Python that no reader may cause."""

    PREFIXES = (
        "exec",
        "compile",
        "import",
        "pickle.",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.fork",
        "subprocess.",
        "socket.",
        "ctypes.",
        "os.remove",
        "os.rename",
        "os.mkdir",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.chmod",
        "os.truncate",
        "shutil.",
        "os.putenv",
        "code.",
    )

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.check)

    def check(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            inside = isinstance(path, int) or os.path.dirname(os.fspath(path)) == self.folder
            if not inside or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.seen.append(f"open {path!r:.100}")
        elif event.startswith(self.PREFIXES):
            self.seen.append(f"{event} {arguments!r:.100}")


class Outcome(NamedTuple):
    """The error's ``message``, if any; the ``fault`` found, or ""; ``peak`` in bytes."""

    message: str | None
    fault: str
    seconds: float
    peak: int


def attempt(reader: Reader, folder: Path, forbidden: ForbiddenEvents) -> tuple[str | None, str]:
    """Open a folder: the error's message, if any, and the fault found, or ""."""
    message, fault = None, ""
    forbidden.folder, forbidden.seen[:] = str(folder), []
    try:
        reader(folder)
    except MinizhaError as error:
        message = str(error)
    except BaseException as error:  # noqa: BLE001  a panic of a Rust library is not an Exception
        fault = f"leaks {type(error).__name__}: {error}"[:300]
    forbidden.folder = None
    if forbidden.seen:
        fault = f"does what it must not: {forbidden.seen[0]}"
    elif message is not None and not (message.isprintable() and len(message) < MAX_MESSAGE):
        fault = f"not a line: {message!r:.300}"
    elif message is not None and str(folder) not in message:
        fault = f"does not name the path: {message[:300]}"
    return message, fault


def examine(
    reader: Reader,
    folder: Path,
    forbidden: ForbiddenEvents,
    traced: bool,
    limit: float = SECONDS,
) -> Outcome:
    """Open a folder; again if it took too long, since the machine may have been busy."""
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    seconds, before, peak = float("inf"), most_memory(), 0
    for _ in range(3):
        start = time.perf_counter()
        message, fault = attempt(reader, folder, forbidden)
        seconds = min(seconds, time.perf_counter() - start)
        if fault or seconds <= limit:
            break
    increase = most_memory() - before
    if traced and not fault:
        tracemalloc.start()
        message, fault = attempt(reader, folder, forbidden)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if not fault and seconds > limit:
        fault = f"takes {seconds:.2f} s"
    if not fault and max(peak, increase) > 2 * size + EXTRA_BYTES:
        fault = f"takes {max(peak, increase):,} bytes for {size:,}"
    return Outcome(message, fault, seconds, peak)


def most_memory() -> int:
    """The most memory that this process has held so far, in bytes; 0 if the system does not tell."""
    if _STATUS is None:
        return 0
    return int(os.pread(_STATUS, 4096, 0).split(b"VmHWM:")[1].split()[0]) * 1024


_STATUS = os.open("/proc/self/status", os.O_RDONLY) if os.path.exists("/proc/self/status") else None


# --- many mutants -------------------------------------------------------------------------------


class Mutants:
    """The mutants of a kind; each seed has its folder in ``root``."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, plain = kind, kind.removeprefix(ACCIDENTS)
        self.seeds = list((accident_seeds.KINDS | mutant_seeds.KINDS)[plain]())
        self.pool = [seed.files[name] for seed in self.seeds for name in seed.targets]
        other_kinds = {name: mutant_seeds.seeds(name)[0] for name in mutant_seeds.KINDS}
        self.pool += [seed.files[name] for seed in other_kinds.values() for name in seed.targets]
        self.folders = []
        for i, seed in enumerate(self.seeds):
            folder = root / f"{kind.replace(' ', '-')}-{i}"
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in seed.files.items():
                (folder / name).write_bytes(content)
            self.folders.append(folder)

    def make(self, number: int) -> tuple[random.Random, mutant_seeds.Seed, Path, str, bytes]:
        """Write mutant ``number``: its seed, folder, name and content."""
        rng = random.Random(number * 1000 + zlib.crc32(self.kind.encode()))
        index = rng.randrange(len(self.seeds))
        seed = self.seeds[index]
        (name,) = rng.choices(list(seed.targets), list(seed.targets.values()))
        file_format = seed.file_format if name.endswith((".json", ".bin", ".safetensors")) else ""
        content = seed.files[name]
        if file_format == "json" and not name.endswith(".json"):
            file_format = ""
        if self.kind.startswith(ACCIDENTS):
            mutant = accident(rng, content, self.pool)
        else:
            mutant = mutate(rng, content, file_format, self.pool)
        write(self.folders[index] / name, mutant)
        return rng, seed, self.folders[index], name, mutant


def write(path: Path, content: bytes) -> None:
    # a new file, because an array may still map the old one
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def run(
    kind: str,
    first: int,
    count: int,
    root: Path,
    wrong_reader: Reader | None = None,
    limit: float = SECONDS,
) -> dict:
    """Open the mutants and report how many loaded and were refused, with which messages, how long
    it took, how much memory it took, and every fault."""
    mutants, forbidden = Mutants(kind, root), ForbiddenEvents()
    for folder, seed in zip(mutants.folders, mutants.seeds, strict=True):
        if wrong_reader is None:
            warm_up(kind, seed, folder)
    report = {"loaded": 0, "refused": 0, "slowest": 0.0, "peak": 0, "longest": 0}
    readers, reasons, contents, faults = Counter(), Counter(), set(), []
    progress = os.open(root / "progress", os.O_RDWR | os.O_CREAT)
    for number in range(first, first + count):
        os.pwrite(progress, b"%20d" % number, 0)
        rng, seed, folder, name, mutant = mutants.make(number)
        reader = wrong_reader or choose_reader(rng, kind, seed)
        traced = number % TRACED == 0
        message, fault, seconds, peak = examine(reader, folder, forbidden, traced, limit)
        readers[getattr(reader, "__self__", reader).__name__] += 1
        contents.add(hash(mutant))
        report["loaded" if message is None else "refused"] += not fault
        report["slowest"] = max(report["slowest"], seconds)
        report["peak"] = max(report["peak"], peak - 2 * len(mutant))
        if message is not None:
            report["longest"] = max(report["longest"], len(message))
            reasons[reason(message, folder)] += 1
        if fault:
            faults.append(f"{kind} {number}: {folder.name}/{name}, {reader.__qualname__}: {fault}")
        if count > 1 and len(seed.targets) > 1:
            write(folder / name, seed.files[name])
    report |= {"different": len(contents), "readers": readers, "faults": faults, "reasons": reasons}
    return report | {"most memory": most_memory()}


def warm_up(kind: str, seed: mutant_seeds.Seed, folder: Path) -> None:
    """Import the modules that are imported late, and check that a seed that is a model loads."""
    codecs.lookup("cp437")  # zipfile decodes some names with it
    for reader in {choose_reader(random.Random(i), kind, seed) for i in range(12)}:
        try:
            reader(folder)
        except MinizhaError:
            others = ("vocab.txt", "corpus.txt", "inputs.json", "inputs.safetensors")
            valid = seed.is_model or any(name in seed.files for name in others)
            assert not valid, folder


def reason(message: str, folder: Path) -> str:
    """The first words of each part of a message behind the path, without those peculiar to a file."""
    rest = message.replace(str(folder), "").split(": ")
    return " ".join(w for part in rest[1:4] for w in part.split()[:3] if w.isalpha())


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", CheckpointWarning)
    warnings.simplefilter("ignore", TextWarning)
    kind, first, count, root, *control = sys.argv[1:]
    wrong: tuple = ()
    if control:
        from tests.support.files import wrong_readers

        wrong = (getattr(wrong_readers, control[0]), float(control[1]))
    print(json.dumps(run(kind, int(first), int(count), Path(root).resolve(), *wrong)))
