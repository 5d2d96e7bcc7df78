"""The members of a zip archive that ``torch.save`` wrote: uncompressed, so that their place is known."""

from __future__ import annotations

import struct
import zipfile
from typing import Any

from minizha.checkpoint.stored import StoredFile, one_line, shown
from minizha.errors import FileError

_ENCRYPTED = 1
_LOCAL_HEADER = struct.Struct("<4s22x2H")  # signature, …, lengths of the name and the extra field
_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    OSError,
    ValueError,
    OverflowError,
    struct.error,
    IndexError,
    MemoryError,
)


class TorchArchive:
    """The members of the archive in ``file``: where the bytes of each begin, and how many there are.

    Raises:
        FileError: not a zip archive, damaged, or its directory is implausibly large.
    """

    def __init__(self, file: StoredFile) -> None:
        self.file, path = file, file.path
        self.infos: dict[str, zipfile.ZipInfo] = {}
        for info in _directory(file):
            if info.filename in self.infos:
                raise FileError(f"{path}: {shown(info.filename)} appears twice in the archive")
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

    def member(self, name: str) -> tuple[int, int]:
        """Start and length of a member in the file; ``name`` is relative to the folder of data.pkl.

        Raises:
            FileError: it is missing, compressed, encrypted, or extends beyond the file.
        """
        where = f"{self.file.path}: {shown(name)}"
        if name not in self:
            raise FileError(f"{where} is missing in the archive")
        info = self.infos[self.root + name]
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise FileError(f"{where} is compressed, which torch.save never does")
        if info.flag_bits & _ENCRYPTED:
            raise FileError(f"{where} is encrypted")
        start = info.header_offset
        header = self.file.peek(start, _LOCAL_HEADER.size) if start >= 0 else b""
        if len(header) == _LOCAL_HEADER.size:
            signature, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start += _LOCAL_HEADER.size + name_length + extra_length
            if signature == b"PK\3\4" and start + info.file_size <= self.file.size:
                return start, info.file_size
        raise FileError(f"{where} is not where the archive says: damaged or truncated")


class _BoundedFile:
    """The file as an object for zipfile that reads at most ``max_read`` bytes at once.

    zipfile reads the whole directory at once, as large as the archive says it is, and takes ten
    times as much memory for it.
    """

    def __init__(self, file: StoredFile, max_read: int) -> None:
        self.file, self.max_read, self.position = file, max_read, 0

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        position = (0, self.position, self.file.size)[whence] + offset
        if position < 0:
            raise OSError("a position before the beginning")
        self.position = position
        return position

    def read(self, count: int = -1) -> bytes:
        if count < 0:
            count = max(self.file.size - self.position, 0)
        if count > self.max_read:
            raise zipfile.BadZipFile(f"a directory of {count:,} bytes")
        content = self.file.peek(self.position, count)
        self.position += len(content)
        return content


def _directory(file: StoredFile) -> list[zipfile.ZipInfo]:
    bounded: Any = _BoundedFile(file, min(256 * 1024 + file.size // 64, 4 * 1024**2))
    try:
        with zipfile.ZipFile(bounded) as archive:
            return archive.infolist()
    except _ARCHIVE_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise FileError(f"{file.path}: a damaged or truncated zip archive: {reason}") from error
