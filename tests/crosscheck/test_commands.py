"""``minizha trace``, ``compare`` and ``vectors verify``: exit statuses, files, errors for bad input."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha import NezhaConfig, NezhaForMaskedLM, NezhaForPreTraining, crosscheck, files
from minizha.cli import main
from minizha.transaction import COMMITTED
from tests.support.paths import V1

SCORES = "encoder.layer.1.attention.scores"
INPUTS = {
    "input_ids": [[5, 6, 7, 8, 9], [4, 4, 3, 0, 0]],
    "attention_mask": [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]],
    "labels": [[-100, 6, -100, -100, 2], [1, -100, -100, -100, -100]],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, its inputs, its trace, the trace in float32, and a wrong trace."""
    root = tmp_path_factory.mktemp("crosscheck")
    config = NezhaConfig(
        vocab_size=13,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_relative_position=2,
        initializer_range=0.3,
    )
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
    (root / "ragged.json").write_text('{"input_ids": [[5, 6], [7]]}')
    save_file({"something": np.ones(3)}, root / "strange.safetensors")
    return root


def run(capsys, *arguments):
    """Status, stdout and stderr of a command, given as one line or as its arguments."""
    if len(arguments) == 1:
        arguments = arguments[0].split()
    status = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_trace_holds_what_the_call_computes(folder, tmp_path, capsys):
    status, out, _ = run(
        capsys,
        f"trace {folder}/model --inputs {folder}/inputs.json --out {tmp_path}/t.safetensors "
        "--gradients",
    )
    assert status == 0
    assert "NezhaForMaskedLM in float64" in out
    ours, found = (
        crosscheck.open_trace(p) for p in (folder / "ours.safetensors", tmp_path / "t.safetensors")
    )
    assert list(ours) == list(found)
    assert all((ours[name] == found[name]).all() for name in ours)


