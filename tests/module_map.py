"""Which test files test which module of minizha: ``python -m tests.module_map`` prints the list.

A module minizha/a/b.py is tested in tests/a/test_b.py. ``ROWS`` has a row for every module without
such a file, and one for every test file that is named after no module. tests/test_module_map.py
checks it all.
"""

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TESTS, PACKAGE = ROOT / "tests", ROOT / "minizha"


class Row(NamedTuple):
    """Test files, named from tests/ and without ``.py``, separated by spaces.

    ``through`` is the module that the tests call where they name nothing of the row's own module;
    it imports that module, directly or through others.
    """

    files: str
    through: str = ""


DIAGNOSIS = "crosscheck/diagnosis/test_diagnose crosscheck/test_seeded_mistakes"
PAIRS = "crosscheck/test_pair_kinds"
RECOMPUTATION = "crosscheck/diagnosis/test_recomputation"

# a name that ends with / stands for every module of the folder
ROWS = {
    # the mathematics
    "ops/": Row("ops/test_every_operation ops/test_gradients ops/test_shape_lines"),
    "ops/squared_error": Row("ops/test_losses"),
    "ops/binary_cross_entropy": Row("ops/test_losses"),
    "kernels/": Row("kernels/test_every_kernel"),
    # the network
    "nezha/": Row("nezha/test_inline_shapes nezha/test_inline_shapes_controls"),
    "nezha/attention": Row(
        "properties/test_heads properties/test_relative properties/test_masking "
        "properties/test_decoder nezha/test_decoder_mistakes",
        through="model/nezha model/pretraining",
    ),
    "nezha/body": Row("nezha/test_gradients nezha/test_upstream_gradients", "model/pretraining"),
    "nezha/embeddings": Row("properties/test_relative properties/test_inputs", "model/nezha"),
    "nezha/encoder": Row("properties/test_outputs properties/test_decoder", "model/nezha"),
    "nezha/feed_forward": Row("model/test_chunking", through="model/nezha"),
    "nezha/heads": Row(
        "nezha/test_head_gradients nezha/test_head_mistakes", through="model/fine_tuning"
    ),
    "nezha/losses": Row("properties/test_losses", through="model/pretraining"),
    "nezha/parameters": Row("properties/test_parameters"),
    # the classes
    "model/": Row(
        "model/test_every_class model/test_float32_step model/test_misuse "
        "model/test_careless_arguments model/test_transformers_live vectors/test_transformers_vectors"
    ),
    "model/adapting": Row("model/test_pruning model/test_token_embeddings"),
    "model/arguments": Row(
        "model/test_bad_arguments model/test_bad_labels", "model/pretraining model/fine_tuning"
    ),
    "model/auto": Row("model/test_every_class nezha/test_functions"),
    "model/base": Row("properties/test_training model/test_bad_gradients_and_parameters"),
    "model/call": Row(
        "nezha/test_upstream_gradients model/test_more_gradients", through="model/nezha"
    ),
    "model/fine_tuning": Row(
        "nezha/test_losses model/test_bad_labels model/test_num_items_in_batch"
    ),
    "model/generation": Row("model/test_sampling model/test_bad_generation", "model/pretraining"),
    "model/inputs": Row("properties/test_inputs model/test_bad_decoder_arguments", "model/nezha"),
    "model/nezha": Row("properties/test_outputs properties/test_relative"),
    "model/outputs": Row("properties/test_outputs model/test_every_class"),
    "model/pretrained": Row(
        "model/test_from_pretrained checkpoint/test_save_and_load", through="model/nezha"
    ),
    "model/pretraining": Row(
        "properties/test_losses properties/test_training model/test_logits_for"
    ),
    "model/input_gradients": Row("model/test_more_gradients", through="model/nezha"),
    "transformers_options": Row("model/test_transformers_options"),
    "files": Row("transaction/test_read_together"),
    "predict": Row(
        "model/test_misuse training/test_pretrain transaction/test_read_together",
    ),
    "info": Row("checkpoint/test_bad_folders test_convert"),
    # files and checks
    "checkpoint/": Row("checkpoint/test_mutated_files checkpoint/test_published_files"),
    "checkpoint/names": Row(
        "checkpoint/test_released_checkpoint checkpoint/test_transformers_live", "model/nezha"
    ),
    "checkpoint/foreign_names": Row("checkpoint/test_names", through="checkpoint/names"),
    "checkpoint/pickle_machine": Row("checkpoint/test_torch_file", "checkpoint/torch_file"),
    "checkpoint/repository": Row("checkpoint/test_hub"),
    "checkpoint/safetensors_file": Row("checkpoint/test_folder transaction/test_whole_or_nothing"),
    "checkpoint/torch_zip": Row("checkpoint/test_torch_file", "checkpoint/torch_file"),
    "config_checks": Row("test_config", through="config"),
    "config_files": Row("checkpoint/test_published_layouts", through="config"),
    "errors": Row("model/test_bad_arguments checkpoint/test_bad_folders"),
    "transaction": Row(
        "transaction/test_whole_or_nothing transaction/test_committed_saves "
        "transaction/test_killed_saves",
        through="model/pretraining",
    ),
    "cli": Row("test_cli_process test_visible_texts"),
    # texts and training
    "text/": Row("text/test_bad_files"),
    "text/arguments": Row(
        "text/test_tokenizer text/test_pairs", through="text/pairs text/tokenizer"
    ),
    "text/batch": Row("text/test_tokenizer"),
    "text/corpus": Row("text/test_bad_corpora", through="training/pretrain"),
    "text/data_folder": Row("training/test_corpora", through="training/corpora"),
    "text/data_writer": Row("text/test_preparing"),
    "text/packed": Row("text/test_pairs"),
    "text/preparing": Row("training/test_corpora", through="training/corpora"),
    "text/tokenized": Row("text/test_preparing", through="text/preparing"),
    "text/tokenizer_files": Row("text/test_tokenizer", through="text/tokenizer"),
    "text/wordpiece": Row("text/test_tokenizer", through="text/tokenizer"),
    "training/commands": Row("training/test_corpora training/test_evaluating", through="cli"),
    "training/evaluation": Row("training/test_pretrain"),
    "training/checkpoints": Row("training/test_resuming"),
    "training/keeping": Row("training/test_pretrain", through="training/run"),
    "training/messages": Row("training/test_pretrain", through="training/run"),
    "training/options": Row("training/test_pretrain text/test_bad_corpora"),
    "training/pretrain": Row("training/test_main_job", through="cli"),
    "training/report": Row("training/test_pretrain", through="training/run"),
    "training/run": Row("training/test_pretrain training/test_resuming"),
    "training/schedule": Row("training/test_optimizer"),
    "training/session": Row("training/test_pretrain training/test_resuming"),
    "training/workers": Row("training/test_step"),
    # comparing implementations
    "crosscheck/adapters/paddle": Row("crosscheck/adapters/test_adapters"),
    "crosscheck/adapters/torch_recorder": Row("crosscheck/adapters/test_transformers"),
    "crosscheck/adapters/transformers": Row("crosscheck/test_correct_ports"),
    "crosscheck/comparing": Row(
        "crosscheck/test_comparing_large crosscheck/test_never_called_equal", through="cli"
    ),
    "crosscheck/comparison/counts": Row("crosscheck/comparison/test_location"),
    "crosscheck/comparison/differences": Row("crosscheck/report/test_text"),
    "crosscheck/comparison/judging": Row("crosscheck/test_comparing", "crosscheck/comparing"),
    "crosscheck/comparison/layouts": Row("crosscheck/comparison/test_matching"),
    "crosscheck/comparison/visible": Row(
        "crosscheck/test_comparing crosscheck/diagnosis/test_diagnose"
    ),
    "crosscheck/diagnosis/attention": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/gradients": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/heads": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/layers": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/positions": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/backward": Row(RECOMPUTATION),
    "crosscheck/diagnosis/backward_rules": Row(RECOMPUTATION),
    "crosscheck/diagnosis/case": Row(DIAGNOSIS, through="crosscheck/diagnosis"),
    "crosscheck/diagnosis/facts": Row(RECOMPUTATION),
    "crosscheck/diagnosis/facts_in": Row(
        "crosscheck/comparison/test_rounding crosscheck/test_never_called_equal",
        through="crosscheck/comparison/rounding",
    ),
    "crosscheck/diagnosis/forward": Row(RECOMPUTATION),
    "crosscheck/diagnosis/rules": Row(RECOMPUTATION, through="crosscheck/diagnosis/forward"),
    "crosscheck/gradient_checks": Row("crosscheck/test_gradient_checks_mistakes"),
    "crosscheck/pair_arguments": Row(PAIRS, through="crosscheck/pair_checks"),
    "crosscheck/pair_checks": Row(PAIRS),
    "crosscheck/pair_entries": Row(PAIRS, through="crosscheck/pair_checks"),
    "crosscheck/pair_report": Row(PAIRS),
    "crosscheck/replacements": Row(PAIRS, through="crosscheck/pair_checks"),
    "crosscheck/report/chart": Row("crosscheck/report/test_html", "crosscheck/report/report"),
    "crosscheck/report/heat": Row("crosscheck/report/test_html", "crosscheck/report/report"),
    "crosscheck/report/page": Row("crosscheck/report/test_text", "crosscheck/report/report"),
    "crosscheck/report/plain": Row("crosscheck/report/test_text", "crosscheck/report/report"),
    "crosscheck/report/report": Row("crosscheck/report/test_text crosscheck/report/test_html"),
    "crosscheck/report/style": Row("crosscheck/report/test_html"),
    "crosscheck/report/words": Row("crosscheck/report/test_text", "crosscheck/report/report"),
    "crosscheck/vectors": Row("vectors/test_v1 vectors/test_verify vectors/test_files"),
    "crosscheck/vectors_report": Row("vectors/test_verify", through="crosscheck/vectors"),
    # the exercises of the book
    "exercises/checks": Row("exercises/test_judging", through="exercises/judging"),
    "exercises/code": Row("exercises/test_judging", through="exercises/judging"),
    "exercises/findings": Row("exercises/test_judging", through="exercises/judging"),
}
# what holds of the repository and of no single module
REPOSITORY = (
    "test_careless_calls",
    "docs/test_api_pages",
    "docs/test_book_engine",
    "docs/test_browser",
    "docs/test_crosscheck_docs",
    "docs/test_derivations",
    "docs/test_docs",
    "docs/test_examples",
    "docs/test_glossary",
    "docs/test_proofs",
    "docs/test_readme",
    "docs/test_site",
    "docs/test_readme_chinese",
    "docs/test_tutorials",
    "docs/test_widgets",
    "properties/test_controls",  # of the files beside it: the properties must fail on mistakes
    "test_architecture",
    "test_distribution",
    "test_module_map",
    "test_repository",
    "test_standin",
    "test_typing",
    "vectors/test_reader",
)


