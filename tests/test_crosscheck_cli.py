"""``minizha trace``, ``compare`` and ``vectors verify``: exit statuses, files, and words for bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha import NezhaConfig, NezhaForMaskedLM, crosscheck
from minizha.cli import main

VECTORS = Path(__file__).parents[1] / "vectors" / "v1"
SCORES = "encoder.layer.1.attention.scores"
INPUTS = {
    "input_ids": [[5, 6, 7, 8, 9], [4, 4, 3, 0, 0]],
    "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
    "labels": [[-100, 6, -100, -100, 2], [1, -100, -100, -100, -100]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its inputs, its trace, the same in float32, and a wrong one."""
    root = tmp_path_factory.mktemp("crosscheck")
    config = NezhaConfig(
        vocab_size=13, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_relative_position=2, initializer_range=0.3,
    )  # fmt: skip
    model = NezhaForMaskedLM(config, dtype="float64")
    model.save_pretrained(root / "model")
    (root / "inputs.json").write_text(json.dumps(INPUTS))
    crosscheck.trace(model, INPUTS).save(root / "ours.safetensors")
    single = crosscheck.trace(model.astype("float32"), INPUTS)
    save_file(dict(single), root / "single.safetensors")
    wrong = dict(single)
    wrong[SCORES] = wrong[SCORES] * np.float32(np.sqrt(8))
    save_file(wrong, root / "wrong.safetensors")
    (root / "not.safetensors").write_text("no safetensors")
    save_file({"something": np.ones(3)}, root / "strange.safetensors")
    return root


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_trace_holds_what_the_call_computes(folder, tmp_path, capsys):
    status, out, _ = run(
        capsys, "trace", folder / "model", "--inputs", folder / "inputs.json",
        "--out", tmp_path / "t.safetensors", "--gradients",
    )  # fmt: skip
    assert status == 0
    assert "NezhaForMaskedLM in float64" in out
    ours, found = (
        crosscheck.open_trace(p) for p in (folder / "ours.safetensors", tmp_path / "t.safetensors")
    )
    assert list(ours) == list(found)
    assert all((ours[name] == found[name]).all() for name in ours)


def test_options_of_trace(folder, tmp_path, capsys):
    status, out, _ = run(
        capsys, "trace", folder / "model", "--inputs", folder / "inputs.json", "--dtype", "float32",
        "--out", tmp_path / "t.safetensors", "--class", "NezhaForMaskedLM", "--no-parameters",
    )  # fmt: skip
    assert status == 0, out
    found = crosscheck.open_trace(tmp_path / "t.safetensors")
    assert found.dtype == "float32"
    assert len(found.parameters) == 0
    assert not any(name.endswith(".grad") for name in found)


def test_a_right_port_in_float32_is_equal(folder, capsys):
    status, out, err = run(
        capsys, "compare", folder / "ours.safetensors", folder / "single.safetensors"
    )
    assert (status, err) == (0, "")
    assert out.startswith("equal: ")


