"""Who computes: minizha, the programs it is compared with, and the matrix products alone.

Each class is a side. It reads the same model folder when it is made, ``run`` does what is timed, and
``results`` gives the arrays by which two sides are compared before. Other libraries are imported here only.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.cases import Case, inputs, products

RATE, LARGEST_NORM, DECAY = 1e-4, 1.0, 0.01
Arrays = dict[str, np.ndarray]


def read(arrays: Any) -> None:
    """Read every element that was computed: what is lazy must be made."""
    for array in arrays:
        array.sum()


class _Side:
    """What is timed is the same in minizha and in Transformers."""

    case: Case
    folder: str
    model: Any
    model_class: Any
    _outputs: Callable[[], Arrays]
    _step: Callable[[], tuple[float, Arrays]]

    def run(self) -> None:
        """A forward pass, a step, or a model read from its folder."""
        task = self.case.task
        if task == "loading":
            self.model = None  # so that there is never more than one
            self.model = self.model_class.from_pretrained(self.folder)
        elif task == "training":
            self._step()
        else:
            read(self._outputs().values())


class Minizha(_Side):
    """This package."""

    needs = ()

    def __init__(self, case: Case, folder: str, threads: int) -> None:
        from minizha import NezhaForPreTraining, NezhaModel
        from minizha.training.optimizer import AdamW

        self.case, self.folder, self.batch = case, folder, inputs(case)
        self.model_class = NezhaModel if case.task == "body" else NezhaForPreTraining
        if case.task == "loading":
            return
        self.model = self.model_class.from_pretrained(folder)
        if case.task == "training":
            self.optimizer = AdamW(self.model, weight_decay=DECAY)
            self.model.train(seed=0)

    def _begin_again(self) -> None:
        """The parameters as they are stored, and an optimizer without moments."""
        from minizha.training.optimizer import AdamW

        self.model.load_state_dict(load_file(stored(self.folder)))
        self.optimizer = AdamW(self.model, weight_decay=DECAY)

    def _outputs(self) -> Arrays:
        out = self.model(**self.batch)
        if self.case.task == "body":
            return {"hidden": out.last_hidden_state, "pooled": out.pooler_output}
        return {"words": out.prediction_logits, "pairs": out.seq_relationship_logits}

    def _step(self) -> tuple[float, Arrays]:
        from minizha.training.optimizer import clipping_factor
        from minizha.training.step import loss_and_gradients

        metrics, gradients = loss_and_gradients(self.model, self.batch)
        factor, _ = clipping_factor(gradients, LARGEST_NORM)
        self.optimizer.step(gradients, RATE, factor)
        return float(metrics.word_loss + metrics.pair_loss), gradients

    def results(self) -> Arrays:
        """The outputs; of a step without dropout the loss, the gradients, and how parameters change."""
        task = self.case.task
        if task == "loading":
            self.run()
            return self.model.state_dict()
        if task != "training":
            return self._outputs()
        self._begin_again()
        self.model.eval()
        before = dict(self.model.state_dict())
        loss, gradients = self._step()
        after = self.model.state_dict()
        self.model.train(seed=0)
        return step_results(loss, gradients, before, after)


def stored(folder: str) -> str:
    """The file of the parameters."""
    return str(Path(folder) / "model.safetensors")


def step_results(loss: float, gradients: Arrays, before: Arrays, after: Arrays) -> Arrays:
    """What two sides compare of a step; ``change`` is one long array in the order of the names."""
    found = {f"gradient of {name}": g for name, g in gradients.items()}
    change = np.concatenate([(after[name] - before[name]).ravel() for name in sorted(before)])
    return found | {"loss": np.array([loss]), "change": change}


class Transformers(_Side):
    """Transformers on torch, as it runs without further options."""

    needs = ("torch", "transformers")

    def __init__(self, case: Case, folder: str, threads: int) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        self.torch, self.case, self.folder = torch, case, folder
        self.batch = {name: torch.from_numpy(array) for name, array in inputs(case).items()}
        body = case.task == "body"
        self.model_class = transformers.NezhaModel if body else transformers.NezhaForPreTraining
        self._first_call(transformers.NezhaConfig)
        if case.task == "loading":
            return
        self.model = self.model_class.from_pretrained(folder)
        self.call = self.model
        if case.task == "training":
            self.model.train()
            self.optimizer = torch.optim.AdamW(self._groups(), lr=RATE)

    def _first_call(self, config: Any) -> None:
        """Read and run a tiny model: what the libraries import then is no memory of the case."""
        sizes = {"hidden_size": 12, "num_hidden_layers": 1, "intermediate_size": 1, "vocab_size": 2}
        with tempfile.TemporaryDirectory() as folder, self.torch.inference_mode():
            self.model_class(config(**sizes)).save_pretrained(folder)
            self.model_class.from_pretrained(folder)(self.torch.ones(1, 2, dtype=self.torch.int64))

    def _begin_again(self) -> None:
        with self.torch.no_grad():
            for name, array in load_file(stored(self.folder)).items():
                self.model.get_parameter(name).copy_(self.torch.from_numpy(array))
        self.optimizer = self.torch.optim.AdamW(self._groups(), lr=RATE)
        self.optimizer.zero_grad()

    def _groups(self) -> list[dict[str, Any]]:
        """As minizha: matrices decay, biases and LayerNorm do not."""
        groups = [{"params": [], "weight_decay": DECAY}, {"params": [], "weight_decay": 0.0}]
        for name, p in self.model.named_parameters():
            groups[name.endswith("bias") or "LayerNorm" in name]["params"].append(p)
        return groups

    def _outputs(self) -> Arrays:
        with self.torch.inference_mode():
            out = self.call(**self.batch)
        if self.case.task == "body":
            return {"hidden": out.last_hidden_state.numpy(), "pooled": out.pooler_output.numpy()}
        return {
            "words": out.prediction_logits.numpy(),
            "pairs": out.seq_relationship_logits.numpy(),
        }

    def _step(self) -> float:
        self.optimizer.zero_grad()
        loss = self.call(**self.batch).loss
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        self.optimizer.step()
        return float(loss)

    def results(self) -> Arrays:
        """The same as minizha's."""
        task = self.case.task
        if task == "loading":
            self.run()
            return self._parameters()
        if task != "training":
            return self._outputs()
        self._begin_again()
        self.model.eval()
        before = {name: p.copy() for name, p in self._parameters().items()}
        self.call(**self.batch).loss.backward()
        gradients = {n: p.grad.numpy().copy() for n, p in self.model.named_parameters()}
        loss = self._step()
        found = step_results(loss, gradients, before, self._parameters())
        self.model.train()
        return found

    def _parameters(self) -> Arrays:
        return {name: p.detach().numpy() for name, p in self.model.named_parameters()}


