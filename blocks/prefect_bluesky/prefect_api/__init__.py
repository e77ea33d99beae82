"""Wrap the parts of Prefect that this package uses: its API, the current run, blocks, forms and artifacts.

Nothing here knows of Bluesky.
"""

from prefect_bluesky.prefect_api.artifact_text import escape_markdown, literal_markdown, markdown_paragraph, table_cell
from prefect_bluesky.prefect_api.blocks import block_name, given_block, load_block, name_with_type, read_block_documents
from prefect_bluesky.prefect_api.client import (
    API_TROUBLE,
    api_client,
    ignoring_api_trouble,
    standard_time,
    until_answered,
)
from prefect_bluesky.prefect_api.context import api_at_hand, current_flow_run, in_run, in_server, logger
from prefect_bluesky.prefect_api.final_states import ended, failed
from prefect_bluesky.prefect_api.forms import as_block_form, as_form
from prefect_bluesky.prefect_api.models import OneValue, Written
from prefect_bluesky.prefect_api.own_server import in_thread
from prefect_bluesky.prefect_api.pauses import ask_and_forget, pause_answer, pause_for
from prefect_bluesky.prefect_api.run_names import file_name, run_name, shorten
from prefect_bluesky.prefect_api.run_notes import can_keep_notes, load_note, load_notes, run_id, save_note
from prefect_bluesky.prefect_api.runs import read_run_rows, read_runs
from prefect_bluesky.prefect_api.scripts import as_script, require_server

# fmt: off
__all__ = [
    "API_TROUBLE", "OneValue", "Written", "api_at_hand", "api_client", "as_block_form", "as_form", "as_script",
    "ask_and_forget", "block_name", "can_keep_notes", "current_flow_run", "ended", "escape_markdown", "failed",
    "file_name", "given_block", "ignoring_api_trouble", "in_run", "in_server", "in_thread", "literal_markdown",
    "load_block", "load_note", "load_notes", "logger", "markdown_paragraph", "name_with_type", "pause_answer",
    "pause_for", "read_block_documents", "read_run_rows", "read_runs", "require_server", "run_id", "run_name",
    "save_note", "shorten", "standard_time", "table_cell", "until_answered",
]
# fmt: on
