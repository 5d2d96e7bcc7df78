"""A file to read, from text or bytes."""


def write(path, content):
    """Write a str in UTF-8, or bytes; return the path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
