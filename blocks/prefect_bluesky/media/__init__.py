"""Read files from paths, URLs and storage blocks, and make images and Markdown usable.

Only bytes and texts are handled here; uploading them is the business of `publishing`.
"""

from prefect_bluesky.media.files import File, is_url, read_file, read_url, resolve_files
from prefect_bluesky.media.images import fit_image, thumbnail
from prefect_bluesky.media.markdown import FENCE, plain_text, without_images, yaml_content
from prefect_bluesky.media.mp4 import is_mp4, picture_size

# fmt: off
__all__ = [
    "FENCE", "File", "fit_image", "is_mp4", "is_url", "picture_size", "plain_text", "read_file", "read_url",
    "resolve_files", "thumbnail", "without_images", "yaml_content",
]
# fmt: on
