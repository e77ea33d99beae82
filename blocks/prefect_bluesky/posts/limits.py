"""The limits of a post, from the lexicons and the Bluesky app."""

MAX_GRAPHEMES = 300
MAX_BYTES = 3000
"""Both from lexicons/app/bsky/feed/post.json, as are the limits of three languages and eight tags."""

MAX_IMAGES = 10
"""The images that Bluesky's apps show in a gallery (lexicons/app/bsky/embed/gallery.json). The lexicon allows 20."""

MAX_POSTS = 100
"""Posts in a thread. A commit takes 200 writes and 1 MB of JSON, so each of a hundred posts may take 10 kB."""