def modules() -> list[str]:
    """Every module of minizha but ``__init__`` and ``__main__``, as ``ops/linear``."""
    paths = [path for path in PACKAGE.rglob("*.py") if path.stem not in ("__init__", "__main__")]
    return sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in paths)


def all_test_files() -> list[str]:
    """Every test file, as ``ops/test_linear``."""
    paths = TESTS.rglob("test_*.py")
    return sorted(path.relative_to(TESTS).with_suffix("").as_posix() for path in paths)


def mirror(module: str) -> str:
    """The test file named after a module: ``ops/test_linear`` of ``ops/linear``."""
    folder, _, name = module.rpartition("/")
    return f"{folder}/test_{name}".lstrip("/")


def files_of(module: str) -> list[str]:
    """The test files of a module: the one named after it, its own row's, its folder's."""
    mirrored = [mirror(module)] if (TESTS / f"{mirror(module)}.py").is_file() else []
    keys = (module, f"{module.rpartition('/')[0]}/")
    return mirrored + [file for key in keys if key in ROWS for file in ROWS[key].files.split()]


if __name__ == "__main__":
    for module in modules():
        print(
            f"minizha/{module}.py", *(f"  tests/{file}.py" for file in files_of(module)), sep="\n"
        )
    print("the repository", *(f"  tests/{file}.py" for file in REPOSITORY), sep="\n")
