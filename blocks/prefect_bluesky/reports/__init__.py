"""Report how posts did: the likes, reposts, replies and quotes of what is out, and when and how posts do best."""

from prefect_bluesky.reports.engagement import PostCounts, read_counts
from prefect_bluesky.reports.medians import Group, by_hour, by_kind
from prefect_bluesky.reports.page import report_page, report_rows

# fmt: off
__all__ = [
    "Group", "PostCounts", "by_hour", "by_kind", "read_counts", "report_page", "report_rows",
]
# fmt: on
