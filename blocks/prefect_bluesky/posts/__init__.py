"""Describe what a person writes: posts, threads, attachments, their limits, their rich text and their preview.

A `Post` is validated here and sent by `publishing`.
"""

from prefect_bluesky.posts.attachments import Captions, Image, LinkCard, Video, is_web_address
from prefect_bluesky.posts.language import normal_language
from prefect_bluesky.posts.limits import MAX_BYTES, MAX_GRAPHEMES, MAX_IMAGES, MAX_POSTS
from prefect_bluesky.posts.post import NOBODY, REPLY_RULES, Post, ThreadPost
from prefect_bluesky.posts.preview import Preview, preview_without_account
from prefect_bluesky.posts.richtext import (
    SHOWN,
    WRITTEN,
    Entity,
    Measure,
    count_graphemes,
    find_entities,
    rich_text,
    tidy,
    trimmed,
)
from prefect_bluesky.posts.sentences import PARAGRAPHS, sentence_ends, sentences
from prefect_bluesky.posts.split import split_text
from prefect_bluesky.posts.times import Time, in_utc
from prefect_bluesky.posts.wording import OF_A_FORM, in_words_of_a_shell, usable

# fmt: off
__all__ = [
    "Captions", "Entity", "Image", "LinkCard", "MAX_BYTES", "MAX_GRAPHEMES", "MAX_IMAGES", "MAX_POSTS", "Measure",
    "NOBODY", "OF_A_FORM", "PARAGRAPHS", "Post", "Preview", "REPLY_RULES", "SHOWN", "ThreadPost", "Time", "Video",
    "WRITTEN", "count_graphemes", "find_entities", "in_utc", "in_words_of_a_shell", "is_web_address",
    "normal_language", "preview_without_account", "rich_text", "sentence_ends", "sentences", "split_text", "tidy",
    "trimmed", "usable",
]
# fmt: on
