"""Send the posts of held runs, the oldest first, each exactly once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed, Scheduled
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.planning.held_runs import (
    HELD,
    STARTED_AGAIN,
    account_of,
    expired,
    is_expired,
    is_for,
    read_held_runs,
    service_of,
    settle,
    started_again,
)
from prefect_bluesky.planning.saved_accounts import load_parameter
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, logger
from prefect_bluesky.publishing import in_place_of
from prefect_bluesky.tasks import publish_post

_POST = TypeAdapter(Post)

_FROM_NOWHERE = "No deployment has started it, so it is not sent. Drop it: uv run flows/held.py drop RUN."

_MOST_STARTS = 5
"""How often a run is started again: one that kills its worker would do so for ever."""


def send_held(account: str | None) -> State[Any]:
    """Send what is held, under the keys of the runs that were to send it.

    Args:
        account: the handle or DID of an account, as its block names it, to send this account's posts only.

    Returns:
        the state in which the run that sends them ends.
    """
    sender = HeldSender()
    for run in read_held_runs(account):
        sender.deal_with(run)
    return sender.close()


class HeldSender:
    """Deals with one held run after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._blocks: dict[str, BlueskyCredentials] = {}
        self._flows: dict[UUID, str] = {}
        # One post that has to wait keeps those after it waiting, so that an account's posts stay in order.
        self._waiting: dict[str, str] = {}

    def deal_with(self, run: FlowRun) -> None:
        """Send a held run's post; where its account still cannot sign in, it stays held."""
        if is_expired(run, datetime.now(UTC)):
            self._settle(run, account_of(run) or "?", expired())
        elif run.deployment_id is None:
            # Earlier versions held what a person had typed in a shell, too: that person may have posted it since.
            self._note(run, account_of(run) or "?", "held", _FROM_NOWHERE)
        elif not self._is_of_publish(run):
            self._start_again(run)
        elif run.parameters.get("dry_run"):
            self._settle(run, "?", Failed(message="It was a preview, and ended early. Nothing is sent."))
        else:
            self._send(run)

    def _is_of_publish(self, run: FlowRun) -> bool:
        """Return whether a run is one of the flow `publish`, whose post can be sent here."""
        if run.flow_id not in self._flows:
            with api_client() as client:
                self._flows[run.flow_id] = client.read_flow(run.flow_id).name
        return self._flows[run.flow_id] == "publish" and {"credentials", "post"} <= run.parameters.keys()

    def _send(self, run: FlowRun) -> None:
        try:
            credentials = self._credentials(run.parameters["credentials"])
            is_its_account = is_for(run, credentials)
        except (BlueskyError, ValidationError, ValueError) as unusable:
            self._note(run, account_of(run) or "?", "held", f"its block cannot be used: {unusable}")
            return
        if not is_its_account:
            now = f"{credentials.handle} at {credentials.service_url}"
            was = f"{account_of(run)} at {service_of(run) or 'its service'}"
            self._note(run, account_of(run) or "?", "held", f"It was for {was}, and its block is for {now} by now.")
            return
        account = credentials.handle
        if account in self._waiting:
            self._note(run, account, "held", self._waiting[account])
            return
        with api_client() as client:
            current = client.read_flow_run(run.id).state
        if current is None or current.name != HELD:
            return  # somebody has dropped it, or started it again, since the runs were listed
        try:
            with in_place_of(run):
                published = publish_post(
                    credentials, _POST.validate_python(run.parameters["post"]), run.parameters.get("key")
                )
        except BlueskyError as error:
            if error.is_temporary:
                self._waiting[account] = str(error)
                self._note(run, account, "held", str(error))
            else:
                self._settle(run, account, Failed(message=str(error)))
        except ValidationError as unusable:
            self._settle(run, account, Failed(message=str(unusable)))
        else:
            self._settle(run, account, Completed(message=f"Published {published.url}, after it was held."))

    def close(self) -> State[Any]:
        """Say what became of each."""
        counts = Counter(row["state"] for row in self.rows)
        told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "Nothing was held."
        logger().info("%s", told)
        if self.rows:
            with ignoring_api_trouble("The artifact with the table could not be made"):
                create_table_artifact(self.rows, key="bluesky-held", description=told)
        return Failed(message=told) if counts["failed"] or counts["expired"] else Completed(message=told)

    def _credentials(self, parameter: Any) -> BlueskyCredentials:
        """The account of a held run, loaded once and anew: its app password may have been replaced."""
        name = str(parameter)
        if name not in self._blocks:
            self._blocks[name] = load_parameter(parameter)
        return self._blocks[name]

    def _start_again(self, run: FlowRun) -> None:
        """A batch, or a flow of somebody's own, is started again as it was; its posts have the same keys then."""
        account = account_of(run)
        if run.deployment_id is None:
            self._note(run, account or "?", "held", "It has no deployment: start it again by hand.")
            return
        starts = started_again(run)
        if starts >= _MOST_STARTS:
            self._note(run, account or "?", "held", f"It was started again {starts} times: see why it does not end.")
            return
        try:
            # Not before its account can sign in: it would be held again, and do all that it does besides once more.
            # Without an account it is held because its worker died.
            if account:
                self._credentials({"handle": account, "service_url": service_of(run)}).ensure_session()
        except (BlueskyError, ValueError) as trouble:
            self._note(run, account or "?", "held", str(trouble))
            return
        with api_client() as client:
            # Counted here: one whose process does not even start is never counted as run.
            client.update_flow_run(run.id, tags={*run.tags, f"{STARTED_AGAIN}{starts + 1}"})
            client.set_flow_run_state(run.id, Scheduled(message="Started again: it was held."))
        self._note(run, account or "?", "started again", "")

    def _settle(self, run: FlowRun, account: str, state: State[Any]) -> None:
        settle(run.id, state)
        became = "published" if state.is_completed() else "expired" if state.is_cancelled() else "failed"
        self._note(run, account, became, state.message or "")

    def _note(self, run: FlowRun, account: str, state: str, remark: str) -> None:
        planned = f"{run.expected_start_time:%Y-%m-%d %H:%M}" if run.expected_start_time else ""
        self.rows.append({"account": account, "planned": planned, "run": run.name, "state": state, "what": remark})
        log = logger()
        (log.info if state != "failed" else log.error)("%s, planned for %s: %s. %s", run.name, planned, state, remark)
