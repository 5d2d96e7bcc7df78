"""Where the parts of a zip archive lie that ``torch.save`` wrote: stored as they are, so that they
can be mapped."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.stored import in_a_line, shown
from minizha.errors import FileError

_ENCRYPTED = 1
_LOCAL = struct.Struct("<4s22x2H")  # signature, ..., lengths of the name and of the extra field


class ZipParts:
    """The parts of the archive at ``path``, whose bytes are ``data``, as slices of ``data``.

    Raises:
        FileError: no zip archive, damaged, or with an implausibly large directory.
    """

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data = path, data
        self.infos: dict[str, zipfile.ZipInfo] = {}
        for info in _directory(path, data):
            if info.filename in self.infos:
                raise FileError(f"{path}: {shown(info.filename)} stands twice in the archive")
            self.infos[info.filename] = info
        pickles = [name for name in self.infos if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise FileError(
                f"{path}: expected a zip archive with one data.pkl, as torch.save writes it, "
                f"found {len(pickles)} in it"
            )
        self.root = pickles[0].removesuffix("data.pkl")

    def __contains__(self, name: str) -> bool:
        return self.root + name in self.infos

    def part(self, name: str) -> np.ndarray:
        """The bytes of a part, ``name`` being relative to where data.pkl is.

        Raises:
            FileError: it is missing, compressed, encrypted, or reaches beyond the file.
        """
        where = f"{self.path}: {shown(name)}"
        if name not in self:
            raise FileError(f"{where} is missing in the archive")
        info = self.infos[self.root + name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise FileError(f"{where} is compressed, which torch.save never does")
        if info.flag_bits & _ENCRYPTED:
            raise FileError(f"{where} is encrypted")
        start = info.header_offset
        header = self.data[start : start + _LOCAL.size] if start >= 0 else self.data[:0]
        if len(header) == _LOCAL.size:
            signature, name_length, extra_length = _LOCAL.unpack(header)
            start += _LOCAL.size + name_length + extra_length
            if signature == b"PK\3\4" and start + info.file_size <= len(self.data):
                return self.data[start : start + info.file_size]
        raise FileError(f"{where} does not lie where the archive says: damaged or truncated")


class _Mapped:
    """The bytes as zipfile wants them, a file, but never more than ``most`` at a time: it reads
    the directory in one go, however large the archive says that is, and makes ten times as much
    of it."""

    def __init__(self, data: np.ndarray, most: int) -> None:
        self.data, self.most, self.place = data, most, 0

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = 0) -> int:
        place = (0, self.place, len(self.data))[whence] + offset
        if place < 0:
            raise OSError("a place before the beginning")
        self.place = place
        return place

    def read(self, count: int = -1) -> bytes:
        if count > self.most:
            raise zipfile.BadZipFile(f"a directory of {count:,} bytes")
        end = len(self.data) if count < 0 else self.place + count
        taken = self.data[self.place : end].tobytes()
        self.place += len(taken)
        return taken


def _directory(path: Path, data: np.ndarray) -> list[zipfile.ZipInfo]:
    file: Any = _Mapped(data, min(256 * 1024 + len(data) // 64, 4 * 1024**2))
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, OverflowError,
            struct.error, IndexError, MemoryError) as error:  # fmt: skip
        reason = in_a_line(error) or type(error).__name__
        raise FileError(f"{path}: a damaged or truncated zip archive: {reason}") from error
