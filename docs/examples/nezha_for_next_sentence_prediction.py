"""The example of NezhaForNextSentencePrediction in the documentation of Transformers 4.37, on minizha.

Copyright 2018- The Hugging Face team, Apache License 2.0 (see LICENSE in this folder). Changed: the
imports and the value of ``return_tensors``; the prompts and this heading.
"""
# ruff: noqa: I001
# fmt: off

from minizha import NezhaTokenizer as AutoTokenizer, NezhaForNextSentencePrediction
import numpy_as_torch as torch

tokenizer = AutoTokenizer.from_pretrained("sijunhe/nezha-cn-base")
model = NezhaForNextSentencePrediction.from_pretrained("sijunhe/nezha-cn-base")

prompt = "In Italy, pizza served in formal settings, such as at a restaurant, is presented unsliced."
next_sentence = "The sky is blue due to the shorter wavelength of blue light."
encoding = tokenizer(prompt, next_sentence, return_tensors=torch.tensor)

outputs = model(**encoding, labels=torch.LongTensor([1]))
logits = outputs.logits
assert logits[0, 0] < logits[0, 1]  # next sentence was random
