"""Make images fit for a post: decode and check them, turn them upright, drop metadata, make them small enough."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from io import BytesIO
from math import inf, sqrt
from typing import TYPE_CHECKING, cast

from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.media.jpeg import with_end
from prefect_bluesky.media.png import necessary_chunks
from prefect_bluesky.web import title_of

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Pillow reads many more formats, but their readers are seldom tested, and the one for EPS runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")


@cache
def _formats() -> tuple[str, ...]:
    from PIL import features

    return (*_FORMATS, "AVIF") if features.check("avif") else _FORMATS


# Decoded, so many pixels take up to 400 MB, and more while they are scaled: a small worker would be killed.
_MAX_PIXELS = 100_000_000

# Raised by Pillow for damaged files (found by fuzzing).
_DAMAGE = (OSError, SyntaxError, ValueError, TypeError, AssertionError, OverflowError)

_QUALITIES = (90, 85, 80, 75, 70, 65, 60)  # of JPEG and WebP; below these, fewer pixels look better
_THUMBNAIL_QUALITY = 80
_ORIENTATION, _UPRIGHT = 0x0112, 1  # the EXIF tag, and its value for an image that is not turned


@dataclass(frozen=True)
class FittedImage:
    """An image that can be uploaded as it is: JPEG, PNG or WebP; width and height in pixels."""

    data: bytes = field(repr=False)
    mime_type: str
    width: int
    height: int


def fit_image(data: bytes, *, max_bytes: int, max_side: int = 4000) -> FittedImage:
    """Decode, check, turn upright, strip and re-encode an image so that it fits.

    The same input gives the same bytes each time, so that another attempt at a post finds the blob of the first.

    `data` is a JPEG, PNG, WebP, GIF, TIFF, BMP or (where Pillow reads it) AVIF file, of whose frames the first is
    taken. The result has at most `max_bytes`, and `max_side` pixels a side (at most 16383, the maximum of WebP).

    Raises:
        InvalidInput: the file is no such image, is damaged, is too large to decode, or cannot be made to fit.
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
    """Return a small JPEG for previews, white where the image is transparent; raises as `fit_image`."""
    import PIL.Image

    with _reading(data):
        image = _prepared(*_decoded(data, max_side))
    if image.mode == "RGBA":
        white = PIL.Image.new("RGBA", image.size, "white")
        image = PIL.Image.alpha_composite(white, image).convert("RGB")
    return _jpeg(image, _THUMBNAIL_QUALITY)


@contextmanager
def _reading(data: bytes) -> Iterator[None]:
    """Turn each error of Pillow's about a file into an InvalidInput."""
    import PIL.Image

    if not data:
        raise InvalidInput("image", "the file is empty.", "Give the content of a JPEG or PNG file.")
    with warnings.catch_warnings():
        # A narrow filter: filters are process-wide, and two threads that meet here may leave this one behind.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            yield
        except PIL.UnidentifiedImageError:
            raise InvalidInput("image", *_why_unreadable(data)) from None
        except PIL.Image.DecompressionBombError:
            raise _too_large() from None
        except _DAMAGE:
            raise InvalidInput("image", "the file is damaged or cut off.", "Save it again.") from None


def _why_unreadable(data: bytes) -> tuple[str, str]:
    """Return the reason why a file is no usable image, and the remedy."""
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"version https://git-lfs"):
        return "the file is a pointer of Git LFS, and not the image.", "Fetch the image: git lfs pull."
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<title")):
        title = title_of(data)
        return (
            f"the file is a web page{f', “{title}”' if title else ''}, and no image.",
            "Give the image's own address.",
        )
    kind = _foreign_kind(data)
    reason = f"{kind} cannot be read." if kind else "the file is no image, or of a kind that cannot be read."
    return reason, "Save it as JPEG or PNG."


def _foreign_kind(data: bytes) -> str | None:
    """Return the name of a known but unsupported format, or None."""
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
    return InvalidInput("image", f"the image has more than {limit} million pixels.", "Scale it down.")


def _decoded(data: bytes, max_side: int) -> tuple[ImageFile, tuple[int, int]]:
    """Return the image as it is stored, and the size that it shall have."""
    import PIL.Image

    source = PIL.Image.open(BytesIO(necessary_chunks(data)), formats=_formats())
    if source.width * source.height > _MAX_PIXELS:
        raise _too_large()
    size = _within(source.size, max_side)
    source.draft(None, size)  # a JPEG of at least twice the size is decoded at half its size, or less
    try:
        source.load()  # completely: a PDS answers 500 to a file that ends early
    except OSError:
        if (complete := with_end(data)) is None:
            raise
        return _decoded(complete, max_side)
    return source, size


