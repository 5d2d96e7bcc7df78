"""NezhaTokenizer: BERT's WordPiece on the ``tokenizers`` library, which returns NumPy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, overload

import numpy as np

from minizha.backend import Array, is_array, refuse_masked, to_host
from minizha.checkpoint.hub import local_folder
from minizha.checks import flag
from minizha.errors import ArgumentError, TextWarning
from minizha.files import folder_path, make_folder, read_together, write_together
from minizha.text.added_tokens import AddedToken, check_added
from minizha.text.arguments import (
    check_ids,
    check_max_length,
    check_return_tensors,
    check_texts,
    check_truncation,
    row_length,
)
from minizha.text.batch import Batch
from minizha.text.lone_characters import LoneCharacters
from minizha.text.tokenizer_files import (
    TOKENIZER_FILES,
    check_settings,
    contents,
    read_tokenizer_folder,
)
from minizha.text.vocabulary import (
    CLS,
    MASK,
    PAD,
    SEP,
    UNK,
    check_vocabulary,
    read_vocabulary,
)
from minizha.text.wordpiece import close_gaps, normalizer, wordpiece, words_of
from minizha.transformers_options import LOADING, SAVING, refuse_unknown, take

_LOCK = Lock()
MAX_LENGTH = 512
"""The default of ``max_length``: the longest inputs the released checkpoints were trained on."""


class NezhaTokenizer:
    """Text to token ids and back, equal to Transformers' BertTokenizerFast on the same vocabulary.

    Text is normalised (control characters dropped, lower-cased, accents stripped), split at white
    space, punctuation and around every Chinese character; each word is then cut greedily into the
    longest tokens of the vocabulary, continuations written ``##…``. A word that can't be cut is [UNK].

    Args:
        vocab: the tokens in the order of their ids, or the path of a vocab.txt.
        do_lower_case: lower-case the text.
        strip_accents: drop accents; None: as ``do_lower_case``.
        tokenize_chinese_chars: make every Chinese character a word of its own.
        added_tokens: whole tokens, found before the text is split; those that are not in ``vocab``
            have the next ids. ``vocab_size`` counts them.

    Raises:
        ArgumentError: ``vocab`` is a list but not a vocabulary, an added token has another id, or a
            setting is not a bool.
        FileError: ``vocab`` is a path, and the file is missing or damaged.
    """

    def __init__(
        self,
        vocab: Sequence[str] | str | PathLike[str],
        do_lower_case: bool = True,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
        added_tokens: Sequence[AddedToken] = (),
    ):
        if isinstance(vocab, (str, PathLike)):
            self._base = read_vocabulary(vocab)
        else:
            self._base = check_vocabulary(vocab)
        self._added = check_added(self._base, added_tokens)
        own = [token.content for token in self._added if token.id >= len(self._base)]
        self._tokens = [*self._base, *own]
        self._ids = {token: i for i, token in enumerate(self._tokens)}
        self._settings: dict[str, Any] = {
            "do_lower_case": do_lower_case,
            "strip_accents": strip_accents,
            "tokenize_chinese_chars": tokenize_chinese_chars,
        }
        check_settings(self._settings, "NezhaTokenizer", ArgumentError)
        self.do_lower_case = do_lower_case
        self.vocab_size = len(self._tokens)
        self.pad_token_id, self.unk_token_id = self._ids[PAD], self._ids[UNK]
        self.cls_token_id, self.sep_token_id = self._ids[CLS], self._ids[SEP]
        self.mask_token_id = self._ids[MASK]
        self.special_ids = frozenset(token.id for token in self._added if token.special)
        text_normalizer = normalizer(**self._settings)
        self._tokenizer = wordpiece(self._base, self._added, text_normalizer)
        self._corpus_tokenizer: Any = None
        self._lone: LoneCharacters | None = None
        self._warned = False

    def __len__(self) -> int:
        return self.vocab_size

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        subfolder: str | None = "",
        **options: Any,
    ) -> NezhaTokenizer:
        """Read vocab.txt, or else tokenizer.json, tokenizer_config.json if there is one, and the added
        and special tokens of these and of added_tokens.json and special_tokens_map.json.

        Args:
            name: a folder, or a hub id such as "sijunhe/nezha-cn-base", which is fetched by
                :func:`minizha.checkpoint.hub.local_folder`.
            revision: of a repository: a branch, a tag or a commit; None is "main".
            cache_dir: the folder of downloaded files; None is huggingface_hub's default.
            local_files_only: use the files in ``cache_dir`` without contacting the hub.
            token: for a private repository; None is the one that huggingface_hub knows.
            subfolder: a folder inside of the folder ``name``.
            options: those of Transformers (:data:`~minizha.transformers_options.LOADING`).

        Raises:
            FileError: ``name`` is neither a folder nor a hub id, the repository can't be fetched,
                a file in it is missing or damaged, or its added tokens can't be used.
            ArgumentError: an argument is of the wrong type.
        """
        take(LOADING, options)
        refuse_unknown("NezhaTokenizer.from_pretrained", options)
        folder = local_folder(
            name,
            [TOKENIZER_FILES[:2]],
            TOKENIZER_FILES[1:],
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            subfolder=subfolder,
        )
        paths = [folder / name for name in TOKENIZER_FILES]
        tokens, added, settings = read_together(paths, lambda: read_tokenizer_folder(folder))
        return cls(tokens, added_tokens=added, **settings)

    def save_pretrained(self, folder: str | PathLike[str], **options: Any) -> None:
        """Write vocab.txt, tokenizer_config.json and, if there are tokens beyond vocab.txt,
        added_tokens.json into ``folder`` (made if it is missing).

        Transformers' BertTokenizerFast and AutoTokenizer load the folder. ``options`` are those of
        Transformers (:data:`~minizha.transformers_options.SAVING`).

        Raises:
            FileError: the folder or a file can't be written.
            ArgumentError: an option asks for something else; the message says what to use.
        """
        meant = take(SAVING, options)
        refuse_unknown("NezhaTokenizer.save_pretrained", options)
        if not flag("is_main_process", meant.get("is_main_process", True)):
            return
        folder = folder_path(folder)
        make_folder(folder)
        write_together(self.files(folder))

    def files(self, folder: Path) -> dict[Path, bytes]:
        """The files that :meth:`save_pretrained` writes, for saving them together with a model."""
        with _LOCK:
            self._tokenizer.no_truncation()
            tokenizer_json = self._tokenizer.to_str(pretty=True)
        return contents(folder, self._base, self._added, self._settings, tokenizer_json, MAX_LENGTH)

    def __call__(
        self,
        text: str | Sequence[str],
        pair: str | Sequence[str] | None = None,
        padding: bool | str = True,
        truncation: bool | str = True,
        max_length: int | None = None,
        return_tensors: str | Callable[[np.ndarray], Any] | None = None,
    ) -> Batch:
        """Encode as ``[CLS] text [SEP]`` or ``[CLS] text [SEP] pair [SEP]``.

        Args:
            text: one text or a list of B texts.
            pair: the second segments, as many as there are texts.
            padding: True or "longest" pads to the longest row, "max_length" to ``max_length``,
                False pads nothing (the rows must be equally long).
            truncation: True or "longest_first" shortens to ``max_length``, a pair by removing tokens
                from the longer segment; False shortens nothing.
            max_length: tokens a row, special ones included; None is 512, and the first time that a
                text is cut there, a TextWarning says so.
            return_tensors: None and "np" give NumPy arrays; a function such as ``torch.from_numpy``
                or ``cupy.asarray`` is applied to each array.

        Returns:
            input_ids, token_type_ids (1 from the pair on) and attention_mask (0 on padding), each
            (B, L) int64, also for one text. They are keys and attributes of a dict.

        Raises:
            ArgumentError: an argument is not as described here, or the rows do not fit into memory.
        """
        convert = check_return_tensors(return_tensors)
        batch = check_texts(text, pair)
        # [CLS], and for each segment a [SEP] and at least one token
        longest = check_max_length(max_length, default=MAX_LENGTH, least=3 if pair is None else 5)
        rows = self._encode(batch, longest if check_truncation(truncation) else None)
        length = row_length([len(row.ids) for row in rows], padding, longest)
        if max_length is None:
            self._warn_of_truncation(rows)
        try:
            out = {
                "input_ids": np.full((len(rows), length), self.pad_token_id, dtype=np.int64),
                "token_type_ids": np.zeros((len(rows), length), dtype=np.int64),
                "attention_mask": np.zeros((len(rows), length), dtype=np.int64),
            }
        except (MemoryError, ValueError) as error:  # ValueError: beyond the address space
            raise ArgumentError(
                f"max_length: {len(rows)} rows of {length} tokens do not fit into memory"
            ) from error
        for i, row in enumerate(rows):
            out["input_ids"][i, : len(row.ids)] = row.ids
            out["token_type_ids"][i, : len(row.ids)] = row.type_ids
            out["attention_mask"][i, : len(row.ids)] = 1
        return Batch({name: convert(array) for name, array in out.items()})

    def plain_ids(self, texts: Sequence[str], *, special_tokens: bool = True) -> list[np.ndarray]:
        """The ids of each text, (n,) int64, without [CLS] and [SEP] around them and without truncation.

        With ``special_tokens=False``, as for a corpus, "[MASK]" in a text is six characters.
        """
        checked = check_texts(texts)
        lone = [None] * len(checked) if special_tokens else self._lone_ids(checked)
        others = [text for text, ids in zip(checked, lone, strict=True) if ids is None]
        rows = iter(self._encode(others, None, around=False, special=special_tokens))
        return [np.array(next(rows).ids, np.int64) if ids is None else ids for ids in lone]

    def pieces(self, text: str) -> list[tuple[int, int, int]]:
        """The tokens of ``text`` as plain_ids(special_tokens=False) has them: the id, and the start
        and the end of the characters that it stands for."""
        (row,) = self._encode(check_texts([text]), None, around=False, special=False)
        return [(i, *span) for i, span in zip(row.ids, row.offsets, strict=True)]

    def tokenize(self, text: str) -> list[str]:
        """The tokens of ``text``, without [CLS] and [SEP]."""
        (ids,) = self.plain_ids([text])
        return [self._tokens[i] for i in ids]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """Ids (L,), or one id, as text: tokens joined by spaces, ``##`` pieces to what precedes.

        Convention: no space before ``. ? ! ,`` and around the apostrophes of English, as in
        BertTokenizerFast. Spaces between Chinese characters remain. An array is accepted as it is,
        such as ``logits[0].argmax(-1)``, and a CuPy array too.

        Raises:
            ArgumentError: more than one dimension, not integers, or an id outside 0 … V − 1.
        """
        ids = check_ids(ids, self.vocab_size)
        ids = [ids] if isinstance(ids, int) else ids
        skip_special_tokens = flag("skip_special_tokens", skip_special_tokens)
        return close_gaps(self._tokenizer.decode(ids, skip_special_tokens))

    def batch_decode(self, ids: Any, skip_special_tokens: bool = False) -> list[str]:
        """Ids (B, L), or a list of B rows or single ids, as B texts; see :meth:`decode`."""
        flag("skip_special_tokens", skip_special_tokens)
        refuse_masked(ids, "ids")
        rows = to_host(ids) if is_array(ids) else ids
        scalar = isinstance(rows, np.ndarray) and rows.ndim == 0
        if scalar or not isinstance(rows, (list, tuple, np.ndarray)):
            raise ArgumentError(f"ids: expected rows of integers, found {type(ids).__name__}")
        return [self.decode(row, skip_special_tokens) for row in rows]

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str: ...

    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int] | Array) -> list[str]: ...

    def convert_ids_to_tokens(self, ids: Any) -> str | list[str]:
        """The token of one id, or a list for a list; ArgumentError for an id outside 0 … V − 1."""
        ids = check_ids(ids, self.vocab_size)
        return self._tokens[ids] if isinstance(ids, int) else [self._tokens[i] for i in ids]

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int: ...

    @overload
    def convert_tokens_to_ids(self, tokens: list[str] | tuple[str, ...]) -> list[int]: ...

    def convert_tokens_to_ids(self, tokens: str | Sequence[str]) -> int | list[int]:
        """The id of one token, or a list for a list; an unknown token has the id of [UNK]."""
        if isinstance(tokens, str):
            return self._ids.get(tokens, self.unk_token_id)
        if not isinstance(tokens, (list, tuple)) or not all(isinstance(t, str) for t in tokens):
            raise ArgumentError("tokens: expected a string or a list of strings")
        return [self._ids.get(token, self.unk_token_id) for token in tokens]

    def _warn_of_truncation(self, rows: list) -> None:
        cut = sum(len(row.overflowing) > 0 for row in rows)
        if cut and not self._warned:
            self._warned = True
            warnings.warn(
                f"{cut} of {len(rows)} texts are longer than {MAX_LENGTH} tokens and are cut there "
                "(max_length=… chooses another length, truncation=False cuts nothing); this is said "
                "once",
                TextWarning,
                stacklevel=3,
            )

    def _encode(
        self, batch: list, max_length: int | None, *, around: bool = True, special: bool = True
    ) -> list:
        """Encode with special tokens ``around`` the texts, and with ``special`` ones inside them."""
        with _LOCK:  # threads share the library's object, and truncation is part of its state
            tokenizer = self._tokenizer if special else self._for_corpora()
            if max_length is None:
                tokenizer.no_truncation()
            else:
                tokenizer.enable_truncation(max_length, strategy="longest_first")
            return tokenizer.encode_batch(batch, add_special_tokens=around)

    def _lone_ids(self, texts: list) -> list[np.ndarray | None]:
        """The ids of the texts that consist of lone characters; None for every other text."""
        if any(not token.special for token in self._added):  # it may consist of such characters
            return [None] * len(texts)
        with _LOCK:
            if self._lone is None:
                words = words_of(normalizer(**self._settings))
                base = {token: self._ids[token] for token in self._base}
                self._lone = LoneCharacters(words, lambda c: base.get(c, self.unk_token_id))
            return list(self._lone.split(texts))

    def _for_corpora(self) -> Any:
        """The library's object that finds no special token in a text, made at the first use."""
        if self._corpus_tokenizer is None:
            added = [token for token in self._added if not token.special]
            text_normalizer = normalizer(**self._settings)
            self._corpus_tokenizer = wordpiece(self._tokens, added, text_normalizer)
        return self._corpus_tokenizer
