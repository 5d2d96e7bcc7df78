"""Bytes to arrays and back: safetensors files, model folders, the names other exports use."""
