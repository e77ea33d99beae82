"""Leave out of a PNG what no viewer needs, as damaged or huge metadata would keep Pillow from reading the image."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_WANTED = {b"iCCP", b"eXIf"}
"""The colour profile, and how the image is turned: used if they are sound, as viewers do."""

_MAX_PROFILE = 1_000_000
"""Bytes of a colour profile, unpacked. Pillow refuses a file with a longer one."""


def necessary_chunks(data: bytes) -> bytes:
    """Return a PNG without its texts, and without a damaged or huge profile; any other file as it is."""
    if not data.startswith(_SIGNATURE):
        return data
    return _SIGNATURE + b"".join(_chunks(data))


def _chunks(data: bytes) -> Iterator[bytes]:
    place = len(_SIGNATURE)
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 12 + length
        chunk = data[place:end]
        if kind in _NEEDED or (kind in _WANTED and _is_sound(kind, chunk)):
            yield chunk
        place = end


def _is_sound(kind: bytes, chunk: bytes) -> bool:
    content, checksum = chunk[8:-4], int.from_bytes(chunk[-4:], "big")
    if zlib.crc32(chunk[4:-4]) != checksum:
        return False
    if kind != b"iCCP":
        return True
    packed = content.partition(b"\0")[2][1:]
    try:
        unpacker = zlib.decompressobj()
        unpacker.decompress(packed, _MAX_PROFILE)
    except zlib.error:
        return False
    return unpacker.eof
