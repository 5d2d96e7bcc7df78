"""Decoders for the properties: a text in one call, or cut into several whose results are joined."""

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tests.support.running import fields, mapped, random_upstream, recorded
from tests.support.strategies import HEAD_MASKS, SEED, Case, attention_mask, configs, one_of_all

SEEING = ("none", "right", "left", "holes", "square")
CROSSING = (
    "none",  # no cross-attention at all
    "unused",  # there is one, but no states of an encoder
    "once",  # the first call gets the states, the others its cached keys and values
    "again",  # every call gets them; after the first, the cached keys and values are used
    "two arrays",  # the encoder's keys and values are not passed on, but made again in each call
)
LOOKING = ("once", "again", "two arrays")
S = (1, 2, 3, 5, 9)
ENCODER_MASKS = ("none", "right", "holes", "empty", "square", "empty square")
RARELY = (False, False, True)  # for pruned heads, and for embeddings in place of ids
CHUNKS = (0, 0, 1, 3)


@dataclass(frozen=True)
class DecoderCase(Case):
    """A case whose ``cuts`` are bits: the i-th is 1 where a call ends after i + 1 tokens."""

    cuts: int = 0
    crossing: str = "none"
    S: int = 1
    encoder_mask: str = "none"
    embeds: bool = False

    def inputs(self):
        """The arguments of one call that reads the whole text."""
        inputs, rng = super().inputs(), self.rng("decoder")
        if "square" in self.mask:
            inputs["attention_mask"] = _causal(inputs["attention_mask"], self.mask, rng)
        if self.embeds:
            size = (*inputs.pop("input_ids").shape, self.config.hidden_size)
            inputs["inputs_embeds"] = rng.standard_normal(size)
        if self.crossing in LOOKING:
            size = (self.B, self.S, self.config.hidden_size)
            inputs["encoder_hidden_states"] = rng.standard_normal(size)
            if (mask := self._encoder_mask(rng)) is not None:
                inputs["encoder_attention_mask"] = mask
        return inputs

    def _encoder_mask(self, rng):
        if "square" not in self.encoder_mask:
            return attention_mask(self.encoder_mask, self.B, self.S, rng)
        # a square mask cut to as many rows and columns as there are queries and keys
        mask = attention_mask("square", self.B, max(self.L, self.S), rng)
        mask = mask[:, : self.L, : self.S].copy()
        if "empty" not in self.encoder_mask:
            mask[..., 0] |= ~mask.astype(bool).any(axis=-1)
        return mask

    def seen(self, inputs):
        """(B, L): whether the query sees any key. If not, it takes the mean over all keys of its call,
        and another call has others."""
        mask = inputs.get("attention_mask", np.ones((self.B, self.L)))
        causal = mask[:, None] * np.tri(self.L) if mask.ndim == 2 else mask
        return causal.astype(bool).any(axis=-1)

    def calls(self):
        """The first token of each call, and the one after its last."""
        cuts = [i for i in range(1, self.L) if self.cuts >> (i - 1) & 1]
        return list(itertools.pairwise([0, *cuts, self.L]))

    def part(self, inputs, start, stop):
        """The arguments, but for the past, of the call that reads the tokens start … stop − 1."""
        part = {}
        for name, array in inputs.items():
            if name == "encoder_hidden_states" and self.crossing == "once" and start > 0:
                continue
            if name == "attention_mask":
                array = array[..., :stop]
            square = array.ndim == 3 and name.endswith("attention_mask")
            by_token = name in ("input_ids", "inputs_embeds", "token_type_ids")
            part[name] = array[:, start:stop] if square or by_token else array
        return part

    def passed_on(self, past):
        """The ``past_key_values`` of one call as the next one gets them."""
        return [layer[:2] for layer in past] if self.crossing == "two arrays" else past


def _causal(mask, kind, rng):
    mask = mask * np.tri(mask.shape[-1], dtype=np.int64)
    if "empty" not in kind:
        for rows, i in itertools.product(mask, range(mask.shape[-1])):
            if not rows[i].any():
                rows[i, rng.integers(i + 1)] = 1
    return mask


def decoder_cases(
    masks=SEEING,
    lengths=range(1, 8),
    crossing=CROSSING,
    embeds=RARELY,
    head_masks=HEAD_MASKS,
    **fixed,
):
    """A :class:`DecoderCase`; the keywords narrow it, those left over are the configuration's."""
    inputs = one_of_all(range(1, 4), lengths, masks, head_masks)
    decoder = one_of_all(crossing, S, ENCODER_MASKS, embeds)
    options = one_of_all(CHUNKS, RARELY, range(9))
    cuts = st.sampled_from(range(2 ** (max(lengths) - 1)))
    config = configs(max_relative_position=0, **fixed)
    return st.builds(_decoder_case, config, inputs, decoder, options, cuts, SEED)


def _decoder_case(config, inputs, decoder, options, cuts, seed):
    chunk, pruned, K = options
    changes = {"is_decoder": True, "add_cross_attention": decoder[0] != "none"}
    if pruned:
        rng, N = np.random.default_rng(seed), config.num_attention_heads
        changes["pruned_heads"] = {
            i: rng.permutation(N)[: rng.integers(N)].tolist()
            for i in range(config.num_hidden_layers)
        }
    changes |= {"chunk_size_feed_forward": chunk, "max_relative_position": K}
    config = config.replace(**changes)
    return DecoderCase(config, *inputs, seed, cuts, *decoder)


# --- running --------------------------------------------------------------------------------------


def called(model, inputs, **options):
    """An output with every field, keys and values included, and the record of its forward pass."""
    return recorded(model, inputs, use_cache=True, **options)


def called_in_parts(model, case, inputs):
    """The output of each call; each gets the past of the one before."""
    past, outs = None, []
    for start, stop in case.calls():
        outs.append(called(model, case.part(inputs, start, stop), past_key_values=past))
        past = case.passed_on(outs[-1].past_key_values)
    return outs


def token_axis(name):
    """The axis of a field that counts tokens; None for the encoder's keys and values."""
    field, *place = name.split(".")
    if field == "past_key_values":
        return 2 if int(place[1]) < 2 else None
    return 2 if field.endswith("attentions") else 1


def tokens(name, array, start, stop):
    """The entries of a field, or of its gradient, for the tokens start … stop − 1."""
    axis = token_axis(name)
    part = array if axis is None else array[(slice(None),) * axis + (slice(start, stop),)]
    return part[..., :stop] if name.startswith("attentions") else part


def joined(case, outs):
    """The fields of several calls, joined to those of one call."""
    parts = [fields(out) for out in outs]
    whole = dict(parts[-1])
    for name in whole:
        arrays = [part[name] for part in parts]
        if name.startswith("attentions"):
            arrays = [np.pad(a, ((0, 0),) * 3 + ((0, case.L - a.shape[-1]),)) for a in arrays]
        if not name.startswith("past_key_values"):
            whole[name] = np.concatenate(arrays, axis=token_axis(name))
    return whole


def scaled(tree, factors):
    """A tree of fields or gradients, times a factor (B, L) for each token."""

    def change(name, array):
        axis = token_axis(name)
        if axis is None:
            return array
        B, L = factors.shape
        return array * factors.reshape((B, L, 1) if axis == 1 else (B, 1, L, 1))

    return mapped(tree, change)


def upstream_of(case, out, inputs=None):
    """An upstream gradient for every field; with ``inputs``, 0 for tokens that see no key."""
    upstream = random_upstream(out, case.rng("upstream"))
    return upstream if inputs is None else scaled(upstream, case.seen(inputs))
