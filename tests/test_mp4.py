"""The shape of a video, as its file tells it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefect_bluesky.media.mp4 import is_mp4, picture_size

UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1 << 14)
TURNED = (0, 1, 0, -1, 0, 0, 0, 0, 1 << 14)


def box(kind: bytes, content: bytes, *, large: bool = False) -> bytes:
    if large:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


def track(width: int, height: int, matrix: tuple[int, ...] = UPRIGHT) -> bytes:
    header = bytes(40) + struct.pack(">9i2I", *matrix, width << 16, height << 16)
    return box(b"trak", box(b"edts", b"....") + box(b"tkhd", header))


def video(*tracks: bytes, large: bool = False) -> bytes:
    """An MP4 file without its pictures."""
    movie = box(b"moov", box(b"mvhd", bytes(100)) + b"".join(tracks))
    return box(b"ftyp", b"isom") + box(b"mdat", bytes(50), large=large) + movie


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (video(track(1920, 1080)), (1920, 1080)),
        (video(track(0, 0), track(640, 480)), (640, 480)),
        (video(track(1920, 1080, TURNED)), (1080, 1920)),
        (video(track(1, 2), large=True), (1, 2)),
        (video(), None),
        (video(track(0, 0)), None),
        (b"", None),
    ],
    ids=["plain", "sound first", "turned", "large box", "no track", "sound only", "empty"],
)
def test_the_first_track_with_a_picture_tells_the_shape(data: bytes, size: tuple[int, int] | None) -> None:
    assert picture_size(data) == size
    assert is_mp4(data) == bool(data)


@given(st.binary() | st.builds(lambda cut: video(track(640, 480))[:cut], st.integers(0, 300)))
def test_a_damaged_file_tells_a_shape_or_none(data: bytes) -> None:
    size = picture_size(data)
    assert size is None or all(side > 0 for side in size)
