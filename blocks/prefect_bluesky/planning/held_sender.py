"""Send the posts of held runs: the oldest first, those of one account some time apart, each exactly once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID

from prefect.artifacts import create_table_artifact
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Completed, Failed, Scheduled
from pydantic import TypeAdapter, ValidationError

from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import BlueskyError, Expired, PublishError, ServiceError
from prefect_bluesky.planning.held_runs import (
    EXPIRED,
    HELD,
    account_of,
    expired_because,
    final_state,
    is_for,
    last_sent,
    read_held_runs,
    service_of,
    settle,
    tell_expired,
)
from prefect_bluesky.planning.saved_accounts import load_parameter
from prefect_bluesky.planning.scheduled_runs import planned_time
from prefect_bluesky.planning.times import how_late
from prefect_bluesky.posts import Post
from prefect_bluesky.prefect_api import api_client, failed, ignoring_api_trouble, logger, read_runs
from prefect_bluesky.publishing import in_place_of
from prefect_bluesky.settings import current_settings
from prefect_bluesky.tasks import publish_post, run_in_flow

_POST = TypeAdapter(Post)

_NO_DEPLOYMENT = "The run has no deployment, so its post is not sent. Drop it: prefect-bluesky held drop RUN."

_STARTED_AGAIN, _TRIED = "bluesky.started-again.", "bluesky.tried."
"""The prefixes of the tags of a held run: one tag for each time that it was started again, or its post was refused."""

_MOST_STARTS = 5
"""The limit of starts of one held run: a run that kills its worker would be started forever."""

_MOST_TRIES = 3
"""How often a post that its server answers with an internal error holds up the account's next posts."""

_LONGEST = timedelta(minutes=10)
"""How long a run goes on sending. The schedule of `publish-held` starts another each 15 minutes."""

_BETWEEN_LOOKS = timedelta(seconds=15)
"""The longest wait before the held runs are read again: another account may have recovered meanwhile."""


def send_held(account: str | None) -> State[Any]:
    """Send the held posts of all accounts or of one, under their runs' keys. Return the sending run's final state."""
    sender = HeldSender()
    ends_at = time.monotonic() + _LONGEST.total_seconds()
    while (wait := sender.send(read_held_runs(account))) is not None and time.monotonic() + wait < ends_at:
        time.sleep(min(wait, _BETWEEN_LOOKS.total_seconds()))
    return sender.close()


