"""Images made fit for a post: decoded and checked, turned upright, without metadata, and small enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from math import inf, sqrt
from typing import TYPE_CHECKING, cast

from prefect_bluesky.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from PIL.Image import Image, Transpose
    from PIL.ImageFile import ImageFile

# No others, though Pillow reads many more: their readers are seldom tried, and the one for EPS runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")

# Decoded, as many take up to 400 MB, and more while they are scaled: a small worker would be killed for it.
_MAX_PIXELS = 100_000_000

# What Pillow has been seen to raise for damaged files, when it was fuzzed: its readers take them at their word.
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, AssertionError, OverflowError)

_QUALITIES = (90, 85, 80, 75, 70, 65, 60)  # of JPEG and WebP; below these, fewer pixels look better
_THUMBNAIL_QUALITY = 80
_ORIENTATION = 0x0112  # the EXIF tag


@dataclass(frozen=True)
class FittedImage:
    """An image that can be uploaded as it is.

    Attributes:
        data: the file.
        mime_type: "image/jpeg", "image/png" or "image/webp".
        width: in pixels.
        height: in pixels.
    """

    data: bytes = field(repr=False)
    mime_type: str
    width: int
    height: int


def fit_image(data: bytes, *, max_bytes: int, max_side: int = 4000) -> FittedImage:
    """Decode, check, turn upright, strip and re-encode an image so that it fits.

    The same input makes the same bytes each time, so that another attempt at a post finds the blob of the first.

    Args:
        data: a JPEG, PNG, WebP, GIF, TIFF or BMP file; of several frames the first counts.
        max_bytes: what the result is to fit into.
        max_side: the longest side of the result in pixels; at most 16383, as WebP holds no more.

    Raises:
        InvalidInput: it is no such file, damaged, too large to decode, or cannot be made to fit.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (300, 200)).save(file, "PNG")
        >>> fit_image(file.getvalue(), max_bytes=976 * 1024)
        FittedImage(mime_type='image/png', width=300, height=200)
    """
    with _reading(data):
        source, size = _decoded(data, max_side)
        if len(data) <= max_bytes and source.size == size and _is_plain_jpeg(source):
            kept = _jpeg(source, "keep")
            if len(kept) <= max_bytes:
                return FittedImage(kept, "image/jpeg", *source.size)
        image = _prepared(source, size)
    transparent = image.mode == "RGBA"
    if transparent or source.format == "PNG":
        png = _png(image, max_bytes)
        if png is not None:
            return FittedImage(png, "image/png", *image.size)
    return _compressed(image, "image/webp" if transparent else "image/jpeg", max_bytes)


def thumbnail(data: bytes, *, max_side: int = 320) -> bytes:
    """A small JPEG for previews, with white where the image is transparent.

    Args:
        data: as `fit_image`.
        max_side: the longest side of the result in pixels.

    Raises:
        InvalidInput: as `fit_image`.
    """
    import PIL.Image

    with _reading(data):
        image = _prepared(*_decoded(data, max_side))
    if image.mode == "RGBA":
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image).convert("RGB")
    return _jpeg(image, _THUMBNAIL_QUALITY)


@contextmanager
def _reading(data: bytes) -> Iterator[None]:
    """Whatever Pillow has to say about a file it reads, as an error of ours."""
    import PIL.Image

    if not data:
        raise InvalidInput("image", "it is empty.", "Give the content of a JPEG or PNG file.")
    with warnings.catch_warnings():
        # Narrow, as filters are the whole process's: two threads that cross here may leave this one behind.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        except PIL.UnidentifiedImageError:
            kind = _foreign_kind(data)
            reason = f"{kind} cannot be read." if kind else "it is no image, or of a kind that cannot be read."
            raise InvalidInput("image", reason, "Save it as JPEG or PNG.") from None
        except PIL.Image.DecompressionBombError:
            raise _too_large() from None
        except _DAMAGE:
            raise InvalidInput("image", "it is damaged or cut off.", "Get the file again, or save it anew.") from None


def _foreign_kind(data: bytes) -> str | None:
    """What people take for a usable image all the same, by its name."""
    head = data[:4096].lower()
    if head[4:8] == b"ftyp":
        brands = {head[start : start + 4] for start in range(8, 64, 4)}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & {b"heic", b"heix", b"hevc", b"mif1", b"msf1"}:
            return "HEIC"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<") and b"<svg" in head and b"<html" not in head:
        return "SVG"
    return None


def _too_large() -> InvalidInput:
    limit = _MAX_PIXELS // 1_000_000
    return InvalidInput("image", f"it has more pixels than the {limit} million that are decoded.", "Scale it down.")


def _decoded(data: bytes, max_side: int) -> tuple[ImageFile, tuple[int, int]]:
    """The image as it is stored, and the size it is to have."""
    import PIL.Image

    source = PIL.Image.open(BytesIO(data), formats=_FORMATS)
    if source.width * source.height > _MAX_PIXELS:
        raise _too_large()
    size = _within(source.size, max_side)
    source.draft(None, size)  # a JPEG that is at least twice as large is decoded at half its size, or less, right away
    source.load()  # all of it: a PDS answers 500 to a file that ends early
    return source, size


def _is_plain_jpeg(source: ImageFile) -> bool:
    """Whether nothing but its metadata has to change."""
    return (
        source.format == "JPEG"
        and source.mode in {"L", "RGB"}
        and _turn(source) is None
        and "icc_profile" not in source.info
    )


def _prepared(source: ImageFile, size: tuple[int, int]) -> Image:
    """Upright, of this size before it is turned, in sRGB, and transparent (RGBA) only if it shows: else RGB or L."""
    image = _in_srgb(_scaled(_eight_bits(source), size), source.info.get("icc_profile"))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    turn = _turn(source)
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image) -> Image:
    """An image of any mode as L, RGB, RGBA or CMYK."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _grey(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in {"L", "RGB", "CMYK"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _grey(image: Image) -> Image:
    """Grey of more than 8 bits as L. Numbers without a scale of their own span from black to white."""
    import PIL.Image

    if image.mode.startswith("I;16"):
        image, low, high = image.convert("I"), 0.0, 65535.0
    else:
        low, high = cast(tuple[float, float], image.getextrema())
    if not 0 < high - low < inf:
        return PIL.Image.new("L", image.size)  # all the same, or not all of them numbers
    scale = 255 / (high - low)
    return image.point(lambda value: value * scale - low * scale).convert("L")


