"""What a run of ``minizha pretrain`` prints, and how it ends with an error."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NoReturn

from minizha.errors import MinizhaError, visible
from minizha.model.pretraining import NezhaForPreTraining
from minizha.training.evaluation import Example, Metrics, describe_metrics
from minizha.training.pretrain import Data
from minizha.training.state import DivergenceError


def print_start(name: str, data: Data, model: NezhaForPreTraining, workers: int) -> None:
    """The corpus, the model, and what computes."""
    print(
        f"{name}: {data.documents:,} documents, {data.characters:,} characters; "
        f"{data.held_out_count:,} documents held out\n"
        f"vocabulary {len(data.tokenizer):,} tokens, model {model.num_parameters():,} parameters, "
        f"{model.backend}, {workers} process{'es' if workers > 1 else ''}"
    )
    if data.left_out:
        print(visible(data.left_out, keep="\n"))


def print_results(held_out: Metrics, seconds: float, skipped: int) -> None:
    """The held-out metrics, and the steps that were skipped, if any."""
    print(
        f"\ntrained in {seconds / 60:.1f} minutes; on the held-out documents:\n"
        f"{describe_metrics(held_out)}"
    )
    if skipped:
        print(f"{skipped} steps were skipped, because a loss or a gradient was not finite")


def print_end(saved: Path, examples: list[Example], better: Path | None) -> None:
    """Guesses, where the model is, and how to ask it; ``better`` had a smaller held-out loss."""
    if examples:
        print("\nheld-out sentences:", *map(_describe, examples), sep="\n")
    if better is not None:
        print(f"\nthe smallest loss on the held-out sample was that of {visible(str(better))}")
    print(f"\nmodel, vocabulary and loss curve are in {visible(str(saved))}")
    print(f"guess a masked character with\n{visible(_fill_mask_command(saved))}")


def raise_with_place(failure: BaseException, saved: Path, step: int) -> NoReturn:
    """Raise ``failure`` with the folder in which the model is."""
    if isinstance(failure, DivergenceError):
        raise MinizhaError(
            f"{failure}; the model as it was after step {step} is in {saved}. In a new run, a smaller "
            "--learning-rate, a longer --warmup or a smaller --max-norm may help"
        ) from failure
    place = f"the model so far is in {saved}; --resume goes on after step {step}"
    if isinstance(failure, MemoryError):
        raise MinizhaError(f"not enough memory for these sizes: {failure}; {place}") from failure
    if isinstance(failure, MinizhaError):
        raise MinizhaError(f"{failure}; {place}") from failure
    failure.add_note(place)
    raise failure


def _describe(example: Example) -> str:
    guesses = "  ".join(f"{visible(g.token)} {g.probability:.2f}" for g in example.guesses)
    return f"  {visible(example.text)}\n    {visible(example.answer)}  ←  {guesses}"


def _fill_mask_command(folder: Path) -> str:
    """A command that a person can copy into a shell, whatever the name of the folder."""
    name = str(folder)
    if name[0] in "-=":  # an option to argparse; zsh replaces =NAME by the path of a program
        name = f"./{name}"
    return f"minizha fill-mask '曹操引[MASK]来攻' --model {shlex.quote(name)}"
