"""Tell a JPEG file that lacks its end marker alone from one that lacks a part of its picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO

_START, _END = b"\xff\xd8", b"\xff\xd9"

_FRAMES = {0xC0, 0xC1, 0xC2}
_SCAN = 0xDA
_RESTARTS = 0xDD
"""The marker of a picture in intervals. A decoder fills a missing interval, whatever bits follow."""

_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_FILLING = b"\xa5" * 4096


def with_end(data: bytes) -> bytes | None:
    """Return a JPEG file with the end marker that alone is missing; None if more is missing, or it is no JPEG file.

    A decoder that needs bits from behind the end makes another picture of other bits.
    """
    data = data.removesuffix(_END[:1])
    if not data.startswith(_START) or not _has_all_scans(data):
        return None
    return data + _END if _picture(data + _END) == _picture(data + _FILLING + _END) else None


def _has_all_scans(data: bytes) -> bool:
    """Return whether each coefficient of the picture is there to its last bit (ITU-T T.81, B.2.3 and G.1.1.1)."""
    missing: set[tuple[int, int]] = set()
    for marker, segment in _segments(data):
        if marker == _RESTARTS:
            return False
        if marker in _FRAMES:
            missing = {(component, at) for component in segment[6::3] for at in range(64)}
        if marker == _SCAN and segment and len(segment) == 4 + 2 * segment[0]:
            first, last, precision = segment[-3:]
            if precision & 0x0F == 0:
                missing -= {(component, at) for component in segment[1:-3:2] for at in range(first, last + 1)}
    return not missing


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the markers and what they say, without the bits of scans."""
    at = len(_START)
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4])
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == _SCAN:
            found = _NEXT_MARKER.search(data, at)
            at = found.start() if found else len(data)


def _picture(data: bytes) -> bytes:
    import PIL.Image

    with PIL.Image.open(BytesIO(data), formats=["JPEG"]) as image:
        return sha256(image.tobytes()).digest()
