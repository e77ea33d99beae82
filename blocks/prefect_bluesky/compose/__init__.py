"""Turn one idea into a variant for each channel: read it, draft, review, publish or schedule.

Drafts come from templates or from a model; a person reviews them before they go out.
"""

from prefect_bluesky.compose.ai import AIGenerator
from prefect_bluesky.compose.feeds import Item, read_items
from prefect_bluesky.compose.idea import Idea, read_idea, read_idea_file
from prefect_bluesky.compose.plan import ComposePlan, Generator, PlannedVariant, Timing, compose_idea
from prefect_bluesky.compose.review import panel
from prefect_bluesky.compose.run import load_channels, load_generator, load_idea, no_channels, run_compose
from prefect_bluesky.compose.templates import TemplateGenerator

# fmt: off
__all__ = [
    "AIGenerator", "ComposePlan", "Generator", "Idea", "Item", "PlannedVariant", "TemplateGenerator", "Timing",
    "compose_idea", "load_channels", "load_generator", "load_idea", "no_channels", "panel", "read_idea",
    "read_idea_file", "read_items", "run_compose",
]
# fmt: on
