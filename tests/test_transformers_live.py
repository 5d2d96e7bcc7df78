"""Random small models against a living Transformers, where one with Nezha is installed.

``pip install -e ".[test,peers]"`` brings it. The recorded vectors say the same for fixed cases and
need nothing; this looks where nobody has looked before.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

from test_transformers_vectors import TOLERANCE, Recorded, differences

pytest.importorskip("torch", reason="the peers extra is not installed")
transformers = pytest.importorskip("transformers", reason="the peers extra is not installed")
if not hasattr(transformers, "NezhaModel"):
    pytest.skip("this Transformers has no Nezha (5 dropped it)", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))
from make_transformers_vectors import run_case
from transformers_cases import MASKS, Case

PLAIN_MASKS = [None, *(name for name in MASKS if name != "fractional")]
LABELS = {
    "NezhaModel": (),
    "NezhaForPreTraining": ("labels", "next_sentence_label"),
    "NezhaForMaskedLM": ("labels",),
    "NezhaForNextSentencePrediction": ("labels",),
}


def random_case(seed):
    rng = np.random.default_rng(seed)
    # LayerNorm of two or four features leaves gradients that are all rounding: at least 8
    heads, head_size = [(1, 8), (2, 4), (2, 6), (3, 4), (3, 8), (5, 2)][rng.integers(6)]
    class_name = str(rng.choice(list(LABELS)))
    config = {
        "vocab_size": int(rng.integers(29, 53)),
        "hidden_size": heads * head_size,
        "num_attention_heads": heads,
        "num_hidden_layers": int(rng.integers(1, 4)),
        "intermediate_size": int(rng.integers(5, 31)),
        "max_relative_position": int(rng.choice([1, 2, 3, 5, 8, 64])),
        "max_position_embeddings": 16,
        "type_vocab_size": int(rng.integers(1, 4)),
        "hidden_act": str(rng.choice(["gelu", "gelu_new", "relu", "silu", "tanh"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
        "tie_word_embeddings": bool(rng.random() < 0.7),
    }
    return Case(
        f"random-{seed}",
        class_name,
        seed,
        int(rng.integers(2, 5)),
        int(rng.integers(5, 15)),
        config,
        "drawn at random",
        mask=PLAIN_MASKS[rng.integers(len(PLAIN_MASKS))],
        head_mask=[None, "shared", "per-layer"][rng.integers(3)],
        token_types=bool(rng.random() < 0.5),
        embeds=bool(rng.random() < 0.3),
        labels=LABELS[class_name],
        upstream=() if LABELS[class_name] else ("last_hidden_state", "pooler_output"),
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_random_model_equals_that_of_transformers(seed):
    case = random_case(seed)
    arrays, _ = run_case(case)
    recorded = Recorded(arrays, case.class_name, case.config, case.class_arguments)
    assert max(differences(recorded)) <= TOLERANCE


def test_a_flipped_distance_is_seen_here_too():
    case = random_case(0)
    arrays, _ = run_case(case)
    recorded = Recorded(arrays, case.class_name, case.config, case.class_arguments)
    recorded.model.table = recorded.model.table[::-1]
    assert max(differences(recorded)) > 1e-4
