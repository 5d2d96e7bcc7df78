"""The corpus of a run: the embedded novel, a text, or a folder that ``minizha prepare`` wrote."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from minizha.errors import ArgumentError, FileError, visible
from minizha.files import folder_path
from minizha.text.corpus import Document, check_layout, embedded_corpus, read_corpus
from minizha.text.data_folder import read_data
from minizha.text.preparing import Prepared, Reading, prepare_texts
from minizha.text.tokenized import TokenizedCorpus, tokenize_corpus
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import read_vocabulary
from minizha.training.options import CORPUS_OPTIONS, PretrainOptions

NOVEL = "三国演义"
_TITLES = {"auto": None, "yes": True, "no": False}


def open_corpus(corpus: str | os.PathLike[str] | None, options: PretrainOptions) -> TokenizedCorpus:
    """The tokenized corpus: None is the embedded novel, a folder one that was prepared.

    Raises:
        FileError: the corpus or the vocabulary can't be read, or the corpus is too small.
        ArgumentError: a folder was prepared with other options.
    """
    if corpus is not None and os.path.isdir(path := folder_path(corpus, "corpus")):
        data, prepared = read_data(path)
        _check_same_options(path, data, prepared, options)
        return data
    documents = read_documents(corpus, options)
    tokenizer = NezhaTokenizer(options.vocab) if options.vocab else None
    try:
        return tokenize_corpus(documents, options.held_out, options.min_count, tokenizer)
    except ArgumentError as error:  # raised where the file's name is not known
        raise FileError(f"{corpus_name(corpus)}: {error}") from error


def corpus_name(corpus: str | os.PathLike[str] | None) -> str:
    """What messages call a corpus."""
    return NOVEL if corpus is None else os.fspath(corpus)


def read_documents(
    corpus: str | os.PathLike[str] | None, options: PretrainOptions, min_documents: int = 3
) -> list[Document]:
    """The documents of the novel or of a text, read as ``options`` say."""
    if corpus is None:
        return embedded_corpus()
    return read_corpus(
        corpus,
        min_documents,
        titles=_TITLES[options.titles],
        document_per_line=options.document_per_line,
        json_field=options.json_field,
    )


def prepare_folder(
    corpora: Sequence[str],
    out: str,
    options: PretrainOptions,
    processes: int,
    *,
    overwrite: bool = False,
) -> Prepared:
    """Prepare the texts ``corpora`` in the folder ``out``, as ``options`` say.

    Raises:
        FileError: a text, the vocabulary or the folder can't be used.
        ArgumentError: the options of the corpus do not go together.
    """
    titles = _TITLES[options.titles]
    layout = check_layout(titles, options.document_per_line, options.json_field)
    tokens = read_vocabulary(options.vocab) if options.vocab else None
    reading = Reading(layout, titles, options.held_out, options.min_count, tokens)
    recorded = {name: getattr(options, name) for name in CORPUS_OPTIONS if name != "vocab"}
    folder = folder_path(out, "--out")
    return prepare_texts(corpora, folder, reading, recorded, processes, overwrite=overwrite)


def describe_prepared(out: str, prepared: Prepared) -> str:
    """What a preparation made, in a few lines."""
    record, speed = prepared.record, prepared.tokens / max(prepared.seconds, 1e-9)
    lines = [
        f"{record.counts.documents:,} documents, {record.counts.characters:,} characters; "
        f"{record.held_out:,} documents held out",
        f"vocabulary {prepared.vocab_size:,} tokens; {prepared.tokens:,} tokens in "
        f"{prepared.sentences:,} sentences",
        record.left_out,
        f"{prepared.seconds:.1f} s, {speed:,.0f} tokens a second; the data is in {out}",
    ]
    return visible("\n".join(filter(None, lines)), keep="\n")


def _check_same_options(
    path: Path, data: TokenizedCorpus, prepared: dict[str, Any], options: PretrainOptions
) -> None:
    """Refuse an option that is neither the default nor what the folder was prepared with."""
    defaults = {f.name: f.default for f in fields(PretrainOptions)}
    for name in CORPUS_OPTIONS:
        given, recorded = getattr(options, name), prepared.get(name)
        if name == "vocab":
            if given and read_vocabulary(given) != data.tokenizer.convert_ids_to_tokens(
                range(len(data.tokenizer))
            ):
                raise ArgumentError(
                    f"vocab: {path} was prepared with another vocabulary than {given}"
                )
        elif given not in (defaults[name], recorded):
            raise ArgumentError(
                f"{name}: expected {reprlib.repr(recorded)}, with which {path} was prepared, found "
                f"{given!r}"
            )
