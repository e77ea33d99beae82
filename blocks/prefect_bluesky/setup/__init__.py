"""Set up a Prefect server: blocks, work pool, deployments and automations.

`deployments/prefect.yaml` declares what runs on a worker.
"""

from prefect_bluesky.setup.automations import Parts, automations
from prefect_bluesky.setup.command import main, parser
from prefect_bluesky.setup.server import BLOCKS, Setup

__all__ = ["BLOCKS", "Parts", "Setup", "automations", "main", "parser"]