class Compiled(Transformers):
    """The same model through torch.compile."""

    def __init__(self, case: Case, folder: str, threads: int) -> None:
        super().__init__(case, folder, threads)
        self.call = self.torch.compile(self.model)


class OnnxRuntime:
    """Transformers' model, exported for fixed sizes and run by ONNX Runtime."""

    needs = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")

    def __init__(self, case: Case, folder: str, threads: int) -> None:
        path = Path(folder) / f"{case.name}.onnx"
        if not path.is_file():  # in another process: this one has no torch
            command = [sys.executable, "-m", "benchmarks.peers", case.name, folder, str(path)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"the export failed: {done.stderr.strip().splitlines()[-1]}")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.force_spinning_stop", "1")  # idle between runs
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.names = ("hidden", "pooled") if case.task == "body" else ("words", "pairs")
        batch = inputs(case)
        self.batch = {i.name: batch[i.name] for i in self.session.get_inputs()}

    def run(self) -> None:
        """A forward pass."""
        read(self.results().values())

    def results(self) -> Arrays:
        """The outputs."""
        return dict(zip(self.names, self.session.run(None, self.batch), strict=True))


def export(case: Case, folder: str, path: str) -> None:
    """Write the model in folder as ONNX."""
    side = Transformers(case, folder, 1)
    torch, model = side.torch, side.model

    class Positional(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, token_type_ids: Any) -> Any:
            out = self.model(input_ids=input_ids, token_type_ids=token_type_ids)
            return out.to_tuple()

    names = ["input_ids", "token_type_ids"]
    with torch.no_grad():
        torch.onnx.export(
            Positional().eval(),
            tuple(side.batch[name] for name in names),
            path,
            input_names=names,
            dynamo=True,
            verbose=False,
        )


class Products:
    """The matrix products of minizha's computation and nothing else, into arrays that are there."""

    needs = ()

    def __init__(self, case: Case, folder: str, threads: int) -> None:
        rng = np.random.default_rng(0)

        def array(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        self.work = [
            (array(b, m, k), array(b, k, n), np.empty((b, m, n), np.float32), count)
            for b, m, k, n, count in products(case)
        ]

    def run(self) -> None:
        """All of them."""
        for x, w, y, count in self.work:
            for _ in range(count):
                np.matmul(x, w, out=y)

    def results(self) -> Arrays:
        """There is nothing to compare."""
        return {}


SIDES = {
    "minizha": Minizha, "products": Products, "transformers": Transformers,
    "torch.compile": Compiled, "onnxruntime": OnnxRuntime,
}  # fmt: skip
PEERS = ("transformers", "torch.compile", "onnxruntime")
TITLES = {
    "minizha": "minizha", "transformers": "Transformers", "torch.compile": "torch.compile",
    "onnxruntime": "ONNX Runtime", "products": "products",
}  # fmt: skip


def why_not(side: str, case: Case) -> str | None:
    """Why a side can't take part in a case; None if it can."""
    if side == "onnxruntime" and case.task in ("training", "loading"):
        return "runs forward passes only"
    if side == "torch.compile" and case.task == "loading":
        return "loads as Transformers does"
    if side == "products" and case.task == "loading":
        return "has nothing to load"
    missing = [name for name in SIDES[side].needs if importlib.util.find_spec(name) is None]
    if missing:
        return f'{", ".join(missing)} not installed: pip install -e ".[peers]"'
    if side == "torch.compile" and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return "needs a C++ compiler"
    return None


if __name__ == "__main__":
    from benchmarks.cases import find

    export(find(sys.argv[1]), *sys.argv[2:])
