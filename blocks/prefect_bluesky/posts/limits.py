"""LoginPolicy of a post, from the lexicons and the Bluesky app."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


MAX_GRAPHEMES = 300


MAX_BYTES = 3000
"""Both from lexicons/app/bsky/feed/post.json, as are three languages and eight tags."""


MAX_IMAGES = 10
"""What Bluesky's apps show of a gallery (lexicons/app/bsky/embed/gallery.json); the lexicon itself allows 20."""


MAX_POSTS = 100
"""Posts in a thread. A commit takes 200 writes and 1 MB of JSON: of a hundred posts, each may take 10 kB."""
