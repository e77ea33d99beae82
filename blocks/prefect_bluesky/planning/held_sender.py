"""Send the posts of held runs, the oldest first, each exactly once."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Completed, Failed, Scheduled
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError
from prefect_bluesky.planning.held_runs import HELD, account_of, is_for, read_held_runs, service_of, settle
from prefect_bluesky.planning.saved_accounts import load_parameter
from prefect_bluesky.planning.scheduled_runs import planned_time
from prefect_bluesky.planning.times import how_late
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import api_client, ignoring_api_trouble, logger
from prefect_bluesky.publishing import in_place_of
from prefect_bluesky.settings import current_settings
from prefect_bluesky.tasks import publish_post

_POST = TypeAdapter(Post)

_NO_DEPLOYMENT = "The run has no deployment, so its post is not sent. Drop it: uv run flows/held.py drop RUN."

_EXPIRED = "Expired"
"""The name of the final state of a run that was held for too long."""

_STARTED_AGAIN = "bluesky.started-again."
"""The prefix of the tags of a held run that was started again: one tag for each start."""

_MOST_STARTS = 5
"""The limit of starts of one held run: a run that kills its worker would be started forever."""


def send_held(account: str | None) -> State[Any]:
    """Send the held posts of all accounts or of one, under their runs' keys. Return the sending run's final state."""
    sender = HeldSender()
    for run in read_held_runs(account):
        sender.deal_with(run)
    return sender.close()


class HeldSender:
    """The sender of held posts, which handles one held run after the other."""

    def __init__(self) -> None:
        self.rows: list[dict[str, str]] = []
        self._blocks: dict[str, BlueskyCredentials] = {}
        self._flows: dict[UUID, str] = {}
        # A post that waits keeps the account's later posts waiting, so that the posts stay in order.
        self._waiting: dict[str, str] = {}

    def deal_with(self, run: FlowRun) -> None:
        """Send a held run's post. The run stays held if its account still cannot sign in."""
        hold_for = current_settings().hold_for
        if run.state is not None and datetime.now(UTC) - run.state.timestamp > hold_for:
            days = hold_for.total_seconds() / 86_400
            message = f"The post was held for more than {days:g} days and will not be sent. Start a new run to send it."
            self._settle(run, account_of(run), State(type=StateType.CANCELLED, name=_EXPIRED, message=message))
        elif run.deployment_id is None:
            # Earlier versions also held posts of scripts, and the person may have posted the text since.
            self._note(run, account_of(run), "held", _NO_DEPLOYMENT)
        elif not self._is_of_publish(run):
            self._start_again(run)
        elif run.parameters.get("dry_run"):
            self._settle(run, None, Failed(message="The run was a preview that ended early. Nothing is sent."))
        else:
            self._send(run)

    def _is_of_publish(self, run: FlowRun) -> bool:
        """Return whether a run is of the flow `publish`, whose post can be sent here."""
        if run.flow_id not in self._flows:
            with api_client() as client:
                self._flows[run.flow_id] = client.read_flow(run.flow_id).name
        return self._flows[run.flow_id] == "publish" and {"credentials", "post"} <= run.parameters.keys()

    def _send(self, run: FlowRun) -> None:
        try:
            credentials = self._credentials(run.parameters["credentials"])
            is_its_account = is_for(run, credentials)
        except (BlueskyError, ValidationError, ValueError) as unusable:
            self._note(run, account_of(run), "held", f"The block cannot be used: {unusable}")
            return
        if not is_its_account:
            was = f"{account_of(run)} at {service_of(run) or 'its service'}"
            now = f"{credentials.handle} at {credentials.service_url}"
            self._note(run, account_of(run), "held", f"The run was for {was}, and its block is for {now} now.")
            return
        account = credentials.handle
        if account in self._waiting:
            self._note(run, account, "held", self._waiting[account])
            return
        with api_client() as client:
            current = client.read_flow_run(run.id).state
        if current is None or current.name != HELD:
            return  # a person has dropped the run or started it again since the runs were listed
        try:
            with in_place_of(run):
                post = _POST.validate_python(run.parameters["post"])
                published = publish_post(credentials, post, run.parameters.get("key"))
        except BlueskyError as error:
            if error.is_temporary:
                self._waiting[account] = str(error)
                self._note(run, account, "held", str(error))
            else:
                self._settle(run, account, Failed(message=str(error)))
        except ValidationError as unusable:
            self._settle(run, account, Failed(message=str(unusable)))
        else:
            late = how_late(datetime.now(UTC) - planned) if (planned := planned_time(run)) else ""
            message = f"Published {published.url} {late}".rstrip() + ", after the post was held."
            self._settle(run, account, Completed(message=message))

    def close(self) -> State[Any]:
        """Create the table of results, and return the final state of the sending run."""
        counts = Counter(row["state"] for row in self.rows)
        summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "Nothing was held."
        logger().info("%s", summary)
        if self.rows:
            with ignoring_api_trouble("The artifact with the table could not be made"):
                create_table_artifact(self.rows, key="bluesky-held", description=summary)
        return Failed(message=summary) if counts["failed"] or counts["expired"] else Completed(message=summary)

    def _credentials(self, parameter: Any) -> BlueskyCredentials:
        """Return the block of a run as saved now, read once per sender: its app password may have changed since."""
        name = str(parameter)
        if name not in self._blocks:
            self._blocks[name] = load_parameter(parameter)
        return self._blocks[name]

    def _start_again(self, run: FlowRun) -> None:
        """Start a run of `publish-batch` or a custom flow again. Its posts then have the same keys."""
        account = account_of(run)
        starts = sum(tag.startswith(_STARTED_AGAIN) for tag in run.tags)
        if starts >= _MOST_STARTS:
            self._note(run, account, "held", f"The run was started again {starts} times. Find out why it does not end.")
            return
        try:
            # If the account cannot sign in, the run would be held again and repeat all that it does besides.
            # A run without an account is held because its worker died.
            if account:
                self._credentials({"handle": account, "service_url": service_of(run)}).ensure_session()
        except (BlueskyError, ValueError) as trouble:
            self._note(run, account, "held", str(trouble))
            return
        with api_client() as client:
            # Count starts here: Prefect's count of runs omits a run whose process does not start.
            client.update_flow_run(run.id, tags={*run.tags, f"{_STARTED_AGAIN}{starts + 1}"})
            client.set_flow_run_state(run.id, Scheduled(message="Started again after the run was held."))
        self._note(run, account, "started again", "")

    def _settle(self, run: FlowRun, account: str | None, state: State[Any]) -> None:
        if not settle(run.id, state) and not state.is_completed():
            return  # a person has dropped it, or started it again
        became = "published" if state.is_completed() else "expired" if state.is_cancelled() else "failed"
        self._note(run, account, became, state.message or "")

    def _note(self, run: FlowRun, account: str | None, state: str, remark: str) -> None:
        planned = f"{run.expected_start_time:%Y-%m-%d %H:%M}" if run.expected_start_time else ""
        row = {"account": account or "?", "planned": planned, "run": run.name, "state": state, "what": remark}
        self.rows.append(row)
        log = logger()
        (log.info if state != "failed" else log.error)("%s, planned for %s: %s. %s", run.name, planned, state, remark)
