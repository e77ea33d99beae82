"""Images: refused with the reason, or made upright, bare of metadata, and small enough, the same bytes each time."""

import random
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile
from PIL.Image import Transpose
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media import images
from prefect_bluesky.media.images import FittedImage, fit_image, thumbnail

ROOMY = 1_000_000
SECRET = "52.5200 N 13.4050 E"
ORIENTATION, DESCRIPTION, GPS = 0x0112, 0x010E, 0x8825
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
RED_AND_BLUE_SWAPPED = SRGB.replace(b"rXYZ", b"?XYZ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"?XYZ", b"bXYZ", 1)


def encoded(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise, which compresses worst."""
    return Image.frombytes(mode, (width, height), random.Random(1).randbytes(width * height * len(mode)))


def ramp(mode: str) -> Image.Image:
    """From black at the left to white at the right."""
    grey = Image.linear_gradient("L").rotate(90)
    if mode == "I;16":
        return Image.frombytes("I;16", grey.size, b"".join(struct.pack("<H", value * 257) for value in grey.tobytes()))
    return grey.convert("RGB" if mode in {"LAB", "YCbCr"} else mode).convert(mode)


def quarters() -> Image.Image:
    """Red and green above blue and white."""
    image = Image.new("RGB", (48, 32), "white")
    for corner, colour in (((0, 0), "red"), ((24, 0), "lime"), ((0, 16), "blue")):
        image.paste(colour, (*corner, corner[0] + 24, corner[1] + 16))
    return image


def colours(image: Image.Image) -> list[str]:
    """The names of the colours in the corners."""
    names = {"100": "red", "010": "lime", "001": "blue", "111": "white"}
    right, bottom = image.width - 4, image.height - 4
    pixels = [image.convert("RGB").getpixel(point) for point in ((4, 4), (right, 4), (4, bottom), (right, bottom))]
    return [names["".join(str(value // 128) for value in pixel)] for pixel in pixels if isinstance(pixel, tuple)]


def opened(fitted: FittedImage) -> ImageFile.ImageFile:
    """The result, decoded, after a look at what it says of itself."""
    image = Image.open(BytesIO(fitted.data))
    image.load()
    assert (Image.MIME[image.format or ""], image.size) == (fitted.mime_type, (fitted.width, fitted.height))
    assert image.mode in {"L", "RGB", "RGBA"}
    assert not image.getexif()
    assert not {"icc_profile", "exif", "xmp", "comment"} & set(image.info)
    return image


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these chunks."""
    parts = [
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width: int, height: int, colour_type: int = 0) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)


@contextmanager
def refused(reason: str) -> Iterator[None]:
    with pytest.raises(InvalidInput, match=reason) as refusal:
        yield
    assert refusal.value.field == "image"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello", "the file is no image.* Save it as JPEG or PNG"),
        (b"<!DOCTYPE html><html><title>A cat</title><svg></svg>", "the file is a web page, “A cat”, and no image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "a pointer of Git LFS.* git lfs pull"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG cannot be read. Save it as JPEG or PNG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<SVG/>", "SVG cannot be read"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC cannot be read. Save it as JPEG or PNG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF cannot be read. Save it as JPEG or PNG"),
        (encoded(quarters(), "EPS"), "the file is no image, or of a kind that cannot be read"),
        (png(header(20_000, 5_001), (b"IDAT", b"")), "the image has more than 100 million pixels"),
        (png(header(60_000, 60_000), (b"IDAT", b"")), "the image has more than 100 million pixels"),
        (png(header(10_000, 10_000), (b"IDAT", b"")), "the file is damaged or cut off"),
        (png(header(1, 1, colour_type=3), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b"")), "the file is damaged"),
    ],
)
def test_an_unusable_file_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for use in (lambda: fit_image(data, max_bytes=ROOMY), lambda: thumbnail(data)):
            with refused(reason):
                use()


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_file_that_ends_early_is_refused(format_: str) -> None:
    data = encoded(noise(64, 64), format_)
    with refused("the file is damaged or cut off"):
        fit_image(data[: len(data) // 2], max_bytes=ROOMY)


@pytest.mark.parametrize("missing", [1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_without_its_end_marker_is_complete(missing: int, progressive: bool) -> None:
    data = encoded(noise(64, 64), "JPEG", progressive=progressive)
    fitted = fit_image(data, max_bytes=ROOMY)
    assert fit_image(data[:-missing], max_bytes=ROOMY) == fitted


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 8}])
def test_a_jpeg_that_lacks_a_part_of_its_picture_is_refused(options: dict[str, Any]) -> None:
    data = encoded(noise(64, 64), "JPEG", **options)
    for missing in range(4, len(data) // 2):
        with refused("the file is damaged or cut off"):
            fit_image(data[:-missing], max_bytes=ROOMY)


def test_an_image_that_fits_at_no_size_is_refused() -> None:
    with refused("the image cannot be made to fit into 99 bytes"):
        fit_image(encoded(noise(64, 64), "PNG"), max_bytes=99)


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None),
        (2, Transpose.FLIP_LEFT_RIGHT),
        (3, Transpose.ROTATE_180),
        (4, Transpose.FLIP_TOP_BOTTOM),
        (5, Transpose.TRANSPOSE),
        (6, Transpose.ROTATE_90),
        (7, Transpose.TRANSVERSE),
        (8, Transpose.ROTATE_270),
        (99, None),
    ],
)
def test_an_image_is_turned_upright(orientation: int, stored: Transpose | None) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    for format_ in ("JPEG", "PNG", "WEBP", "TIFF"):
        data = encoded(quarters() if stored is None else quarters().transpose(stored), format_, exif=exif)
        for image in (opened(fit_image(data, max_bytes=ROOMY)), Image.open(BytesIO(thumbnail(data)))):
            assert (colours(image), image.size) == (["red", "lime", "blue", "white"], (48, 32))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_no_metadata_is_left(format_: str) -> None:
    exif, text = Image.Exif(), PngInfo()
    exif[DESCRIPTION] = SECRET
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    text.add_text("Comment", SECRET)
    text.add_itxt("XML:com.adobe.xmp", f"<x>{SECRET}</x>")
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\x18" + SECRET.encode()
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"xmp": SECRET.encode(), "extra": b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc},
        "PNG": {"pnginfo": text},
        "WEBP": {"xmp": SECRET.encode()},
    }
    data = encoded(quarters(), format_, exif=exif, comment=SECRET, **options.get(format_, {}))
    assert SECRET.encode() in data
    kept, scaled = (fit_image(data, max_bytes=ROOMY, max_side=max_side) for max_side in (48, 40))
    opened(kept)
    opened(scaled)
    for content in (kept.data, scaled.data, thumbnail(data)):
        assert SECRET.encode() not in content
        assert not any(name in content for name in (b"Exif", b"eXIf", b"XMP", b"8BIM", b"tEXt", b"iTXt"))


