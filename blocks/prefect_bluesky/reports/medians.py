"""Find when and how posts do best: by median, as one post that many people like says little of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median
from zoneinfo import ZoneInfo

from prefect_bluesky.reports.engagement import PostCounts


@dataclass(frozen=True)
class Group:
    """Posts that have something in common.

    Attributes:
        name: what they have in common, such as `09:00` or `images`.
        count: how many posts there are. A median of few says little.
        median: the median of what readers did with a post.
    """

    name: str
    count: int
    median: float


def by_hour(posts: Iterable[PostCounts], zone: ZoneInfo) -> list[Group]:
    """Return the posts by the hour of the day in a time zone, the best first."""
    return _grouped(posts, lambda post: f"{post.at.astimezone(zone):%H}:00")


def by_kind(posts: Iterable[PostCounts]) -> list[Group]:
    """Return the posts by their kind, the best first."""
    return _grouped(posts, lambda post: post.kind)


def _grouped(posts: Iterable[PostCounts], name_of: Callable[[PostCounts], str]) -> list[Group]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for post in posts:
        found[name_of(post)].append(post.total)
    groups = [Group(name, len(totals), float(median(totals))) for name, totals in found.items()]
    return sorted(groups, key=lambda group: (-group.median, -group.count, group.name))
