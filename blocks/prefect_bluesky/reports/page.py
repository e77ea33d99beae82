"""The page of a report: a picture of the hours, the best hours and kinds, and a table of the posts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import BytesIO
from zoneinfo import ZoneInfo

from prefect_bluesky.prefect_api import escape_markdown, shorten
from prefect_bluesky.reports.engagement import PostCounts
from prefect_bluesky.reports.medians import Group, by_hour, by_kind

_MOST_ROWS = 200
_BAR, _GAP, _MARGIN, _HEIGHT, _LINE = 48, 10, 40, 320, 44
"""Pixels, two for each that a screen shows."""

_DARK, _GREY, _COLOUR = "#1f2328", "#59636e", "#1185fe"


def report_page(posts: Sequence[PostCounts], span: str, zone: ZoneInfo, problems: Iterable[str] = ()) -> str:
    """Return a report as Markdown.

    Args:
        posts: the posts, the newest first.
        span: the span of time in words, such as `7 days`.
        zone: the time zone of hours and times.
        problems: why some accounts have no figures.
    """
    totals = [sum(getattr(post, name) for post in posts) for name in ("likes", "reposts", "replies", "quotes")]
    likes, reposts, replies, quotes = totals
    counted = f"{likes:,} likes, {reposts:,} reposts, {replies:,} replies, {quotes:,} quotes"
    lines = ["# How posts did", f"**{len(posts)} posts in {span}: {counted}.**"]
    lines += [f"Not counted: {escape_markdown(problem)}" for problem in problems]
    if not posts:
        return "\n\n".join(lines) + "\n"
    hours = by_hour(posts, zone)
    data = b64encode(picture(hours)).decode()
    lines.append(f"![What readers did with a post, by the hour in {zone.key}](data:image/png;base64,{data})")
    for title, groups in ((f"Hours ({zone.key})", hours), ("Kinds", by_kind(posts))):
        rows = [f"| {group.name} | {group.median:g} | {group.count} |" for group in groups]
        lines += [f"## {title}", "\n".join(["| | median of a post | posts |", "|---|---|---|", *rows])]
    columns = ["when", "account", "post", "kind", "likes", "reposts", "replies", "quotes"]
    header = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    rows = [
        f"| {post.at.astimezone(zone):%Y-%m-%d\N{NO-BREAK SPACE}%H:%M} | {post.account} |"
        f" [{escape_markdown(shorten(post.text) or 'without text')}](<{post.url}>) | {post.kind} |"
        f" {post.likes} | {post.reposts} | {post.replies} | {post.quotes} |"
        for post in posts[:_MOST_ROWS]
    ]
    more = [f"And {len(posts) - _MOST_ROWS:,} more: use `--csv`."] if len(posts) > _MOST_ROWS else []
    return "\n\n".join([*lines, "## Posts", "\n".join([*header, *rows]), *more]) + "\n"


def report_rows(posts: Iterable[PostCounts], zone: ZoneInfo) -> list[list[str]]:
    """Return the posts as rows of a CSV, with a header."""
    header = ["when", "account", "text", "kind", "likes", "reposts", "replies", "quotes", "address"]
    return [
        header,
        *(
            [
                f"{post.at.astimezone(zone):%Y-%m-%d %H:%M}",
                post.account,
                post.text,
                post.kind,
                *(str(count) for count in (post.likes, post.reposts, post.replies, post.quotes)),
                post.url,
            ]
            for post in posts
        ),
    ]


def picture(hours: Iterable[Group]) -> bytes:
    """Return a PNG with a bar for each hour of the day: the median, with the number of posts below."""
    from PIL import Image, ImageDraw, ImageFont  # only pages need it

    of = {group.name: group for group in hours}
    most = max((group.median for group in of.values()), default=0) or 1
    font = ImageFont.load_default(24)
    size = 2 * _MARGIN + 24 * (_BAR + _GAP), _MARGIN + _HEIGHT + 3 * _LINE
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    floor = _MARGIN + _HEIGHT
    for hour in range(24):
        left = _MARGIN + hour * (_BAR + _GAP)
        middle = left + _BAR / 2
        group = of.get(f"{hour:02}:00")
        if group:
            top = floor - max(4, (_HEIGHT - _LINE) * group.median / most)
            draw.rounded_rectangle((left, top, left + _BAR, floor), radius=4, fill=_COLOUR)
            draw.text((middle, top - 4), f"{group.median:g}", font=font, fill=_DARK, anchor="mb")
            draw.text((middle, floor + _LINE * 1.5), f"{group.count}", font=font, fill=_GREY, anchor="mm")
        draw.text((middle, floor + _LINE / 2), f"{hour:02}", font=font, fill=_DARK, anchor="mm")
    legend = "hour and number of posts; bars: the median of likes, reposts, replies and quotes of a post"
    draw.text((_MARGIN, floor + _LINE * 2.5), legend, font=font, fill=_GREY, anchor="lm")
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