@pytest.mark.parametrize(
    ("format_", "profile", "expected"),
    [
        ("JPEG", SRGB, ["red", "lime", "blue", "white"]),
        ("JPEG", RED_AND_BLUE_SWAPPED, ["blue", "lime", "red", "white"]),
        ("PNG", RED_AND_BLUE_SWAPPED, ["blue", "lime", "red", "white"]),
        ("WEBP", RED_AND_BLUE_SWAPPED, ["blue", "lime", "red", "white"]),
        ("TIFF", RED_AND_BLUE_SWAPPED, ["blue", "lime", "red", "white"]),
        ("JPEG", LAB, ["red", "lime", "blue", "white"]),
        ("JPEG", SRGB[:200], ["red", "lime", "blue", "white"]),
        ("PNG", b"no profile", ["red", "lime", "blue", "white"]),
    ],
    # A profile holds the minute in which it was made, which differs between the processes of pytest-xdist.
    ids=["JPEG", "JPEG swapped", "PNG swapped", "WEBP swapped", "TIFF swapped", "JPEG Lab", "JPEG cut", "PNG without"],
)
def test_colours_are_brought_from_their_profile_to_srgb(format_: str, profile: bytes, expected: list[str]) -> None:
    data = encoded(quarters(), format_, icc_profile=profile)
    assert colours(opened(fit_image(data, max_bytes=ROOMY))) == expected