class HeldSender:
    """The sender of held posts, which handles one held run after the other."""

    def __init__(self) -> None:
        self._rows: dict[UUID, dict[str, str]] = {}
        self._flows: dict[UUID, str] = {}
        self._blocks: dict[str, BlueskyCredentials] = {}
        # When an account's next post may go out, as `time.monotonic()`.
        self._turns: dict[str, float] = {}
        # A post that waits keeps the account's later posts waiting, so that the posts stay in order.
        self._waiting: dict[str, str] = {}
        # Posts that their server refuses again and again, until it takes or refuses the account's next one.
        self._suspects: defaultdict[str, list[FlowRun]] = defaultdict(list)
        # Runs of other flows that were started again, by what they are for; None until Prefect was asked.
        self._under_way: dict[str, UUID] | None = None

    def send(self, runs: Iterable[FlowRun]) -> float | None:
        """Send what may be sent now. Return the seconds until more may be, or None if the rest has to wait for longer.

        A block may have been changed since the last time, and an account may have recovered.
        """
        self._blocks, self._waiting, self._suspects = {}, {}, defaultdict(list)
        waits = [wait for run in runs if (wait := self.deal_with(run)) is not None]
        return min(waits, default=None)

    def deal_with(self, run: FlowRun) -> float | None:
        """Send a held run's post. Return the seconds until it may be sent, if it has to wait for its turn.

        The run stays held if its account still cannot sign in.
        """
        hold_for = current_settings().hold_for
        if run.state is not None and datetime.now(UTC) - run.state.timestamp > hold_for:
            days = hold_for.total_seconds() / 86_400
            message = f"The post was held for more than {days:g} days and will not be sent. Start a new run to send it."
            self._expire(run, None, message)
        elif run.deployment_id is None:
            # Earlier versions also held posts of scripts, and the person may have posted the text since.
            self._note(run, account_of(run), "held", _NO_DEPLOYMENT)
        elif not self._is_of_publish(run):
            return self._start_again(run)
        elif run.parameters.get("dry_run"):
            self._settle(run, None, Failed(message="The run was a preview that ended early. Nothing is sent."))
        else:
            return self._send(run)
        return None

    def _is_of_publish(self, run: FlowRun) -> bool:
        """Return whether a run is of the flow `publish`, whose post can be sent here."""
        if run.flow_id not in self._flows:
            with api_client() as client:
                self._flows[run.flow_id] = client.read_flow(run.flow_id).name
        return self._flows[run.flow_id] == "publish" and {"credentials", "post"} <= run.parameters.keys()

    def _send(self, run: FlowRun) -> float | None:
        try:
            post = _POST.validate_python(run.parameters["post"])
        except ValidationError as unusable:
            self._settle(run, account_of(run), Failed(message=str(unusable)))
            return None
        try:
            credentials = self._credentials(run.parameters["credentials"])
            is_its_account = is_for(run, credentials)
        except (BlueskyError, ValidationError, ValueError) as unusable:
            self._note(run, account_of(run), "held", f"The block cannot be used: {unusable}")
            return None
        if not is_its_account:
            was = f"{account_of(run)} at {service_of(run) or 'its service'}"
            now = f"{credentials.handle} at {credentials.service_url}"
            self._note(run, account_of(run), "held", f"The run was for {was}, and its block is for {now} now.")
            return None
        account = credentials.handle
        if account in self._waiting:
            self._wait(run, credentials, post, self._waiting[account])
            return None
        if (wait := self._until_its_turn(account)) > 0:
            self._note(run, account, "held", "It waits for its turn: posts of one account go out some time apart.")
            return wait
        with api_client() as client:
            current = client.read_flow_run(run.id).state
        if current is None or current.name != HELD:
            return None  # a person has dropped the run or started it again since the runs were listed
        try:
            with in_place_of(run):
                published = run_in_flow(publish_post, credentials, post, run.parameters.get("key"))
        except Expired as error:
            self._expire(run, credentials, error)
        except BlueskyError as error:
            if not error.is_temporary:
                self._settle(run, account, final_state(error))
            elif isinstance(error, PublishError):
                # The account's next posts do not wait for what this one needs from elsewhere.
                self._note(run, account, "held", str(error))
            elif self._is_suspect(run, error):
                self._suspects[account].append(run)
                self._note(run, account, "held", str(error))
            else:
                self._waiting[account] = str(error)
                self._wait(run, credentials, post, str(error))
                # An internal error that is only this post's is soon known as such.
                return _BETWEEN_LOOKS.total_seconds() if _is_internal(error) else None
        else:
            late = how_late(datetime.now(UTC) - planned) if (planned := planned_time(run)) else ""
            message = f"Published {published.url} {late}".rstrip() + ", after the post was held."
            self._settle(run, account, Completed(message=message))
            self._turns[account] = time.monotonic() + current_settings().held_spacing.total_seconds()
            self._end_suspects(account)
        return None

    def _until_its_turn(self, account: str) -> float:
        """Return the seconds until an account's next post may go out. The first time, ask Prefect for the last one."""
        spacing = current_settings().held_spacing
        if account not in self._turns and spacing:
            last = last_sent(account)
            since = datetime.now(UTC) - last if last else spacing
            self._turns[account] = time.monotonic() + (spacing - since).total_seconds()
        return self._turns.get(account, 0.0) - time.monotonic()

    def _is_suspect(self, run: FlowRun, error: BlueskyError) -> bool:
        """Return whether a post, and not its server, is likely at fault: the account's next post will show.

        A PDS answers a record that it cannot store with an internal error.
        """
        if not _is_internal(error):
            return False
        tries = 1 + sum(tag.startswith(_TRIED) for tag in run.tags)
        with api_client() as client:
            client.update_flow_run(run.id, tags={*run.tags, f"{_TRIED}{tries}"})
        return tries >= _MOST_TRIES

    def _end_suspects(self, account: str) -> None:
        for run in self._suspects.pop(account, []):
            message = (
                f"The server answered this post with an internal error {_MOST_TRIES} times or more, and published the"
                " account's next post. The post is not tried again. Start a new run to send it, or change it."
            )
            self._settle(run, account, Failed(message=message))

    def close(self) -> State[Any]:
        """Create the table of results, and return the final state of the sending run."""
        rows = list(self._rows.values())
        counts = Counter(row["state"] for row in rows)
        summary = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "Nothing was held."
        logger().info("%s", summary)
        if rows:
            with ignoring_api_trouble("The artifact with the table could not be made"):
                create_table_artifact(rows, key="bluesky-held", description=summary)
        return failed(summary) if counts["failed"] or counts["expired"] else Completed(message=summary)

    def _credentials(self, parameter: Any) -> BlueskyCredentials:
        """Return the block of a run as saved now, read once for all: its app password may have changed since."""
        name = str(parameter)
        if name not in self._blocks:
            self._blocks[name] = load_parameter(parameter)
        return self._blocks[name]

    def _start_again(self, run: FlowRun) -> float | None:
        """Start a run of `publish-batch` or a custom flow again, after the one before. Its posts have the same keys."""
        account, whose = account_of(run), _whose(run)
        starts = sum(tag.startswith(_STARTED_AGAIN) for tag in run.tags)
        if starts >= _MOST_STARTS:
            self._note(run, account, "held", f"The run was started again {starts} times. Find out why it does not end.")
            return None
        if whose in self._waiting:
            self._note(run, account, "held", self._waiting[whose])
            return None
        if self._is_under_way(whose):
            self._note(run, account, "held", "It waits for the end of an older run, which was started again.")
            return _BETWEEN_LOOKS.total_seconds()
        try:
            # If the account cannot sign in, the run would be held again and repeat all that it does besides.
            # A run without an account is held because its worker died.
            if account:
                self._credentials({"handle": account, "service_url": service_of(run)}).ensure_session()
        except (BlueskyError, ValueError) as trouble:
            self._waiting[whose] = str(trouble)
            self._note(run, account, "held", str(trouble))
            return None
        with api_client() as client:
            # Count starts here: Prefect's count of runs omits a run whose process does not start.
            client.update_flow_run(run.id, tags={*run.tags, f"{_STARTED_AGAIN}{starts + 1}"})
            client.set_flow_run_state(run.id, Scheduled(message="Started again after the run was held."))
            self._runs_under_way[whose] = run.id
        self._note(run, account, "started again", "")
        return None

    @property
    def _runs_under_way(self) -> dict[str, UUID]:
        if self._under_way is None:
            tags = FlowRunFilterTags(any_=[f"{_STARTED_AGAIN}{number + 1}" for number in range(_MOST_STARTS)])
            states = FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
            wanted = FlowRunFilter(tags=tags, state=FlowRunFilterState(type=states))
            self._under_way = {_whose(run): run.id for run in read_runs(wanted)}
        return self._under_way

    def _is_under_way(self, whose: str) -> bool:
        """Return whether a run for the same is still under way that was started again."""
        if (run := self._runs_under_way.get(whose)) is None:
            return False
        with api_client() as client:
            state = client.read_flow_run(run).state
        if state is not None and not state.is_final():
            return True
        del self._runs_under_way[whose]
        return False

    def _wait(self, run: FlowRun, credentials: BlueskyCredentials, post: Post, why: str) -> None:
        """Let a post wait for its account or its server. A post that has expired meanwhile has waited for too long."""
        if expired := post.expired_at(datetime.now(UTC)):
            self._expire(run, credentials, Expired(expired))
        else:
            self._note(run, credentials.handle, "held", why)

    def _expire(self, run: FlowRun, credentials: BlueskyCredentials | None, why: Expired | str) -> None:
        account = credentials.handle if credentials else account_of(run)
        if self._settle(run, account, expired_because(str(why))):
            tell_expired(why, credentials, run)

    def _settle(self, run: FlowRun, account: str | None, state: State[Any]) -> bool:
        """End a held run. Return False if a person has dropped it or started it again meanwhile."""
        is_settled = settle(run.id, state)
        if is_settled or state.is_completed():
            became = "published" if state.is_completed() else "expired" if state.name == EXPIRED else "failed"
            self._note(run, account, became, state.message or "")
        return is_settled

    def _note(self, run: FlowRun, account: str | None, state: str, remark: str) -> None:
        planned = f"{run.expected_start_time:%Y-%m-%d %H:%M}" if run.expected_start_time else ""
        row = {"account": account or "?", "planned": planned, "run": run.name, "state": state, "what": remark}
        if self._rows.get(run.id) == row:
            return
        self._rows[run.id] = row
        log = logger()
        (log.info if state != "failed" else log.error)("%s, planned for %s: %s. %s", run.name, planned, state, remark)


def _whose(run: FlowRun) -> str:
    """Return what a run of another team's flow is for: its account, or else its deployment."""
    return account_of(run) or f"{run.deployment_id}"


def _is_internal(error: BlueskyError) -> bool:
    return isinstance(error, ServiceError) and error.status == HTTPStatus.INTERNAL_SERVER_ERROR
