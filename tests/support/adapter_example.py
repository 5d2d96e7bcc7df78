"""A port in torch without an adapter, with names of its own."""

import torch
from torch import nn
from torch.nn.functional import gelu


class Attention(nn.Module):
    """The mask is applied to the scores in one of the ways found in ports."""

    def __init__(self, D, N, mask_by):
        super().__init__()
        self.N, self.mask_by = N, mask_by
        self.q, self.k, self.v = (nn.Linear(D, D) for _ in range(3))

    def forward(self, x, mask):
        B, L, D = x.shape
        q, k, v = (f(x).view(B, L, self.N, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(-1, -2) / (D // self.N) ** 0.5
        self.scores = scores.detach().clone()
        hidden = (mask == 0)[:, None, None, :]
        additive = torch.zeros(hidden.shape, dtype=x.dtype).masked_fill(hidden, -1e9)
        match self.mask_by:
            case "sum":
                scores = scores + additive
            case "sum, mask first":
                scores = additive + scores
            case "function":
                scores = torch.add(scores, additive)
            case "in place":
                scores += additive
            case "method in place":
                scores.add_(additive)
            case "fill":
                scores = scores.masked_fill(hidden, -1e9)
            case "fill in place":
                scores.masked_fill_(hidden, -1e9)
            case "two terms, no mask":
                scores = scores + q @ k.transpose(-1, -2)
                self.scores = scores.detach().clone()
        self.probs = scores.softmax(-1)
        return (self.probs @ v).transpose(1, 2).reshape(B, L, D)


class Block(nn.Module):
    def __init__(self, D, N, mask_by, F=11):
        super().__init__()
        self.attention = Attention(D, N, mask_by)
        self.project, self.widen, self.narrow = nn.Linear(D, D), nn.Linear(D, F), nn.Linear(F, D)
        self.first_norm, self.second_norm = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, x, mask):
        h = self.first_norm(x + self.project(self.attention(x, mask)))
        return self.second_norm(h + self.narrow(gelu(self.widen(h))))


class Port(nn.Module):
    """Without dropout: models are compared in evaluation mode."""

    def __init__(self, V=13, D=8, N=2, layers=2, mask_by="sum"):
        super().__init__()
        self.words = nn.Embedding(V, D)
        self.normalise = nn.LayerNorm(D)
        self.blocks = nn.ModuleList(Block(D, N, mask_by) for _ in range(layers))

    def forward(self, ids, mask):
        x = self.normalise(self.words(ids))
        for block in self.blocks:
            x = block(x, mask)
        return x


MASKED = (
    "sum",
    "sum, mask first",
    "function",
    "in place",
    "method in place",
    "fill",
    "fill in place",
)
UNMASKED = ("none", "two terms, no mask")


def our_names(port):
    """{name of a parameter: name in a trace}, as the author of an adapter writes it."""
    table = {"words": "embeddings.word_embeddings", "normalise": "embeddings.LayerNorm"}
    for i, _ in enumerate(port.blocks):
        layer = f"encoder.layer.{i}"
        for letter, name in zip("qkv", ("query", "key", "value"), strict=True):
            table[f"blocks.{i}.attention.{letter}"] = f"{layer}.attention.self.{name}"
        table |= {
            f"blocks.{i}.project": f"{layer}.attention.output.dense",
            f"blocks.{i}.first_norm": f"{layer}.attention.output.LayerNorm",
            f"blocks.{i}.widen": f"{layer}.intermediate.dense",
            f"blocks.{i}.narrow": f"{layer}.output.dense",
            f"blocks.{i}.second_norm": f"{layer}.output.LayerNorm",
        }
    return {
        name: f"{table[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}"
        for name, _ in port.named_parameters()
    }