def test_a_profile_leaves_the_transparency_alone() -> None:
    image = quarters().convert("RGBA")
    image.putalpha(77)
    fitted = opened(fit_image(encoded(image, "PNG", icc_profile=RED_AND_BLUE_SWAPPED), max_bytes=ROOMY))
    assert fitted.getpixel((4, 4)) == (0, 0, 255, 77)


@pytest.mark.parametrize(
    ("format_", "modes", "mime_type"),
    [
        ("PNG", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"], "image/png"),
        ("JPEG", ["L", "RGB", "CMYK", "YCbCr"], "image/jpeg"),
        ("WEBP", ["RGB", "RGBA"], "image/jpeg"),
        ("GIF", ["1", "L", "P"], "image/jpeg"),
        ("BMP", ["1", "L", "P", "RGB", "RGBA"], "image/jpeg"),
        ("TIFF", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "LAB", "I", "I;16", "F"], "image/jpeg"),
    ],
)
def test_every_kind_of_pixel_becomes_one_that_everybody_shows(format_: str, modes: list[str], mime_type: str) -> None:
    for mode in modes:
        fitted = fit_image(encoded(ramp(mode), format_), max_bytes=ROOMY)
        image = opened(fitted)
        assert fitted.mime_type == mime_type
        assert image.mode in {"L", "RGB"}, mode  # nothing shows through here
        values = [sum(image.convert("L").crop((left, 0, left + 16, 256)).tobytes()) / 4096 for left in (0, 120, 240)]
        assert values == pytest.approx([7, 127, 247], abs=8), mode


@pytest.mark.parametrize("value", [0.0, 7.5, float("nan"), float("inf"), -1e38])
def test_numbers_that_have_no_range_make_an_image_all_the_same(value: float) -> None:
    image = Image.new("F", (8, 8), value)
    opened(fit_image(encoded(image, "TIFF"), max_bytes=ROOMY))


@pytest.mark.parametrize(
    ("format_", "mode", "options"),
    [
        ("PNG", "RGBA", {}),
        ("PNG", "LA", {}),
        ("PNG", "P", {"transparency": bytes(range(256))}),
        ("PNG", "RGB", {"transparency": (0, 0, 0)}),
        ("PNG", "L", {"transparency": 0}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "L", {"transparency": 0}),
        ("TIFF", "RGBA", {}),
    ],
)
def test_transparency_that_shows_is_kept(format_: str, mode: str, options: dict[str, Any]) -> None:
    image = ramp(mode)
    if mode in {"LA", "RGBA"}:
        image.putalpha(ramp("L"))
    data = encoded(image, format_, **options)
    fitted = fit_image(data, max_bytes=ROOMY)
    assert fitted.mime_type == "image/png"
    assert opened(fitted).getchannel("A").getextrema() == (0, 255)
    assert Image.open(BytesIO(thumbnail(data))).convert("L").getpixel((0, 128)) == pytest.approx(255, abs=8)


def test_a_transparent_image_that_is_too_large_as_png_becomes_webp() -> None:
    fitted = fit_image(encoded(noise(200, 100, "RGBA"), "PNG"), max_bytes=40_000)
    assert fitted.mime_type == "image/webp"
    assert opened(fitted).mode == "RGBA"


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_of_several_frames_the_first_is_taken(format_: str) -> None:
    later = [Image.new("RGB", (48, 32), "black")]
    data = encoded(quarters(), format_, save_all=True, append_images=later)
    assert colours(opened(fit_image(data, max_bytes=ROOMY))) == ["red", "lime", "blue", "white"]


@pytest.mark.parametrize(
    ("mode", "quality", "subsampling"), [("L", 75, 0), ("RGB", 40, 2), ("RGB", 75, 1), ("RGB", 97, 0), ("RGB", 100, 0)]
)
def test_a_jpeg_that_fits_keeps_its_quality(mode: str, quality: int, subsampling: int) -> None:
    data = encoded(noise(160, 160).convert(mode), "JPEG", quality=quality, subsampling=subsampling)
    before = Image.open(BytesIO(data))
    after = opened(fit_image(data, max_bytes=ROOMY))
    assert vars(after)["quantization"] == vars(before)["quantization"]
    assert get_sampling(after) == get_sampling(before)