def _in_srgb(image: Image, profile: object) -> Image:
    from PIL import ImageCms

    if isinstance(profile, bytes):  # a damaged TIFF may have a text here
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        # A profile that is damaged, or for other colours than the image has, is ignored as viewers do.
        with suppress(ImageCms.PyCMSError):
            srgb = ImageCms.createProfile("sRGB")
            return cast("Image", ImageCms.profileToProfile(image, BytesIO(profile), srgb, outputMode=mode))
    return image.convert("RGB") if image.mode == "CMYK" else image


def _turn(source: ImageFile) -> Transpose | None:
    """What turns the image upright, by its EXIF data; None if it is."""
    from PIL.Image import Transpose

    try:
        orientation = source.getexif().get(_ORIENTATION)
    except _DAMAGE:
        return None  # viewers show an image with damaged EXIF data as it is
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return turns.get(orientation) if isinstance(orientation, int) else None


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    longest = max(size)
    if longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    # The gap makes a large reduction fast, and cannot be seen.
    return image if image.size == size else image.resize(size, Resampling.LANCZOS, reducing_gap=3)


def _compressed(image: Image, mime_type: str, max_bytes: int) -> FittedImage:
    """With the best quality that fits; if none does, scaled down until one does."""
    encode = {"image/jpeg": _jpeg, "image/webp": _webp}[mime_type]
    scaled = image
    while True:
        smallest = encode(scaled, _QUALITIES[-1])
        if len(smallest) <= max_bytes:
            best = _best(partial(encode, scaled), max_bytes) or smallest
            return FittedImage(best, mime_type, *scaled.size)
        # Bytes grow with pixels: aim at some more than the least quality. Each round takes a tenth off at least.
        factor = min(0.9, 0.9 * sqrt(max_bytes / len(smallest)))
        side = int(max(scaled.size) * factor)
        if side < 1:
            raise InvalidInput("image", f"it cannot be made to fit into {max_bytes} bytes.", "Allow more of them.")
        scaled = _scaled(image, _within(image.size, side))


def _best(encode: Callable[[int], bytes], max_bytes: int) -> bytes | None:
    """The result of the highest quality above the least that fits, by halving."""
    best = None
    first, last = 0, len(_QUALITIES) - 1
    while first < last:
        middle = (first + last) // 2
        encoded = encode(_QUALITIES[middle])
        if len(encoded) <= max_bytes:
            best, last = encoded, middle
        else:
            first = middle + 1
    return best


def _jpeg(image: Image, quality: int | str) -> bytes:
    image.info = {}  # Pillow would write a comment from here
    file = BytesIO()
    try:
        image.save(file, "JPEG", quality=quality, optimize=True, progressive=True)
    except OSError:
        file = BytesIO()  # pure noise at a high quality: it outgrows the buffer that Pillow reserves for these options
        image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _webp(image: Image, quality: int) -> bytes:
    file = BytesIO()
    image.info = {}  # Pillow would write a colour profile from here
    image.save(file, "WEBP", quality=quality)
    return file.getvalue()


def _png(image: Image, max_bytes: int) -> bytes | None:
    file = _SmallFile(max_bytes)
    image.info = {}  # Pillow would write a colour profile from here
    try:
        image.save(file, "PNG", optimize=True)
    except _TooMuchError:
        return None
    return file.getvalue()


class _TooMuchError(Exception):
    """A file would grow beyond its limit."""


class _SmallFile(BytesIO):
    """A file with a limit, which spares the time to compress the rest of a large image."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: ReadableBuffer, /) -> int:
        written = super().write(data)
        if self.tell() > self._max_bytes:
            raise _TooMuchError
        return written