def test_options_of_trace(folder, tmp_path, capsys):
    status, out, _ = run(
        capsys,
        f"trace {folder}/model --inputs {folder}/inputs.json --out {tmp_path}/t.safetensors "
        "--dtype float32 --class NezhaForMaskedLM --no-parameters",
    )
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
    assert "\x1b" not in out  # no colours in a file
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


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "gbk"])
def test_the_json_is_ascii_in_every_locale(folder, tmp_path, encoding):
    trace = load_file(folder / "ours.safetensors")
    save_file(trace | {"曹😎": np.ones(3)}, tmp_path / "theirs.safetensors")
    command = ["-m", "minizha", "compare", folder / "ours.safetensors"]
    done = subprocess.run(
        [sys.executable, *command, tmp_path / "theirs.safetensors", "--json"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert done.stdout.isascii()
    report = json.loads(done.stdout)
    assert "曹😎" in str(report)


@pytest.mark.parametrize(("columns", "widest"), [("60", 60), ("9", 48), ("300", 100), ("", 100)])
def test_a_report_is_as_wide_as_the_terminal(columns, widest, folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.__stdout__", None)  # else the width of the real terminal
    _, out, _ = run(
        capsys, "compare", folder / "ours.safetensors", folder / "wrong.safetensors", "--every"
    )
    assert max(map(len, out.splitlines())) <= widest
    assert max(map(len, out.splitlines())) > widest - 12


@pytest.mark.parametrize("command", ["trace", "compare"])
def test_ctrl_c_leaves_no_half_file(command, folder, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    arguments = {
        "trace": f"trace {folder}/model --inputs {folder}/inputs.json --out {out}",
        "compare": f"compare {folder}/ours.safetensors {folder}/single.safetensors --html {out}",
    }[command]
    write = files.write_synced

    def interrupted(path, data):
        write(path, data[: len(data) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_synced", interrupted)
    for before in (None, b"an older one"):
        if before is not None:
            out.write_bytes(before)
        status, printed, err = run(capsys, arguments)
        assert (status, printed) == (130, "")
        assert err.endswith("minizha: interrupted\n")
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == (
            [] if before is None else [("out", before)]
        )
    monkeypatch.undo()
    assert run(capsys, arguments)[0] == 0  # the control
    assert len(out.read_bytes()) > 1000


def test_help_needs_no_numpy():
    code = "import sys; from minizha.cli import _parser; _parser(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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
        capsys,
        f"compare {folder}/ours.safetensors {tmp_path}/their.safetensors "
        f"--mapping {tmp_path}/names.json --every",
    )
    assert status == 0, out
    assert SCORES in out


TRACE = ("trace", "{f}/model", "--inputs", "{f}/inputs.json", "--out", "{t}/out.safetensors")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "{f}/missing.safetensors", "{f}/single.safetensors"), "missing.safetensors"),
        (("compare", "{f}/ours.safetensors", "{f}/not.safetensors"), "not.safetensors"),
        (("compare", "{f}/ours.safetensors", "{f}/inputs.json"), "this is a JSON file"),
        (("compare", "{f}/ours.safetensors", "{f}/strange.safetensors"), "names on both sides"),
        (("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--rtol", "-1"), "rtol"),
        (("compare", "{f}/ours.safetensors", "{f}/single.safetensors", "--rtol", "nan"), "rtol"),
        (
            (
                "compare",
                "{f}/ours.safetensors",
                "{f}/single.safetensors",
                "--mapping",
                "{f}/inputs.json",
            ),
            "input_ids",
        ),
        (
            (
                "compare",
                "{f}/ours.safetensors",
                "{f}/single.safetensors",
                "--html",
                "{f}/no/page.html",
            ),
            "no/page.html",
        ),
        (("trace", "{f}/nowhere", *TRACE[2:]), "nowhere"),
        ((*TRACE[:3], "{f}/nothing.json", *TRACE[4:]), "nothing.json"),
        ((*TRACE[:3], "{f}/ragged.json", *TRACE[4:]), "found 2 and 1 (pad them"),
        ((*TRACE[:3], "{f}/not.safetensors", *TRACE[4:]), "not.safetensors"),
        ((*TRACE[:3], "{f}/strange.safetensors", *TRACE[4:]), "something"),
        ((*TRACE[:5], "{f}/no/out.safetensors"), "no/out.safetensors"),
        ((*TRACE, "--class", "NezhaForEverything"), "NezhaForEverything"),
        ((*TRACE, "--class", "NezhaForTokenClassification"), "labels"),
        ((*TRACE, "--backend", "jax"), "jax"),
        (("vectors", "verify", "{f}/nowhere"), "nowhere"),
        (("vectors", "verify", "{f}", "--vectors", "{f}/nowhere"), "nowhere"),
    ],
)
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
    name = (
        name
        if (V1 / "cases" / f"{name}.json").exists()
        else sorted(p.stem for p in (V1 / "cases").glob("*.json"))[0]
    )
    arrays = load_file(V1 / "cases" / f"{name}.safetensors")
    results = {
        k.removeprefix("expected/"): v for k, v in arrays.items() if k.startswith("expected/")
    }
    save_file(results, tmp_path / f"{name}.safetensors")
    whole = ("vectors", "verify", tmp_path, "--vectors", V1)
    verify = (*whole, "--partial")
    status, out, _ = run(capsys, *verify)
    assert status == 0, out
    assert "exit status" not in out
    status, out, _ = run(capsys, *whole)  # the other cases were not compared at all
    assert status == 1
    assert out.endswith("not all cases have results: exit status 1; with --partial it is 0\n")
    for more, ok in (((), False), (("--partial",), True)):
        status, out, _ = run(capsys, *whole, *more, "--json")
        assert (status == 0, json.loads(out)["ok"]) == (ok, ok)
    results["embeddings"] = results["embeddings"] + 1e-3
    save_file(results, tmp_path / f"{name}.safetensors")
    status, out, _ = run(capsys, *verify)
    assert status == 1
    assert "embeddings" in out
    results["embeddings"][0, 0] = np.nan
    save_file(results, tmp_path / f"{name}.safetensors")
    status, out, _ = run(capsys, *verify, "--json")
    assert status == 1
    report = json.loads(out, parse_constant=pytest.fail)  # NaN is no JSON
    assert (report["ok"], report["counts"]["different"]) == (False, 1)
    case = next(c for c in report["cases"] if c["name"] == name)
    assert (case["divergence"]["name"], case["divergence"]["found"]) == ("embeddings", "NaN")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (("compare", "a", "b", "--html", "a"), "--html"),
        (("compare", "a", "b", "--html", "./b"), "--html"),
        (("compare", "a", "b", "--mapping", "m", "--html", "m"), "--html"),
        (("trace", "model", "--inputs", "i.json", "--out", "i.json"), "--out"),
        (("trace", "model", "--inputs", "i.json", "--out", "model/model.safetensors"), "--out"),
        (("trace", "model", "--inputs", "i.json", "--out", "model/pytorch_model.bin"), "--out"),
        (("trace", "waiting", "--inputs", "i.json", "--out", "waiting/config.json"), "--out"),
        (("trace", "model", "--inputs", "i.json", "--out", "other/model.safetensors"), "--out"),
        (("compare", "a", "b", "--html", "other/config.json"), "--html"),
        (("compare", "a", "b", "--html", "waiting/model.safetensors"), "--html"),
    ],
)
def test_what_is_read_is_not_overwritten(arguments, option, folder, tmp_path, monkeypatch, capsys):
    for copy in ("model", "other", f"waiting/{COMMITTED}"):
        shutil.copytree(folder / "model", tmp_path / copy)
    for source, name in (
        ("ours.safetensors", "a"),
        ("single.safetensors", "b"),
        ("inputs.json", "i.json"),
    ):
        shutil.copy(folder / source, tmp_path / name)
    (tmp_path / "m").write_text(json.dumps({SCORES: SCORES}))
    monkeypatch.chdir(tmp_path)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    before = {p: p.read_bytes() for p in files}
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert f"{option}: " in err
    assert "expected another file, found" in err
    assert err.count("\n") == 1
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("command", ["trace", "compare"])
def test_targets_are_checked_before_the_work(command, link, folder, tmp_path, capsys, monkeypatch):
    for name in ("tracing.trace", "comparing.compare"):
        monkeypatch.setattr(f"minizha.crosscheck.{name}", pytest.fail)
    out = tmp_path / "no" / "out"
    if link:
        out = tmp_path / "link"
        out.symlink_to(os.devnull)
    arguments = {
        "trace": f"trace {folder}/model --inputs {folder}/inputs.json --out {out}",
        "compare": f"compare {folder}/ours.safetensors {folder}/single.safetensors --html {out}",
    }[command]
    status, printed, err = run(capsys, arguments)
    assert (status, printed) == (2, "")
    assert err.startswith(f"minizha: error: {out}: can't be written: ")
    assert os.listdir(tmp_path) == (["link"] if link else [])