def test_a_jpeg_with_damaged_exif_data_is_taken_as_it_is_without_a_warning() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\xff\xff\0\0\xff\xff"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert colours(opened(fit_image(encoded(quarters(), "JPEG", exif=exif), max_bytes=ROOMY)))[0] == "red"


@pytest.mark.parametrize(
    ("format_", "max_bytes", "mime_type", "width"),
    [
        ("PNG", 1_000_000, "image/png", 400),
        ("PNG", 120_000, "image/jpeg", 400),
        ("PNG", 60_000, "image/jpeg", 400),
        ("PNG", 20_000, "image/jpeg", 240),
        ("PNG", 2_000, "image/jpeg", 70),
        ("JPEG", 1_000_000, "image/jpeg", 400),
        ("JPEG", 60_000, "image/jpeg", 400),
        ("BMP", 20_000, "image/jpeg", 240),
        ("TIFF", 120_000, "image/jpeg", 400),
    ],
)
def test_quality_is_given_up_before_pixels_are(format_: str, max_bytes: int, mime_type: str, width: int) -> None:
    fitted = fit_image(encoded(noise(400, 300), format_), max_bytes=max_bytes)
    assert max_bytes * 0.5 < len(fitted.data) <= max_bytes or max_bytes == ROOMY
    assert fitted.mime_type == mime_type
    assert fitted.width == pytest.approx(width, rel=0.1)
    assert fitted.height == pytest.approx(fitted.width * 3 / 4, abs=1)
    opened(fitted)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((100, 50), 100, (100, 50)),
        ((101, 50), 100, (100, 50)),
        ((50, 1000), 100, (5, 100)),
        ((3000, 2), 100, (100, 1)),
        ((2, 3000), 100, (1, 100)),
        ((1, 1), 100, (1, 1)),
    ],
)
def test_the_longest_side_is_reduced_first(size: tuple[int, int], max_side: int, expected: tuple[int, int]) -> None:
    for format_ in ("JPEG", "PNG"):
        data = encoded(Image.new("RGB", size, "navy"), format_)
        assert opened(fit_image(data, max_bytes=ROOMY, max_side=max_side)).size == expected
        assert Image.open(BytesIO(thumbnail(data, max_side=max_side))).size == expected


@pytest.mark.slow
def test_a_photo_of_24_megapixels_fits() -> None:
    data = encoded(noise(750, 500).resize((6000, 4000), Image.Resampling.NEAREST), "JPEG")
    fitted = fit_image(data, max_bytes=500_000)
    assert 300_000 < len(fitted.data) <= 500_000
    assert fitted.width / fitted.height == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize(("format_", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("WEBP", "RGBA"), ("TIFF", "CMYK")])
def test_the_same_input_makes_the_same_bytes_and_a_result_keeps_its_size(format_: str, mode: str) -> None:
    data = encoded(noise(120, 90, mode), format_)
    assert thumbnail(data) == thumbnail(data)
    for max_bytes in (ROOMY, 10_000):
        fitted = fit_image(data, max_bytes=max_bytes)
        assert fit_image(data, max_bytes=max_bytes) == fitted
        again = fit_image(fitted.data, max_bytes=ROOMY)
        assert (again.width, again.height) == (fitted.width, fitted.height)


SAMPLES = [
    encoded(noise(13, 9), "JPEG", exif=b"Exif\0\0" + Image.Exif().tobytes(), icc_profile=SRGB[:600]),
    encoded(noise(13, 9), "JPEG", progressive=True, comment="x"),
    encoded(noise(13, 9, "CMYK"), "JPEG"),
    encoded(noise(13, 9), "MPO", save_all=True, append_images=[noise(13, 9)]),
    encoded(noise(13, 9, "RGBA"), "PNG", icc_profile=SRGB),
    encoded(noise(13, 9).quantize(40), "PNG", transparency=3),
    encoded(noise(13, 9, "RGBA"), "PNG", save_all=True, append_images=[noise(13, 9, "RGBA")]),
    encoded(noise(13, 9, "RGBA"), "WEBP", lossless=True),
    encoded(noise(13, 9), "WEBP", save_all=True, append_images=[noise(13, 9)]),
    encoded(noise(13, 9).quantize(40), "GIF", transparency=3),
    encoded(noise(13, 9), "TIFF"),
    encoded(noise(13, 9), "TIFF", compression="tiff_lzw"),
    encoded(noise(13, 9).quantize(40), "BMP"),
]


