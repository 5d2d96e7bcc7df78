"""The class of the network without a head."""

from __future__ import annotations

from typing import Any

from minizha.checks import flag
from minizha.config import NezhaConfig
from minizha.model.call import begin, run, shared_arguments
from minizha.model.initialisation import Shapes, body_shapes
from minizha.model.inputs import DecoderArguments, SharedArguments
from minizha.model.outputs import BaseModelOutput
from minizha.model.pretrained import NezhaPreTrainedModel


class NezhaModel(NezhaPreTrainedModel):
    """The bare model: hidden states, and with ``add_pooling_layer`` the pooled [CLS].

    See :class:`~minizha.model.pretrained.NezhaPreTrainedModel` for construction, loading and
    gradients, and NezhaModel in the Transformers 4.37 documentation for the arguments.
    """

    def __init__(self, config: NezhaConfig, *, add_pooling_layer: bool = True, **options: Any):
        self._pooler = flag("add_pooling_layer", add_pooling_layer, True)
        super().__init__(config, **options)

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """Names and shapes of the parameters of a model with the pooler, in checkpoint order."""
        return body_shapes(config, pooler=True, prefix="")

    def _parameter_shapes(self) -> Shapes:
        return body_shapes(self.config, pooler=self._pooler, prefix="")

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
    ) -> BaseModelOutput | tuple:
        """Run the model.

        Shapes: input_ids (B, L) integers or inputs_embeds (B, L, D), attention_mask (B, L) or
        (B, L, L) with 1 for a visible token, token_type_ids (B, L), head_mask (N,) or (layers, N)
        with 1 for an active head. Arrays or nested lists.

        For decoders: past_key_values, the output field of an earlier call that read P tokens;
        attention_mask is then (B, P+L) or (B, L, P+L). With cross-attention: encoder_hidden_states
        (B, S, D), encoder_attention_mask (B, S) or (B, L, S). If past_key_values has four arrays for
        each layer, they include the encoder's keys and values. encoder_hidden_states may then be
        left out; if given, they are not read and have gradient 0.

        Options: ``output_attentions`` and ``output_hidden_states`` return these too,
        ``return_dict=False`` returns a tuple; None is the configuration's value. ``record=True`` stores
        the activations that ``backward`` needs; None does so in train mode only.

        Convention: any length; ``use_cache`` None is the configuration's value, and only decoders have
        a cache. A query whose keys are all masked (in a decoder, with padding on the left) has equal
        weights for all keys of the call; so its row depends on how a text is split into calls. Under a
        mask (B, P+L) no other query attends to it; under a mask (B, L, P+L) others may.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        use_cache = flag("use_cache", use_cache, self.config.use_cache)
        decoder = DecoderArguments(
            encoder_hidden_states, encoder_attention_mask, past_key_values, use_cache
        )
        return run(begin(self, shared, decoder), BaseModelOutput)
