"""From a name to a local folder: the folder itself, or a hub id's snapshot in huggingface_hub's cache.

huggingface_hub comes with the tokenizers library and is imported only when an id is looked up. It
reads the ``HF_*`` variables when it is imported; this module reads those it needs at each call.
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

from minizha.checkpoint.folder import INDEX_SUFFIX, WEIGHTS_NAMES, weight_map
from minizha.checkpoint.repository import COMMIT, HubUnreachableError, Repository
from minizha.checks import flag
from minizha.config_files import CONFIG_NAMES
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError, listed
from minizha.files import folder_path, inner_folder

MODEL_FILES = (CONFIG_NAMES, WEIGHTS_NAMES)
"""The files that a model needs: from each row, the first one that the repository has."""

# a part of a git reference: no blanks, no characters special to git, no dot at the start
_REVISION_PART = re.compile(r"(?!\.)[^\x00-\x20\x7f~^:?*\[\\/]+")
_TRUE_VALUES = {"1", "ON", "YES", "TRUE"}


def local_folder(
    name: str | PathLike[str],
    required: Sequence[Sequence[str]],
    optional: Sequence[str] = (),
    *,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    local_files_only: bool = False,
    token: str | bool | None = None,
    subfolder: str | None = "",
) -> Path:
    """The folder with the required files: ``name`` itself, or a snapshot in the hub's cache.

    Convention: an existing folder is returned as it is. Any other string that is a valid id,
    "name" or "organisation/name", is looked up on the hub. Files that the cache lacks are fetched,
    all from one commit. A ``Path`` is never looked up on the hub. The hub's address is
    ``HF_ENDPOINT`` or else huggingface.co. ``HF_HUB_OFFLINE=1`` acts as ``local_files_only=True``.
    If the hub can't be reached, the copy in the cache is used, with a CheckpointWarning.

    Args:
        name: a folder or a hub id.
        required: rows of file names; from each row the first one that exists is fetched, and one
            must exist. For a file that ends in ".index.json", the shards it lists are fetched too.
        optional: files to fetch if they exist.
        revision: a branch, a tag or a commit; None is "main".
        cache_dir: the cache; None is ``HF_HUB_CACHE``, the one in ``HF_HOME``, or the default.
        local_files_only: use the cache alone.
        token: for a private repository; None is HF_TOKEN or the one stored by ``hf auth login``,
            False is none.
        subfolder: a folder inside of an existing one.

    Raises:
        FileError: neither a folder nor an id; no such repository, revision or file; no access;
            the hub can't be reached or the download breaks off, and the cache has no copy.
        ArgumentError: ``name``, ``revision``, ``cache_dir`` or ``local_files_only`` is invalid.
    """
    path = inner_folder(name, subfolder)
    if not isinstance(token, (str, bool, type(None))):  # its value is in no message
        raise ArgumentError(f"token: expected a string, found {type(token).__name__}")
    revision = _check_revision(revision)
    local_files_only = flag("local_files_only", local_files_only)
    if cache_dir is not None:
        cache_dir = _check_cache(cache_dir)
    if os.path.isdir(path):
        return path
    if path != Path(name):
        raise FileError(
            f"{path}: no such folder (of a repository on the hub no subfolder is read: use "
            "huggingface_hub.snapshot_download, and name the folder that it returns)"
        )
    endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    cache = cache_dir or _default_cache()
    hub = Repository(_check_id(name), revision, endpoint, cache, token)
    if reason := _offline_reason(local_files_only):
        return _from_cache(hub, required, optional, reason)
    try:
        return _from_hub(hub, required, optional)
    except HubUnreachableError as error:
        folder = _older_copy(hub, required, optional, error)
        warnings.warn(
            f"{hub.name}: {error}; using the copy in the cache, commit {folder.name} "
            "(HF_HUB_OFFLINE=1 or local_files_only=True uses it at once)",
            CheckpointWarning,
            stacklevel=3,
        )
        return folder


# --- fetching all files -------------------------------------------------------------------------


def _from_hub(hub: Repository, required: Sequence[Sequence[str]], optional: Sequence[str]) -> Path:
    commit: str | None = hub.revision if COMMIT.fullmatch(hub.revision) else None
    names = iter([name for row in required for name in row])
    while commit is None:
        name = next(names, None)
        if name is None:
            raise FileError(f"{hub.name}: found no {_any_of(required[0])} in {hub.location}")
        commit = hub.find_commit(name, hub.revision)
    fetch = partial(hub.fetch, commit=commit)
    first = _collect(hub, required, optional, fetch, f"in {hub.location}")
    hub.record_revision(first.name, commit)
    return first.parent


def _from_cache(
    hub: Repository, required: Sequence[Sequence[str]], optional: Sequence[str], reason: str
) -> Path:
    where = f"of revision {hub.revision!r} in the cache {hub.cache} ({reason})"
    paths = filter(None, (hub.cached_path(name, hub.revision) for row in required for name in row))
    first = next(paths, None)
    if first is None:
        raise FileError(f"{hub.name}: no such folder, and found no {_any_of(required[0])} {where}")
    look_up = partial(hub.cached_path, revision=first.parent.name)
    return _collect(hub, required, optional, look_up, where).parent


def _older_copy(
    hub: Repository,
    required: Sequence[Sequence[str]],
    optional: Sequence[str],
    error: HubUnreachableError,
) -> Path:
    try:
        return _from_cache(hub, required, optional, "")
    except FileError:
        raise FileError(
            f"{hub.name}: no such folder; {error}, and the cache {hub.cache} has no complete copy"
        ) from error


def _collect(
    hub: Repository,
    required: Sequence[Sequence[str]],
    optional: Sequence[str],
    get: Callable[[str], Path | bool | None],
    where: str,
) -> Path:
    """Get the path of every required and optional file; return that of the first."""
    paths: list[Path] = []
    for names in required:
        path = next(filter(None, map(get, names)), None)
        if not path:
            raise FileError(f"{hub.name}: found no {_any_of(names)} {where}")
        paths.append(path)
        shards = set(weight_map(path).values()) if path.name.endswith(INDEX_SUFFIX) else ()
        for shard in sorted(shards):
            if not get(shard):
                raise FileError(f"{hub.name}: found no {shard}, which {path.name} names, {where}")
    for name in optional:
        get(name)
    return paths[0]


# --- arguments and variables --------------------------------------------------------------------


def _check_id(name: str | PathLike[str]) -> str:
    if os.path.lexists(name):
        folder = os.path.dirname(os.path.abspath(name))
        hint = f"; the folder of this file is {folder}" if os.path.isfile(name) else ""
        raise FileError(f"{name}: expected a folder, found something else{hint}")
    if not isinstance(name, str):
        raise FileError(f"{name}: no such folder")
    from huggingface_hub.utils import validate_repo_id

    try:
        # the library's own rule accepts letters of every script (\w) and a line feed at the end ($)
        if not re.fullmatch(r"[A-Za-z0-9_./-]+", name):
            raise ValueError(name)
        validate_repo_id(name)
    except ValueError as error:
        raise FileError(
            f"{name!r:.200}: no such folder, and not a hub id ('name' or 'organisation/name')"
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


def _default_cache() -> str:
    from huggingface_hub import constants

    home = os.environ.get("HF_HOME")
    folder = os.environ.get("HF_HUB_CACHE") or (home and os.path.join(home, "hub"))
    return os.path.expanduser(os.path.expandvars(folder)) if folder else constants.HF_HUB_CACHE


def _offline_reason(local_files_only: bool) -> str | None:
    if local_files_only:
        return "local_files_only=True"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in _TRUE_VALUES:
            return f"offline: {variable} is set"
    return None


def _any_of(names: Sequence[str]) -> str:
    return listed(names, " or ")
