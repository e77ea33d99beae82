"""Read the picture size of a GIF, which can be published as a short video."""

from __future__ import annotations

import struct
from mmap import mmap

_HEADS = (b"GIF87a", b"GIF89a")
_SIZE = struct.Struct("<2H")


def is_gif(data: bytes | mmap) -> bool:
    """Return True if the data is a GIF file."""
    return data[: len(_HEADS[0])] in _HEADS


def gif_size(data: bytes | mmap) -> tuple[int, int] | None:
    """Return the width and height of a GIF in pixels, or None if the file has none."""
    if len(data) < len(_HEADS[0]) + _SIZE.size:
        return None
    width, height = _SIZE.unpack_from(data, len(_HEADS[0]))
    return (width, height) if width and height else None