def test_a_wrong_port_is_found_and_explained(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    status, out, _ = run(
        capsys, "compare", folder / "ours.safetensors", folder / "wrong.safetensors", "--html", page
    )
    assert status == 1
    assert out.startswith(f"different: the first array to differ is {SCORES}")
    assert "layer 1 scores match: 1/√d missing" in out
    assert "\x1b" not in out  # no colours where nobody looks
    html = page.read_text("utf-8")
    assert "<svg" in html
    assert "1/√d missing" in html


def test_the_json_of_a_comparison(folder, capsys):
    status, out, _ = run(
        capsys, "compare", folder / "ours.safetensors", folder / "wrong.safetensors", "--json"
    )
    report = json.loads(out)
    assert status == 1
    assert report["first_divergence"] == SCORES
    assert report["findings"][0]["mistake"] == "no_scale"


def test_tolerances_of_a_comparison(folder, capsys):
    both = folder / "ours.safetensors", folder / "single.safetensors"
    assert run(capsys, "compare", *both, "--rtol", "1e-12")[0] == 1
    assert run(capsys, "compare", *both, "--atol", "1e-3")[0] == 0


def test_a_mapping_of_names(folder, tmp_path, capsys):
    single = load_file(folder / "single.safetensors")
    save_file(
        {"their scores": single[SCORES], "loss": single["loss"]}, tmp_path / "their.safetensors"
    )
    (tmp_path / "names.json").write_text(json.dumps({SCORES: "their scores"}))
    status, out, _ = run(
        capsys, "compare", folder / "ours.safetensors", tmp_path / "their.safetensors",
        "--mapping", tmp_path / "names.json", "--every",
    )  # fmt: skip
    assert status == 0, out
    assert SCORES in out


TRACE = ("trace", "{f}/model", "--inputs", "{f}/inputs.json", "--out", "{t}/out.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "{f}/missing.safetensors", "{f}/single.safetensors"), "missing.safetensors"),
        (("compare", "{f}/ours.safetensors", "{f}/not.safetensors"), "not.safetensors"),
        (("compare", "{f}/ours.safetensors", "{f}/strange.safetensors"), "names on both sides"),
        (("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--rtol", "-1"), "rtol"),
        (("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--rtol", "nan"), "rtol"),
        (
            ("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--mapping", "{f}/inputs.json"),
            "input_ids",
        ),
        (
            ("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--html", "{f}/no/page.html"),
            "no/page.html",
        ),
        (("trace", "{f}/nowhere", *TRACE[2:]), "nowhere"),
        ((*TRACE[:3], "{f}/nothing.json", *TRACE[4:]), "nothing.json"),
        ((*TRACE[:3], "{f}/not.safetensors", *TRACE[4:]), "not.safetensors"),
        ((*TRACE[:3], "{f}/strange.safetensors", *TRACE[4:]), "something"),
        ((*TRACE[:5], "{f}/no/out.safetensors"), "no/out.safetensors"),
        ((*TRACE, "--class", "NezhaForEverything"), "NezhaForEverything"),
        ((*TRACE, "--class", "NezhaForTokenClassification"), "labels"),
        ((*TRACE, "--backend", "jax"), "jax"),
        (("vectors", "verify", "{f}/nowhere"), "nowhere"),
        (("vectors", "verify", "{f}", "--vectors", "{f}/nowhere"), "nowhere"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::minizha.errors.CheckpointWarning")
def test_what_a_person_can_do_wrong_is_one_line_and_status_2(
    arguments, words, folder, tmp_path, capsys
):
    given = [a.format(f=folder, t=tmp_path) for a in arguments]
    status, out, err = run(capsys, *given)
    assert status == 2
    assert out == ""
    last = [line for line in err.splitlines() if not line.startswith("minizha: note")]
    assert len(last) == 1
    assert last[0].startswith("minizha: error: ")
    assert words in last[0]
    assert not (tmp_path / "out.safetensors").exists()


def test_results_for_the_vectors(tmp_path, capsys):
    name = "model-plain"
    name = name if (VECTORS / "cases" / f"{name}.json").exists() else sorted(
        p.stem for p in (VECTORS / "cases").glob("*.json"))[0]  # fmt: skip
    arrays = load_file(VECTORS / "cases" / f"{name}.safetensors")
    results = {
        k.removeprefix("expected/"): v for k, v in arrays.items() if k.startswith("expected/")
    }
    save_file(results, tmp_path / f"{name}.safetensors")
    verify = ("vectors", "verify", tmp_path, "--vectors", VECTORS)
    status, out, _ = run(capsys, *verify)
    assert status == 0, out
    results["embeddings"] = results["embeddings"] + 1e-3
    save_file(results, tmp_path / f"{name}.safetensors")
    status, out, _ = run(capsys, *verify)
    assert status == 1
    assert "embeddings" in out
