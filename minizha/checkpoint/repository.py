"""One repository of the hub, accessed through huggingface_hub and its cache.

huggingface_hub comes with the tokenizers library and is imported only when it is used.
"""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from minizha.checkpoint.stored import one_line
from minizha.errors import FileError
from minizha.progress import bar_options

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 10
"""Seconds to wait for the hub's answer, unless the variable HF_HUB_ETAG_TIMEOUT is set."""
RESTARTS = 5
"""How often the download of a file may restart before it is given up."""


class HubUnreachableError(Exception):
    """The hub gave no usable answer; a copy in the cache may be used instead."""


class Repository(NamedTuple):
    """``name`` at ``revision``, on the hub at ``endpoint`` and in the folder ``cache``. ``token`` gives
    access; None is the one that huggingface_hub knows, and False is none."""

    name: str
    revision: str
    endpoint: str
    cache: str
    token: str | bool | None = None

    @property
    def location(self) -> str:
        """Revision and address, for messages."""
        return f"revision {self.revision!r} at {self.endpoint}"

    def cached_path(self, file: str, revision: str) -> Path | bool | None:
        """The file's path in the cache; False if it is known not to exist, None if unknown."""
        from huggingface_hub import try_to_load_from_cache

        try:
            found = try_to_load_from_cache(self.name, file, cache_dir=self.cache, revision=revision)
        except (OSError, ValueError) as error:
            raise FileError(f"{self.cache}: can't be read: {_with_type(error)}") from error
        return Path(found) if isinstance(found, str) else None if found is None else False

    def find_commit(self, file: str, revision: str) -> str | None:
        """The commit of ``revision``, or None if that commit has no such file.

        hf_hub_download sends the same request, but repeats it for minutes if no answer comes.
        """
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        try:
            url = hf_hub_url(self.name, file, revision=revision, endpoint=self.endpoint)
            answer = get_hf_file_metadata(url, timeout=TIMEOUT, token=self.token)
        except Exception as error:
            if _no_such_file(error):
                return None
            raise self._translate(file, error) from error
        if not answer.etag or not COMMIT.fullmatch(answer.commit_hash or ""):
            raise HubUnreachableError(
                f"{self.endpoint} answers, but not as a hub does (no commit in the answer)"
            )
        return answer.commit_hash

    def fetch(self, file: str, commit: str) -> Path | None:
        """The file's path in the cache, downloaded if need be; None if there is no such file.

        No request is sent if the cache has the file or knows that this commit lacks it.
        """
        path = self.cached_path(file, commit)
        if path is None:
            self.find_commit(file, commit)
            path = self._download(file, commit)
        return path or None

    def record_revision(self, file: str, commit: str) -> None:
        """Make the cache record the commit of the revision, once all its files are in the cache.

        Recorded earlier, an interrupted download would make the older copy useless offline.
        """
        path = self.cached_path(file, self.revision)
        if self.revision != commit and not (path and path.parent.name == commit):
            with suppress(HubUnreachableError, FileError):
                self._download(file, self.revision)

    def _download(self, file: str, revision: str) -> Path | None:
        from huggingface_hub import hf_hub_download

        options: dict[str, Any] = {"endpoint": self.endpoint, "etag_timeout": TIMEOUT}
        options["token"] = self.token
        if "tqdm_class" in inspect.signature(hf_hub_download).parameters:
            options["tqdm_class"] = _progress_bar()
        try:
            path = hf_hub_download(
                self.name, file, revision=revision, cache_dir=self.cache, **options
            )
        except Exception as error:
            # the error says "not in the cache"; its cause says why the cache had to be used
            cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
            if _no_such_file(cause or error):
                return None
            raise self._translate(file, cause or error) from error
        return Path(path)

    def _translate(self, file: str, error: BaseException) -> Exception:
        """A FileError if the hub's answer is final, else a HubUnreachableError."""
        from huggingface_hub import utils

        status = _status(error)
        if isinstance(error, utils.GatedRepoError):
            text = f"no access at {self.endpoint}: accept its terms there, then log in (HF_TOKEN)"
        elif isinstance(error, utils.RevisionNotFoundError):
            text = f"no such folder, and the repository has no {self.location}"
        elif isinstance(error, utils.RepositoryNotFoundError):
            text = (
                f"no such folder, and no such repository at {self.endpoint} "
                "(for a private one set HF_TOKEN)"
            )
        elif status in (401, 403):
            text = f"no access to {self.location} (status {status}): set HF_TOKEN, or correct it"
        elif status is not None and status < 500 and status not in (408, 429):
            text = f"{file}: {self.endpoint} refuses it (status {status})"
        else:
            reason = f"status {status}" if status else _with_type(error)
            return HubUnreachableError(f"{file} can't be fetched from {self.endpoint} ({reason})")
        return FileError(f"{self.name}: {text}")


def _no_such_file(error: BaseException) -> bool:
    from huggingface_hub import utils

    if isinstance(error, (utils.RepositoryNotFoundError, utils.RevisionNotFoundError)):
        return False
    # a plain server answers 404 without saying what is missing
    return isinstance(error, utils.EntryNotFoundError) or _status(error) == 404


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _with_type(error: BaseException) -> str:
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _progress_bar() -> type:
    """The hub's progress bar, changed to need no stderr and to give up a download that restarts too
    often.

    A server that always breaks off and can't resume would otherwise be asked for ever.
    """
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        restarts = 0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | bar_options())

        def update(self, n: float | None = 1) -> bool | None:
            self.restarts += n is not None and n < 0
            if self.restarts > RESTARTS:
                raise OSError(f"the connection broke off {self.restarts} times")
            return super().update(n)

    return Bar
