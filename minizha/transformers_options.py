"""Keywords of Transformers' ``from_pretrained`` and ``save_pretrained``.

Programs written for Transformers pass them. A value that asks for what is done here anyway is taken.
Any other value is refused, and the message says what to use instead; none is ignored in silence.
"""

from __future__ import annotations

import re
import reprlib
from typing import Any, NamedTuple

from minizha.errors import ArgumentError


class Keyword(NamedTuple):
    """``accepted`` are the values that ask for what is done anyway; ``text`` says what that is and
    what to use instead of the others. With ``means`` other values are passed on to the caller, under
    that name."""

    accepted: tuple[Any, ...]
    text: str
    means: str = ""


_ONE_DEVICE = (
    "a model is on one device as a whole; choose it with backend='numpy' or backend='cupy'"
)
_NO_CODE = "no code from a repository is run; leave it out"
_NO_HALF = "parameters are float32 or float64; choose with dtype"
_DOWNLOADS = "downloads are complete files in cache_dir, and partial ones are continued"
_UPLOAD = (
    "nothing is uploaded; save the folder, then use huggingface_hub.upload_folder(repo_id=…, "
    "folder_path=…)"
)
_FIXED = "the names of the files are fixed; name another folder"
_RENAME = "the names of the files are fixed; rename it to model.safetensors or pytorch_model.bin"
_NOT = (None, False)
_ANY_FLAG = (None, False, True)

LOADING: dict[str, Keyword] = {
    "torch_dtype": Keyword((None, "auto"), "None or 'auto' is the stored dtype", means="dtype"),
    "low_cpu_mem_usage": Keyword(_ANY_FLAG, "tensors are read one at a time in any case"),
    "resume_download": Keyword(_ANY_FLAG, _DOWNLOADS),
    "weights_only": Keyword(_ANY_FLAG, "nothing in a file is ever run"),
    "use_safetensors": Keyword(
        (None,),
        "of both formats model.safetensors is read, and of a pytorch_model.bin nothing is run; "
        "name a folder that has only the wanted one",
    ),
    "force_download": Keyword(
        _NOT, "files in the cache are not fetched again; pass an empty folder as cache_dir"
    ),
    "proxies": Keyword((None, {}), "set the environment variable HTTPS_PROXY"),
    "mirror": Keyword((None,), "set the environment variable HF_ENDPOINT"),
    "use_auth_token": Keyword(_NOT, "pass it as token"),
    "device_map": Keyword((None,), _ONE_DEVICE),
    "tp_plan": Keyword((None,), _ONE_DEVICE),
    **dict.fromkeys(
        ("max_memory", "offload_folder", "offload_state_dict", "offload_buffers"),
        Keyword(_NOT, _ONE_DEVICE),
    ),
    **dict.fromkeys(
        ("load_in_8bit", "load_in_4bit", "quantization_config"), Keyword(_NOT, _NO_HALF)
    ),
    "attn_implementation": Keyword(
        (None, "eager"), "there is one implementation, 'eager'; kernels replace parts of it"
    ),
    "trust_remote_code": Keyword(_NOT, _NO_CODE),
    "code_revision": Keyword((None,), _NO_CODE),
    "variant": Keyword((None,), _RENAME),
    "gguf_file": Keyword((None,), "save the model as model.safetensors first"),
    **dict.fromkeys(
        ("from_tf", "from_flax"),
        Keyword(_NOT, "save the model with Transformers as model.safetensors first"),
    ),
    "state_dict": Keyword(
        (None,), "make the model from its configuration, then call load_state_dict(arrays)"
    ),
    "use_fast": Keyword(
        (None, True), "there is one tokenizer, which gives the ids of BertTokenizerFast"
    ),
}
"""Of ``from_pretrained``, besides those that it lists itself."""

SAVING: dict[str, Keyword] = {
    "is_main_process": Keyword((None, True), "", means="is_main_process"),
    "max_shard_size": Keyword((None,), "one file is written", means="max_shard_size"),
    "safe_serialization": Keyword(
        (None, True),
        "model.safetensors is written, which Transformers loads; pytorch_model.bin is a pickle",
    ),
    "save_function": Keyword((None,), "model.safetensors is written in one step with the others"),
    "state_dict": Keyword((None,), "the model's own parameters are saved; call load_state_dict"),
    "save_peft_format": Keyword(_ANY_FLAG, "there are no adapters"),
    "legacy_format": Keyword(_NOT, "vocab.txt and tokenizer_config.json are written"),
    "filename_prefix": Keyword((None,), _FIXED),
    "variant": Keyword((None,), _FIXED),
    "token": Keyword(_NOT, _UPLOAD),
    "use_auth_token": Keyword(_NOT, _UPLOAD),
    "push_to_hub": Keyword(_NOT, _UPLOAD),
    **dict.fromkeys(
        ("repo_id", "private", "commit_message", "commit_description", "create_pr", "revision"),
        Keyword(_NOT, _UPLOAD),
    ),
}
"""Of ``save_pretrained``, besides those that it lists itself."""

_SECRET = ("token", "use_auth_token")
_UNITS = {"": 1}
_UNITS |= {unit: 1000**n for n, unit in enumerate("kmgt", 1)}
_UNITS |= {unit + "i": 1024**n for n, unit in enumerate("kmgt", 1)}


def take(table: dict[str, Keyword], options: dict[str, Any]) -> dict[str, Any]:
    """Remove the keywords of ``table`` from ``options``; return what they mean here.

    Raises:
        ArgumentError: a value is refused; the message says what to use instead.
    """
    meant = {}
    for name in [name for name in options if name in table]:
        value, keyword = options.pop(name), table[name]
        if any(value is a or (type(value) is type(a) and value == a) for a in keyword.accepted):
            continue
        if not keyword.means:
            expected = " or ".join(map(repr, keyword.accepted))
            found = type(value).__name__ if name in _SECRET else reprlib.repr(value)
            raise ArgumentError(f"{name}: expected {expected}, found {found}: {keyword.text}")
        meant[keyword.means] = value
    return meant


def refuse_unknown(function: str, options: dict[str, Any]) -> None:
    """Python's own error for the first of ``options``, which no table has."""
    for name in options:
        raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def dtype_name(torch_dtype: Any) -> str:
    """The name of a dtype, of torch's too: ``torch.float32`` is "float32".

    Raises:
        ArgumentError: another one than float32 and float64.
    """
    name = getattr(torch_dtype, "__name__", str(torch_dtype)).removeprefix("torch.")
    if name not in ("float32", "float64"):
        raise ArgumentError(
            f"torch_dtype: expected float32, float64, 'auto' or None, found "
            f"{reprlib.repr(torch_dtype)}: half precision is read as float32"
        )
    return name


def check_shard_size(max_shard_size: Any, size: int) -> None:
    """Refuse a ``max_shard_size``, such as "5GB" or a number of bytes, below ``size`` bytes.

    Raises:
        ArgumentError: it is smaller, or no such size.
    """
    parts = re.fullmatch(r"(\d{1,15}) ?([kmgt]i?|)b?", str(max_shard_size).lower())
    if parts is None or isinstance(max_shard_size, bool):
        raise ArgumentError(
            "max_shard_size: expected a number of bytes or a size such as '5GB', found "
            f"{reprlib.repr(max_shard_size)}"
        )
    if int(parts[1]) * _UNITS[parts[2]] < size:
        raise ArgumentError(
            f"max_shard_size: expected at least {size:,} bytes, found {max_shard_size!r}: one file is "
            "written, model.safetensors; leave it out"
        )
