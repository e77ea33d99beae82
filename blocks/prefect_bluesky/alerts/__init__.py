"""Tell Prefect what happens to accounts: events, incidents with one alert each, and the status page.

Automations on a Prefect server turn the events into messages for people. Whether an incident is reported at all is
decided where the account's state is known, in `sessions/alerting`.
"""

from prefect_bluesky.alerts import events
from prefect_bluesky.alerts.blocks import tell_unusable
from prefect_bluesky.alerts.incidents import Incident, Reporter, block_page, last_unstored, was_told
from prefect_bluesky.alerts.lost_alerts import ALERT, lost_alert
from prefect_bluesky.alerts.status_page import AccountHealth, Check, status_page

# fmt: off
__all__ = [
    "ALERT", "AccountHealth", "Check", "Incident", "Reporter", "block_page", "events", "last_unstored", "lost_alert",
    "status_page", "tell_unusable", "was_told",
]
# fmt: on
