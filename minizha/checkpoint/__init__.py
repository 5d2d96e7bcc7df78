"""Bytes to arrays and back: safetensors and torch files, model folders, the hub, other ports' names."""
