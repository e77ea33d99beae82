"""Turn one idea into a variant for each channel: read it, draft, review, publish or schedule.

Drafts come from templates or from a model; a person reviews them before they go out.
"""

from prefect_bluesky.compose.ai import AIGenerator
from prefect_bluesky.compose.feeds import Item, read_items
from prefect_bluesky.compose.idea import Idea, read_idea, read_idea_file
from prefect_bluesky.compose.kept import keep_approved, keep_drafts, kept_approved, kept_drafts
from prefect_bluesky.compose.plan import ComposePlan, Generator, PlannedVariant, Timing, compose_idea
from prefect_bluesky.compose.review import ask_for_review, counts, remarks, shown
from prefect_bluesky.compose.templates import TemplateGenerator

__all__ = [
    "AIGenerator",
    "ComposePlan",
    "Generator",
    "Idea",
    "Item",
    "PlannedVariant",
    "TemplateGenerator",
    "Timing",
    "ask_for_review",
    "compose_idea",
    "counts",
    "keep_approved",
    "keep_drafts",
    "kept_approved",
    "kept_drafts",
    "read_idea",
    "read_idea_file",
    "read_items",
    "remarks",
    "shown",
]
