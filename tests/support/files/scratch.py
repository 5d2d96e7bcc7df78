"""Temporary folders, and files whose writes can fail."""

import os
import tempfile


def temporary_folder() -> tempfile.TemporaryDirectory:
    """A temporary folder, in memory if the system has one there: a disk is slow at renaming."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    return tempfile.TemporaryDirectory(dir=memory)


class FileProxy:
    """An open file; a subclass replaces ``write``."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)
