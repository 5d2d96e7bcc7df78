"""From a name to a folder: a folder as it is, an id of the hub by way of huggingface_hub's cache.

huggingface_hub comes with the tokenizers library and is imported only when an id is looked up. It
reads the ``HF_*`` variables when it is imported; those that matter here are read at each call.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from minizha.checkpoint.folder import INDEX_ENDING, WEIGHTS_NAMES, weight_map
from minizha.checkpoint.repository import COMMIT, OutOfReachError, Repository
from minizha.checks import flag
from minizha.config import CONFIG_NAME
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError, listed
from minizha.files import folder_path

MODEL_FILES = ((CONFIG_NAME,), WEIGHTS_NAMES)
"""What a model needs: of each row, the first file that the repository has."""

# a part of a git reference: no blanks, none of git's own signs, no dot at the start
_REVISION_PART = re.compile(r"(?!\.)[^\x00-\x20\x7f~^:?*\[\\/]+")
_ON = {"1", "ON", "YES", "TRUE"}


def local_folder(
    name: str | PathLike[str],
    wanted: Sequence[Sequence[str]],
    optional: Sequence[str] = (),
    *,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder in which the wanted files lie: ``name`` itself, or a snapshot in the hub's cache.

    Convention: an existing folder is taken as it is. Otherwise a string that is a valid id,
    "name" or "organisation/name", is looked up on the hub, and what is missing in the cache is
    fetched, all of it from one commit; a ``Path`` never goes to the network. The hub is that of
    ``HF_ENDPOINT`` or else huggingface.co. ``HF_HUB_OFFLINE=1`` is ``local_files_only=True``.
    Where the hub can't be reached, the copy in the cache serves, with a CheckpointWarning.

    Args:
        name: a folder or an id.
        wanted: rows of file names; of each row the first that exists is fetched, and one must
            exist. A file that ends in ".index.json" brings the shards that it lists.
        optional: files to fetch where they exist.
        revision: a branch, a tag or a commit; None is "main".
        cache_dir: the cache; None is that of ``HF_HUB_CACHE`` or ``HF_HOME``, or the usual one.
        local_files_only: never ask the hub.

    Raises:
        FileError: neither a folder nor an id; no such repository, revision or file; no access;
            the hub is out of reach or breaks off, and the cache has no copy.
        ArgumentError: ``name``, ``revision``, ``cache_dir`` or ``local_files_only`` is none.
    """
    path = folder_path(name)
    revision = _check_revision(revision)
    local_files_only = flag("local_files_only", local_files_only)
    if cache_dir is not None:
        cache_dir = _check_cache(cache_dir)
    if os.path.isdir(path):
        return path
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    hub = Repository(_check_id(name), revision, endpoint, cache_dir or _usual_cache())
    if reason := _why_offline(local_files_only):
        return _from_cache(hub, wanted, optional, reason)
    try:
        return _from_hub(hub, wanted, optional)
    except OutOfReachError as error:
        folder = _older_copy(hub, wanted, optional, error)
        warnings.warn(
            f"{hub.name}: {error}; using the copy in the cache, commit {folder.name} "
            "(HF_HUB_OFFLINE=1 or local_files_only=True asks for it at once)",
            CheckpointWarning,
            stacklevel=3,
        )
        return folder


# --- all files of a load ------------------------------------------------------------------------


def _from_hub(hub: Repository, wanted: Sequence[Sequence[str]], optional: Sequence[str]) -> Path:
    commit: str | None = hub.revision if COMMIT.fullmatch(hub.revision) else None
    names = iter([name for row in wanted for name in row])
    while commit is None:
        name = next(names, None)
        if name is None:
            raise FileError(f"{hub.name}: found no {_or(wanted[0])} in {hub.where}")
        commit = hub.head(name, hub.revision)
    found = _collect(hub, wanted, optional, partial(hub.get, commit=commit), f"in {hub.where}")
    hub.note_revision(found.name, commit)
    return found.parent


def _from_cache(
    hub: Repository, wanted: Sequence[Sequence[str]], optional: Sequence[str], reason: str
) -> Path:
    where = f"of revision {hub.revision!r} in the cache {hub.cache} ({reason})"
    found = filter(None, (hub.cached(name, hub.revision) for row in wanted for name in row))
    first = next(found, None)
    if first is None:
        raise FileError(f"{hub.name}: no such folder, and found no {_or(wanted[0])} {where}")
    get = partial(hub.cached, revision=first.parent.name)
    return _collect(hub, wanted, optional, get, where).parent


def _older_copy(
    hub: Repository,
    wanted: Sequence[Sequence[str]],
    optional: Sequence[str],
    error: OutOfReachError,
) -> Path:
    try:
        return _from_cache(hub, wanted, optional, "")
    except FileError:
        raise FileError(
            f"{hub.name}: no such folder; {error}, and the cache {hub.cache} has no whole copy"
        ) from error


def _collect(
    hub: Repository,
    wanted: Sequence[Sequence[str]],
    optional: Sequence[str],
    get: Callable[[str], Path | bool | None],
    where: str,
) -> Path:
    """Have every file that is wanted; the path of the first."""
    first: list[Path] = []
    for names in wanted:
        path = next(filter(None, map(get, names)), None)
        if not path:
            raise FileError(f"{hub.name}: found no {_or(names)} {where}")
        first.append(path)
        shards = set(weight_map(path).values()) if path.name.endswith(INDEX_ENDING) else ()
        for shard in sorted(shards):
            if not get(shard):
                raise FileError(f"{hub.name}: found no {shard}, which {path.name} names, {where}")
    for name in optional:
        get(name)
    return first[0]


# --- what is given, and what is said ------------------------------------------------------------


def _check_id(name: str | PathLike[str]) -> str:
    if os.path.lexists(name):
        raise FileError(f"{name}: expected a folder, found something else")
    if not isinstance(name, str):
        raise FileError(f"{name}: no such folder")
    from huggingface_hub.utils import validate_repo_id

    try:
        # \w of the library's own rule takes letters of every script, and $ a line feed
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", name):
            raise ValueError(name)
        validate_repo_id(name)
    except ValueError as error:
        raise FileError(
            f"{name!r:.200}: no such folder, and no id of the hub either ('name' or "
            "'organisation/name')"
        ) from error
    return name


def _check_revision(revision: Any) -> str:
    if revision is None:
        return "main"
    parts = revision.split("/") if isinstance(revision, str) and ".." not in revision else [""]
    if not all(map(_REVISION_PART.fullmatch, parts)):
        raise ArgumentError(f"revision: expected a branch, a tag or a commit, found {revision!r}")
    return revision


def _check_cache(cache_dir: Any) -> str:
    try:
        return os.path.expanduser(folder_path(cache_dir))
    except MinizhaError as error:
        raise ArgumentError(f"cache_dir: expected a path, found {cache_dir!r}") from error


def _usual_cache() -> str:
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    folder = os.environ.get("HF_HUB_CACHE") or (home and os.path.join(home, "hub"))
    return os.path.expanduser(os.path.expandvars(folder)) if folder else constants.HF_HUB_CACHE


def _why_offline(local_files_only: bool) -> str | None:
    if local_files_only:
        return "local_files_only=True"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in _ON:
            return f"offline: {variable} is set"
    return None


def _or(names: Sequence[str]) -> str:
    return listed(names, " or ")
