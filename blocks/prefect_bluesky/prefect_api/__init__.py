"""Wrap the parts of Prefect that this package uses: its API, the current run, blocks, forms and artifacts.

Nothing here knows of Bluesky.
"""

from prefect_bluesky.prefect_api.artifact_text import escape_markdown, literal_markdown, markdown_paragraph, table_cell
from prefect_bluesky.prefect_api.blocks import load_block
from prefect_bluesky.prefect_api.client import API_TROUBLE, api_client, tolerated
from prefect_bluesky.prefect_api.context import api_at_hand, in_run, logger
from prefect_bluesky.prefect_api.forms import as_block_form, as_form
from prefect_bluesky.prefect_api.run_names import named
from prefect_bluesky.prefect_api.run_notes import all_noted, keeps_notes, note, noted, pause_answer, run_id

__all__ = [
    "API_TROUBLE",
    "all_noted",
    "api_at_hand",
    "api_client",
    "as_block_form",
    "as_form",
    "escape_markdown",
    "in_run",
    "keeps_notes",
    "literal_markdown",
    "load_block",
    "logger",
    "markdown_paragraph",
    "named",
    "note",
    "noted",
    "pause_answer",
    "run_id",
    "table_cell",
    "tolerated",
]
