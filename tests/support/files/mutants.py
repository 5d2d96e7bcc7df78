"""Makes mutants of files and opens them, in a process of its own: a crash must not end the tests.

    python -m tests.support.files.mutants KIND FIRST COUNT FOLDER

prints a report as JSON. Mutant number i of a kind is the same wherever it is made, and with COUNT 1
it stays in FOLDER. ``progress`` in FOLDER holds the number of the mutant that is being opened. For
the controls the name of a wrong reader and the seconds that it may take can follow.
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
from minizha.errors import CheckpointWarning, MinizhaError
from minizha.info import describe_folder
from tests.support.files import mutant_seeds
from tests.support.files.mutations import mutate
from tests.support.files.torch_files import SECONDS

TRACED = 20  # of so many mutants, one's memory is watched: that takes several times as long
LONGEST_TEXT = 3000
# bytes beside twice the files' size. A pickle may spend 8 MiB before it is refused; and a config.json
# can ask for more than lies in the files: 1,000 layers that are drawn take 10 MB, 100,000 relative
# positions 13
ROOM = 16_000_000
Door = Callable[[Path], Any]


# --- doors --------------------------------------------------------------------------------------


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


def door_of(rng: random.Random, kind: str, seed: mutant_seeds.Seed) -> Door:
    """The model's door, the one of ``minizha info``, or the reader beneath, which is faster."""
    if "vocab.txt" in seed.files or "tokenizer.json" in seed.files:
        return tokenizer
    reader = NezhaConfig.from_pretrained if kind == "config" else stored
    shares = (5, 2, 3) if seed.model else (1, 2, 7)
    return rng.choices((rng.choice(MODELS), info, reader), shares)[0]


# --- what opening one costs, and what comes of it ------------------------------------------------


class Watch:
    """Notes whatever Python reports that a reader has no business with."""

    FORBIDDEN = (
        "exec", "compile", "import", "pickle.", "os.system", "os.exec", "os.posix_spawn", "os.fork",
        "subprocess.", "socket.", "ctypes.", "os.remove", "os.rename", "os.mkdir", "os.rmdir",
        "os.symlink", "os.link", "os.chmod", "os.truncate", "shutil.", "os.putenv", "code.",
    )  # fmt: skip

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple) -> None:
        if self.folder is None:
            return
        if event == "open":
            path, _, flags = arguments
            inside = isinstance(path, int) or os.path.dirname(os.fspath(path)) == self.folder
            if not inside or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self.seen.append(f"open {path!r:.100}")
        elif event.startswith(self.FORBIDDEN):
            self.seen.append(f"{event} {arguments!r:.100}")


class Outcome(NamedTuple):
    """``text`` is what a refusal said; ``fault`` what is wrong, or nothing; ``peak`` in bytes."""

    text: str | None
    fault: str
    seconds: float
    peak: int


def attempt(door: Door, folder: Path, watch: Watch) -> tuple[str | None, str]:
    """What a refusal said, and what is wrong with the way in which it loads or is refused."""
    text, fault = None, ""
    watch.folder, watch.seen[:] = str(folder), []
    try:
        door(folder)
    except MinizhaError as error:
        text = str(error)
    except BaseException as error:  # noqa: BLE001  a panic of a Rust library is no Exception
        fault = f"leaks {type(error).__name__}: {error}"[:300]
    watch.folder = None
    if watch.seen:
        fault = f"does what it must not: {watch.seen[0]}"
    elif text is not None and not (text.isprintable() and len(text) < LONGEST_TEXT):
        fault = f"not a line: {text!r:.300}"
    elif text is not None and str(folder) not in text:
        fault = f"does not name the path: {text[:300]}"
    return text, fault


def examine(
    door: Door, folder: Path, watch: Watch, traced: bool, seconds: float = SECONDS
) -> Outcome:
    """Open it; again where it took long, since the machine may have been busy."""
    size = sum(entry.stat().st_size for entry in os.scandir(folder))
    taken, high, peak = float("inf"), high_water(), 0
    for _ in range(3):
        start = time.perf_counter()
        text, fault = attempt(door, folder, watch)
        taken = min(taken, time.perf_counter() - start)
        if fault or taken <= seconds:
            break
    grown = high_water() - high
    if traced and not fault:
        tracemalloc.start()
        text, fault = attempt(door, folder, watch)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if not fault and taken > seconds:
        fault = f"takes {taken:.2f} s"
    if not fault and max(peak, grown) > 2 * size + ROOM:
        fault = f"takes {max(peak, grown):,} bytes for {size:,}"
    return Outcome(text, fault, taken, peak)