@pytest.mark.parametrize("option", ["", " --json"])
def test_a_disk_that_is_full_at_the_end_hides_no_verdict(
    option, folder, tmp_path, capsys, monkeypatch
):
    def full(*_):
        raise OSError(28, "No space left on device")

    compare = f"compare {folder}/ours.safetensors {folder}/single.safetensors{option}"
    verdict = run(capsys, compare)[1]
    monkeypatch.setattr(files, "write_synced", full)
    status, printed, err = run(capsys, f"{compare} --html {tmp_path}/x.html")
    assert (status, printed) == (2, verdict)
    assert err == f"minizha: error: {tmp_path}/x.html: can't be written: No space left on device\n"
    assert os.listdir(tmp_path) == []


def test_without_a_diagnosis(folder, capsys):
    both = folder / "ours.safetensors", folder / "wrong.safetensors"
    status, out, _ = run(capsys, "compare", *both, "--no-diagnosis")
    assert status == 1
    assert "1/√d" not in out
    assert "1/√d" in run(capsys, "compare", *both)[1]


def test_bars_where_the_terminal_has_no_blocks(folder, capsys, monkeypatch):
    both = folder / "ours.safetensors", folder / "wrong.safetensors"
    assert "█" in run(capsys, "compare", *both)[1]
    monkeypatch.setattr("minizha.crosscheck.commands._can_write", lambda text: False)
    out = run(capsys, "compare", *both)[1]
    assert "###" in out
    assert "█" not in out


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_a_closed_stream_is_no_traceback(closed, folder):
    files = f"{folder}/ours.safetensors {folder}/single.safetensors"
    command = f"{sys.executable} -m minizha.cli compare {files} {closed}"
    code = f"{sys.executable} -c 'import sys; from minizha.cli import main; sys.exit(main())'"
    command = command.replace(f"{sys.executable} -m minizha.cli", code)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_all_vectors_are_a_whole_result(capsys):
    """The control: with results for every case there is no need of --partial."""
    status, out, _ = run(capsys, "vectors", "verify", V1 / "cases", "--vectors", V1)
    assert (status, "exit status" in out) == (0, False)


@pytest.mark.parametrize("name", ["cls.predictions.bias", "nezha.pooler.dense.bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_damaged_model_gives_no_trace(capsys, tmp_path, name, value):
    """It would be compared with another trace, and NaN with NaN is no difference."""
    config = NezhaConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
    )
    model = NezhaForPreTraining(config)
    inputs, target = tmp_path / "inputs.json", tmp_path / "t.safetensors"
    inputs.write_text(json.dumps({"input_ids": [[1, 2, 3]]}), encoding="utf-8")
    model.save_pretrained(tmp_path / "m")
    arguments = ("trace", tmp_path / "m", "--inputs", inputs, "--out", target)
    assert run(capsys, *arguments)[0] == 0
    target.unlink()
    arrays = {n: np.array(p) for n, p in model.state_dict().items()}
    arrays[name][0] = value
    model.load_state_dict(arrays)
    model.save_pretrained(tmp_path / "m")
    status, _, error = run(capsys, *arguments)
    assert status == 2
    assert f"in the parameter {name}; the model is damaged" in error
    assert not target.exists()