@st.composite
def damaged_images(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    # Most of what a reader acts on stands at the beginning.
    positions = st.integers(0, 99) | st.integers(0, len(data) - 1)
    for position, value in draw(st.lists(st.tuples(positions, st.integers(0, 255)), max_size=4)):
        data[position] = value
    return bytes(data[: draw(st.none() | st.integers(0, len(data)))])


@settings(max_examples=4 * settings().max_examples)
@given(st.binary(max_size=200) | damaged_images(), st.sampled_from([ROOMY, 2_000]), st.sampled_from([4000, 7]))
def test_any_bytes_become_a_fitting_image_or_are_refused(data: bytes, max_bytes: int, max_side: int) -> None:
    # So that a header that is damaged into a large size costs no time here.
    with mock.patch.object(images, "_MAX_PIXELS", 1_000_000), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            fitted = fit_image(data, max_bytes=max_bytes, max_side=max_side)
        except InvalidInput as refusal:
            assert refusal.field == "image"  # noqa: PT017 - either is right
        else:
            assert len(fitted.data) <= max_bytes
            assert max(fitted.width, fitted.height) <= max_side
            opened(fitted)


def chunk(kind: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    """A chunk of a PNG, whose checksum may be wrong."""
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if checksum is None else checksum)


def with_chunk(added: bytes) -> bytes:
    """A red PNG with one more chunk behind its header."""
    png = encoded(Image.new("RGB", (4, 4), "red"), "PNG")
    return png[:33] + added + png[33:]


METADATA = {
    "a long text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 2_000_000)),
    "a long profile": chunk(b"iCCP", b"ICC\0\0" + zlib.compress(b"x" * 2_000_000)),
    "a profile that is none": chunk(b"iCCP", b"ICC\0\0garbage"),
    "a text with a wrong checksum": chunk(b"tEXt", b"Comment\0x", checksum=1),
    "a resolution with a wrong checksum": chunk(b"pHYs", struct.pack(">IIB", 1, 1, 1), checksum=1),
    "a profile with a wrong checksum": chunk(b"iCCP", b"ICC\0\0" + zlib.compress(SRGB), checksum=1),
}


@pytest.mark.parametrize("name", METADATA)
def test_what_no_viewer_needs_keeps_no_png_from_being_read(name: str) -> None:
    fitted = fit_image(with_chunk(METADATA[name]), max_bytes=ROOMY)
    assert Image.open(BytesIO(fitted.data)).convert("RGB").getpixel((1, 1)) == (255, 0, 0)


def test_a_png_whose_picture_is_damaged_is_refused() -> None:
    png = bytearray(encoded(noise(40, 40), "PNG"))
    png[len(png) // 2] ^= 0xFF
    with pytest.raises(InvalidInput, match="damaged or cut off"):
        fit_image(bytes(png), max_bytes=ROOMY)


def test_an_avif_is_read() -> None:
    fitted = fit_image(encoded(Image.new("RGB", (32, 32), "red"), "AVIF"), max_bytes=ROOMY)
    assert fitted.mime_type == "image/jpeg"


def test_deep_grey_with_a_transparent_colour_stays_transparent() -> None:
    rows = b"".join(b"\0" + struct.pack(">4H", 0, 20_000, 40_000, 65_535) for _ in range(4))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 0, 0, 0, 0))
    image = chunk(b"tRNS", struct.pack(">H", 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    fitted = fit_image(b"\x89PNG\r\n\x1a\n" + header + image, max_bytes=ROOMY)
    pixels = Image.open(BytesIO(fitted.data)).convert("RGBA")
    assert [pixels.getpixel((x, 0)) for x in range(4)] == [
        (0, 0, 0, 0),
        (77, 77, 77, 255),
        (155, 155, 155, 255),
        (255, 255, 255, 255),
    ]
