"""Read files from paths, URLs and storage blocks, and make images and Markdown usable.

Only bytes and texts are handled here; uploading them is the business of `publishing`.
"""

from prefect_bluesky.media.files import (
    File,
    is_url,
    map_file,
    missing_files,
    read_file,
    read_url,
    read_web_page,
    resolve_files,
)
from prefect_bluesky.media.front_matter import FENCE, is_draft, split_front_matter
from prefect_bluesky.media.gif import gif_size, is_gif
from prefect_bluesky.media.images import fit_image, thumbnail
from prefect_bluesky.media.markdown import Written, read_markdown
from prefect_bluesky.media.mp4 import is_mp4, picture_size
from prefect_bluesky.media.strict_yaml import yaml_content

# fmt: off
__all__ = [
    "FENCE", "File", "Written", "fit_image", "gif_size", "is_draft", "is_gif", "is_mp4", "is_url", "map_file",
    "missing_files", "picture_size", "read_file", "read_markdown", "read_url", "read_web_page", "resolve_files",
    "split_front_matter", "thumbnail", "yaml_content",
]
# fmt: on
