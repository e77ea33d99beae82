"""Read the picture size of an MP4 file: an app that does not get the size shows the video in a wrong shape."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap

# ISO/IEC 14496-12: a box is its size, its type and its content. A track's header ends in a matrix, width and height.
_MATRIX_AND_SIZE = struct.Struct(">9i2I")
_FIXED_POINT = 1 << 16


def is_mp4(data: bytes | mmap) -> bool:
    """Return True if the data is an MP4 or QuickTime file."""
    return data[4:8] == b"ftyp"


def picture_size(data: bytes | mmap) -> tuple[int, int] | None:
    """Return the width and height of the first track with a picture, as it is shown, or None if there is none."""
    for movie in _boxes(memoryview(data), b"moov"):
        for track in _boxes(movie, b"trak"):
            for header in _boxes(track, b"tkhd"):
                if len(header) < _MATRIX_AND_SIZE.size:
                    continue
                a, b, _, c, d, *_, width, height = _MATRIX_AND_SIZE.unpack(header[-_MATRIX_AND_SIZE.size :])
                size = width // _FIXED_POINT, height // _FIXED_POINT
                if all(size):
                    is_turned = not a and not d and b and c  # by 90 degrees, as phones record upright videos
                    return size[::-1] if is_turned else size
    return None


def _boxes(data: memoryview, kind: bytes) -> Iterator[memoryview]:
    place = 0
    while place + 8 <= len(data):
        size, header = int.from_bytes(data[place : place + 4]), 8
        if size == 1:
            size, header = int.from_bytes(data[place + 8 : place + 16]), 16
        elif size == 0:
            size = len(data) - place
        if size < header:
            return
        if data[place + 4 : place + 8] == kind:
            yield data[place + header : place + size]
        place += size