def _is_plain_jpeg(source: ImageFile) -> bool:
    """Return whether nothing but the metadata has to change."""
    return (
        source.format == "JPEG"
        and source.mode in {"L", "RGB"}
        and _orientation(source) == _UPRIGHT
        and "icc_profile" not in source.info
    )


def _prepared(source: ImageFile, size: tuple[int, int]) -> Image:
    """Return the image upright, scaled to `size` before it is turned, in sRGB; RGBA only if transparency shows."""
    from PIL import ImageOps

    image = _in_srgb(_scaled(_eight_bits(source), size), source.info.get("icc_profile"))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    if (orientation := _orientation(source)) == _UPRIGHT:
        return image
    image.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(image)


def _eight_bits(image: Image) -> Image:
    """Return an image of any mode as L, RGB, RGBA or CMYK."""
    from PIL import ImageMath

    transparent = image.info.get("transparency")
    if image.mode.startswith("I;16") and isinstance(transparent, int):
        opaque = ImageMath.lambda_eval(lambda of: (of["grey"] != transparent) * 255, grey=image.convert("I"))
        grey = _grey(image).convert("RGBA")
        grey.putalpha(opaque.convert("L"))
        return grey
    if image.mode in {"I", "F"} or image.mode.startswith("I;16"):
        return _grey(image)
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode in {"L", "RGB", "CMYK"}:
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _grey(image: Image) -> Image:
    """Return grey of more than 8 bits as L. Numbers without a scale span from black to white."""
    import PIL.Image

    if image.mode.startswith("I;16"):
        image, low, high = image.convert("I"), 0.0, 65535.0
    else:
        low, high = cast(tuple[float, float], image.getextrema())
    if not 0 < high - low < inf:
        return PIL.Image.new("L", image.size)  # all equal, or not all numbers
    scale = 255 / (high - low)
    return image.point(lambda value: value * scale - low * scale).convert("L")


def _in_srgb(image: Image, profile: object) -> Image:
    from PIL import ImageCms

    if isinstance(profile, bytes):  # a damaged TIFF may have a text here
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        # Viewers, too, ignore a profile that is damaged or for other colours than the image has.
        with suppress(ImageCms.PyCMSError):
            srgb = ImageCms.createProfile("sRGB")
            return cast("Image", ImageCms.profileToProfile(image, BytesIO(profile), srgb, outputMode=mode))
    return image.convert("RGB") if image.mode == "CMYK" else image


def _orientation(source: ImageFile) -> int:
    """Return the EXIF orientation, upright if the EXIF data is damaged: viewers show such an image as it is."""
    try:
        found = source.getexif().get(_ORIENTATION)
    except _DAMAGE:
        return _UPRIGHT
    return found if isinstance(found, int) and 1 < found <= 8 else _UPRIGHT


def _within(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    longest = max(size)
    if longest <= max_side:
        return size
    width, height = (max(1, round(side * max_side / longest)) for side in size)
    return width, height


def _scaled(image: Image, size: tuple[int, int]) -> Image:
    from PIL.Image import Resampling

    # The gap makes a large reduction fast and is invisible.
    return image if image.size == size else image.resize(size, Resampling.LANCZOS, reducing_gap=3)


def _compressed(image: Image, mime_type: str, max_bytes: int) -> FittedImage:
    """Encode with the best quality that fits; if none does, scale down until one does."""
    encode = {"image/jpeg": _jpeg, "image/webp": _webp}[mime_type]
    scaled = image
    while True:
        smallest = encode(scaled, _QUALITIES[-1])
        if len(smallest) <= max_bytes:
            best = _best(partial(encode, scaled), max_bytes) or smallest
            return FittedImage(best, mime_type, *scaled.size)
        # Bytes grow with pixels: aim a little above the least quality. Each round removes at least a tenth.
        factor = min(0.9, 0.9 * sqrt(max_bytes / len(smallest)))
        side = int(max(scaled.size) * factor)
        if side < 1:
            raise InvalidInput("image", f"the image cannot be made to fit into {max_bytes} bytes.", "Allow more bytes.")
        scaled = _scaled(image, _within(image.size, side))


def _best(encode: Callable[[int], bytes], max_bytes: int) -> bytes | None:
    """Return the result of the highest quality above the least that fits, found by halving."""
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
        file = BytesIO()  # pure noise at a high quality outgrows the buffer that Pillow reserves for these options
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
    """A file that would grow beyond its limit."""


class _SmallFile(BytesIO):
    """A file with a limit, which saves the time of compressing the rest of a large image."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, data: ReadableBuffer, /) -> int:
        written = super().write(data)
        if self.tell() > self._max_bytes:
            raise _TooMuchError
        return written