def high_water() -> int:
    """The most memory that this process has held so far, in bytes; 0 where the system does not say."""
    if _STATUS is None:
        return 0
    return int(os.pread(_STATUS, 4096, 0).split(b"VmHWM:")[1].split()[0]) * 1024


_STATUS = os.open("/proc/self/status", os.O_RDONLY) if os.path.exists("/proc/self/status") else None


# --- many ---------------------------------------------------------------------------------------


class Mutants:
    """The mutants of a kind, one after the other in a folder of their own."""

    def __init__(self, kind: str, root: Path) -> None:
        self.kind, self.seeds = kind, mutant_seeds.seeds(kind)
        self.pool = [seed.files[name] for seed in self.seeds for name in seed.targets]
        strangers = {name: mutant_seeds.seeds(name)[0] for name in mutant_seeds.KINDS}
        self.pool += [seed.files[name] for seed in strangers.values() for name in seed.targets]
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
        place = rng.randrange(len(self.seeds))
        seed = self.seeds[place]
        (name,) = rng.choices(list(seed.targets), list(seed.targets.values()))
        build = seed.build if name.endswith((".json", ".bin", ".safetensors")) else ""
        content = seed.files[name]
        if build == "json" and not name.endswith(".json"):
            build = ""
        mutant = mutate(rng, content, build, self.pool)
        write(self.folders[place] / name, mutant)
        return rng, seed, self.folders[place], name, mutant


def write(path: Path, content: bytes) -> None:
    # a new file: what an array still maps keeps its bytes
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def run(
    kind: str, first: int, count: int, root: Path, wrong: Door | None = None, limit: float = SECONDS
) -> dict:
    """Open so many mutants and report: how many loaded and were refused, in what words, at what
    cost, and what went wrong."""
    mutants, watch = Mutants(kind, root), Watch()
    for folder, seed in zip(mutants.folders, mutants.seeds, strict=True):
        if wrong is None:
            warm_up(kind, seed, folder)
    report = {"loaded": 0, "refused": 0, "slowest": 0.0, "peak": 0, "longest": 0}
    doors, words, contents, faults = Counter(), Counter(), set(), []
    note = os.open(root / "progress", os.O_RDWR | os.O_CREAT)
    for number in range(first, first + count):
        os.pwrite(note, b"%20d" % number, 0)
        rng, seed, folder, name, mutant = mutants.make(number)
        door = wrong or door_of(rng, kind, seed)
        text, fault, seconds, peak = examine(door, folder, watch, number % TRACED == 0, limit)
        doors[getattr(door, "__self__", door).__name__] += 1
        contents.add(hash(mutant))
        report["loaded" if text is None else "refused"] += not fault
        report["slowest"] = max(report["slowest"], seconds)
        report["peak"] = max(report["peak"], peak - 2 * len(mutant))
        if text is not None:
            report["longest"] = max(report["longest"], len(text))
            words[reason(text, folder)] += 1
        if fault:
            faults.append(f"{kind} {number}: {folder.name}/{name}, {door.__qualname__}: {fault}")
        if count > 1 and len(seed.targets) > 1:
            write(folder / name, seed.files[name])
    more = {"different": len(contents), "doors": doors, "faults": faults, "words": words}
    return report | more | {"high water": high_water()}


def warm_up(kind: str, seed: mutant_seeds.Seed, folder: Path) -> None:
    """Have imported what is imported late, and see that a seed that is a model loads as it is."""
    codecs.lookup("cp437")  # in which zipfile reads some names
    for door in {door_of(random.Random(i), kind, seed) for i in range(12)}:
        try:
            door(folder)
        except MinizhaError:
            usable = seed.model or "vocab.txt" in seed.files
            assert not usable, folder


def reason(text: str, folder: Path) -> str:
    """A message without what is peculiar to one file: its first three words behind the path."""
    rest = text.replace(str(folder), "").split(": ")
    return " ".join(w for part in rest[1:4] for w in part.split()[:3] if w.isalpha())


if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", CheckpointWarning)
    kind, first, count, root, *control = sys.argv[1:]
    more: tuple = ()
    if control:
        from tests.support.files import wrong_readers

        more = (getattr(wrong_readers, control[0]), float(control[1]))
    print(json.dumps(run(kind, int(first), int(count), Path(root).resolve(), *more)))
