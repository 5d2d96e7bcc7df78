"""The example of NezhaModel in the documentation of Transformers 4.37, on minizha.

Copyright 2018- The Hugging Face team, Apache License 2.0 (see LICENSE in this folder). Changed: the
imports and the value of ``return_tensors``; the prompts and this heading.
"""
# ruff: noqa: I001
# fmt: off

from minizha import NezhaTokenizer as AutoTokenizer, NezhaModel
import numpy_as_torch as torch

tokenizer = AutoTokenizer.from_pretrained("sijunhe/nezha-cn-base")
model = NezhaModel.from_pretrained("sijunhe/nezha-cn-base")

inputs = tokenizer("Hello, my dog is cute", return_tensors=torch.tensor)
outputs = model(**inputs)

last_hidden_states = outputs.last_hidden_state
