"""One repository of the hub, by way of huggingface_hub and its cache.

huggingface_hub comes with the tokenizers library and is imported only when it is used.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from minizha.errors import FileError

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 10
"""Seconds to wait for an answer of the hub; the variable HF_HUB_ETAG_TIMEOUT goes before it."""
RESTARTS = 5
"""How often one file's download may begin anew before it is given up."""


class OutOfReachError(Exception):
    """The hub gave no answer, or none that settles anything: the cache may serve instead."""


class Repository(NamedTuple):
    """``name`` at ``revision``, on the hub at ``endpoint`` and in the folder ``cache``."""

    name: str
    revision: str
    endpoint: str
    cache: str

    @property
    def where(self) -> str:
        """For messages."""
        return f"revision {self.revision!r} at {self.endpoint}"

    def cached(self, file: str, revision: str) -> Path | bool | None:
        """Its path in the cache; False where it is known not to exist, None if nothing is known."""
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(self.name, file, cache_dir=self.cache, revision=revision)
        except (OSError, ValueError) as error:
            raise FileError(f"{self.cache}: can't be read: {_in_a_line(error)}") from error
        return Path(found) if isinstance(found, str) else None if found is None else False

    def head(self, file: str, revision: str) -> str | None:
        """Ask for a file: the commit it is found at, or None where that commit has no such file.

        hf_hub_download asks too, but tries for minutes where nobody answers.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        try:
            url = hf_hub_url(self.name, file, revision=revision, endpoint=self.endpoint)
            answer = get_hf_file_metadata(url, timeout=TIMEOUT)
        except Exception as error:
            if _no_such_file(error):
                return None
            raise self._fault(file, error) from error
        if not answer.etag or not COMMIT.fullmatch(answer.commit_hash or ""):
            raise OutOfReachError(
                f"{self.endpoint} answers, but not as a hub does (no commit named)"
            )
        return answer.commit_hash

    def get(self, file: str, commit: str) -> Path | None:
        """The file's path in the cache, where it is put if need be; None if there is no such file.

        Nothing is asked about a file that is in the cache or known to be missing at this commit.
        """
        path = self.cached(file, commit)
        if path is None:
            self.head(file, commit)
            path = self._download(file, commit)
        return path or None

    def note_revision(self, file: str, commit: str) -> None:
        """Have the cache remember what the revision is now, once all of that commit is there.

        Done first, a download that breaks off would spoil the older copy for whoever is offline.
        """
        path = self.cached(file, self.revision)
        if self.revision != commit and not (path and path.parent.name == commit):
            with suppress(OutOfReachError, FileError):
                self._download(file, self.revision)

    def _download(self, file: str, revision: str) -> Path | None:
        from huggingface_hub import hf_hub_download

        options: dict[str, Any] = {"endpoint": self.endpoint, "etag_timeout": TIMEOUT}
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _bar()
        try:
            path = hf_hub_download(
                self.name, file, revision=revision, cache_dir=self.cache, **options
            )
        except Exception as error:
            # it says "not in the cache", and why it had to look there is the cause
            cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
            if _no_such_file(cause or error):
                return None
            raise self._fault(file, cause or error) from error
        return Path(path)

    def _fault(self, file: str, error: BaseException) -> Exception:
        """``error`` in words; a FileError where the hub's answer is final."""
        from huggingface_hub import utils

        status = _status(error)
        if isinstance(error, utils.GatedRepoError):
            text = f"no access at {self.endpoint}: accept its terms there, then log in (HF_TOKEN)"
        elif isinstance(error, utils.RevisionNotFoundError):
            text = f"no such folder, and the repository has no {self.where}"
        elif isinstance(error, utils.RepositoryNotFoundError):
            text = (
                f"no such folder, and no such repository at {self.endpoint} "
                "(for a private one set HF_TOKEN)"
            )
        elif status in (401, 403):
            text = f"no access to {self.where} (status {status}): set HF_TOKEN, or correct it"
        elif status is not None and status < 500 and status not in (408, 429):
            text = f"{file}: {self.endpoint} refuses it (status {status})"
        else:
            why = f"status {status}" if status else _in_a_line(error)
            return OutOfReachError(f"{file} can't be had from {self.endpoint} ({why})")
        return FileError(f"{self.name}: {text}")


def _no_such_file(error: BaseException) -> bool:
    from huggingface_hub import utils

    if isinstance(error, (utils.RepositoryNotFoundError, utils.RevisionNotFoundError)):
        return False
    # a plain server says 404 and not of what
    return isinstance(error, utils.EntryNotFoundError) or _status(error) == 404


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _in_a_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def _bar() -> type:
    """The hub's own progress bar, which gives up a download that begins anew again and again:
    a server that always breaks off and can't resume would be asked for ever."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        restarts = 0

        def update(self, n: float | None = 1) -> bool | None:
            self.restarts += n is not None and n < 0
            if self.restarts > RESTARTS:
                raise OSError(f"the connection broke off {self.restarts} times")
            return super().update(n)

    return Bar
