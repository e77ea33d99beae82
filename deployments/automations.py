"""What Prefect does by itself when an account fails, recovers or falls silent, as data.

`setup.py` makes each of these, by its name, or changes it back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    PauseDeployment,
    Posture,
    ResourceSpecification,
    ResumeDeployment,
    RunDeployment,
    SendNotification,
)

from prefect_bluesky.alerts import ALERT, events
from prefect_bluesky.planning import HELD

_ACCOUNTS = ResourceSpecification({"prefect.resource.id": "bluesky.account.*"})
_SAVED_ACCOUNTS = ResourceSpecification({"prefect.resource.id": "bluesky.account.*", "block": "*"})
_FLOW_RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})

_ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Crashed", "Cancelled", HELD)}
_RUN_HEARTBEAT = "prefect.flow-run.heartbeat"
_SESSION_RENEWED = {events.SESSION_CREATED, events.SESSION_REFRESHED}

_A_DAY = timedelta(days=1)

_WHO = "{{ event.resource['handle'] }}{% if event.resource['did'] %} ({{ event.resource['did'] }}){% endif %}"

_FAILED = f"""{_WHO} cannot publish since {{{{ event.payload['first_seen'] }}}}.

{{{{ event.payload['explanation'] }}}} ({{{{ event.payload['problem'] }}}})

What to do: {{{{ event.payload['remedy'] }}}}

{{{{ event.payload['link'] }}}}

Its posts are held meanwhile, and go out by themselves once this is mended."""

_RECOVERED = f"""{_WHO} can publish again. It could not since {{{{ event.payload['first_seen'] }}}}
({{{{ event.payload['problem'] }}}}). What was held goes out now."""

_SILENT = f"""The session of {_WHO} has not been refreshed for a day, and no failure was reported either.

What to do: see what became of the last runs of refresh-sessions, and whether the account's PDS answers."""

_UNATTENDED = """No session was refreshed for an hour, so a dead app password would go unnoticed.

What to do: see whether a worker of the pool "bluesky" runs, and what became of the deployment refresh-sessions."""

_DIED = "The run ended before its posts were confirmed, as its worker died. publish-held sends what is not out yet."


@dataclass(frozen=True)
class Parts:
    """The ids of what the automations act on.

    Args:
        notification: the block document that sends messages; None if nobody is told.
        publish: the deployment that publishes.
        publish_batch: the deployment that publishes many posts.
        publish_held: the deployment that sends held posts.
        refresh_sessions: the deployment that keeps sessions warm.
    """

    notification: UUID | None
    publish: UUID
    publish_batch: UUID
    publish_held: UUID
    refresh_sessions: UUID


def automations(parts: Parts) -> list[AutomationCore]:
    """Those that everybody wants.

    Args:
        parts: what they act on.
    """
    wanted = [
        AutomationCore(
            name=ALERT,
            description="Once for each incident, at once, with the cause and the remedy.",
            trigger=_once_per_incident(events.AUTH_FAILED),
            actions=_message(parts, "Bluesky: {{ event.resource['handle'] }} cannot publish", _FAILED),
        ),
        AutomationCore(
            name="bluesky: tell when an account has recovered",
            description="Once for each incident.",
            trigger=_once_per_incident(events.AUTH_RECOVERED),
            actions=_message(parts, "Bluesky: {{ event.resource['handle'] }} can publish again", _RECOVERED),
        ),
        AutomationCore(
            name="bluesky: send what was held when an account has recovered",
            description="A schedule sends it too, should this event get lost.",
            trigger=_once_per_incident(events.AUTH_RECOVERED),
            # Of all accounts: a post that was held because its worker died does not say whose it is.
            actions=[RunDeployment(deployment_id=parts.publish_held)],
        ),
        AutomationCore(
            name="bluesky: tell when a session was not refreshed for a day",
            description="Of a saved account, whose failure nobody has been told of.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after=_SESSION_RENEWED,
                expect={*_SESSION_RENEWED, events.AUTH_FAILED},
                match=_SAVED_ACCOUNTS,
                for_each={"prefect.resource.id"},
                within=_A_DAY,
            ),
            actions=_message(parts, "Bluesky: nothing was heard of {{ event.resource['handle'] }} for a day", _SILENT),
        ),
        AutomationCore(
            name="bluesky: tell when nobody refreshes sessions",
            description="One message for all accounts, where it is the worker that stands still.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={"prefect.flow-run.Completed"},
                expect={"prefect.flow-run.Completed"},
                match=_FLOW_RUNS,
                match_related=_of(parts.refresh_sessions),
                # Without it Prefect opens a window of its own accord, and tells again and again.
                for_each={"related:deployment:prefect.resource.id"},
                within=timedelta(hours=1),
            ),
            actions=_message(parts, "Bluesky: sessions are not refreshed", _UNATTENDED),
        ),
        AutomationCore(
            name="bluesky: refresh sessions when a worker starts",
            description="A worker, or another process that serves a deployment, after it was away.",
            trigger=EventTrigger(
                expect={"prefect.worker.started", "prefect.deployment.ready"}, within=timedelta(minutes=5)
            ),
            actions=[RunDeployment(deployment_id=parts.refresh_sessions)],
        ),
        *_when_lost("hold the post of a run", parts.publish, [_HOLD]),
        # Its posts are due now: publish-held, which starts it again, is not waited for.
        *_when_lost(
            "start a batch again", parts.publish_batch, [_HOLD, RunDeployment(deployment_id=parts.publish_held)]
        ),
        # Each is the only one of its deployment, and would be in the way of all later ones: a server that has started
        # again has forgotten when its place was to be free.
        *_when_left("end a run of publish-held", parts.publish_held, [_END]),
        *_when_left("end a run of refresh-sessions", parts.refresh_sessions, [_END]),
    ]
    # Where nobody is told, what would only tell is left out.
    return [automation for automation in wanted if automation.actions]


def _when_lost(what: str, deployment: UUID, actions: list[Any]) -> list[AutomationCore]:
    """Those for runs that did not come to their end."""
    has_crashed = AutomationCore(
        name=f"bluesky: {what} that has crashed",
        description="What is out already is found.",
        trigger=EventTrigger(expect={"prefect.flow-run.Crashed"}, match=_FLOW_RUNS, match_related=_of(deployment)),
        actions=actions,
    )
    return [has_crashed, *_when_left(what, deployment, actions)]


def _when_left(what: str, deployment: UUID, actions: list[Any]) -> list[AutomationCore]:
    """Those for runs that will not end by themselves."""
    each_run = {
        "posture": Posture.Proactive,
        "for_each": {"prefect.resource.id"},
        "match": _FLOW_RUNS,
        "match_related": _of(deployment),
    }
    return [
        AutomationCore(
            name=f"bluesky: {what} whose worker has died",
            description="It shows by the heartbeats that the run sends, each 30 seconds, and then no more.",
            trigger=EventTrigger(
                # It may have died before its first heartbeat.
                after={_RUN_HEARTBEAT, "prefect.flow-run.Running"},
                expect={_RUN_HEARTBEAT, *_ENDS},
                within=timedelta(seconds=90),
                **each_run,
            ),
            actions=actions,
        ),
        AutomationCore(
            name=f"bluesky: {what} that never began",
            description="Its worker died between taking it and starting it. Half an hour is long for a container, too.",
            trigger=EventTrigger(
                after={"prefect.flow-run.Pending"},
                expect={"prefect.flow-run.Running", *_ENDS},
                within=timedelta(minutes=30),
                **each_run,
            ),
            actions=actions,
        ),
    ]


_HOLD = ChangeFlowRunState(state=StateType.FAILED, name=HELD, message=_DIED)
_END = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message="Its worker died. The next run goes on.")


def pausing(account: str, deployments: Iterable[UUID]) -> list[AutomationCore]:
    """Those that pause the schedules of an account's deployments while it cannot sign in.

    What would be scheduled meanwhile is not held, but left out.

    Args:
        account: the account, as its block has it.
        deployments: the deployments whose parameters name its block.
    """
    ids = list(deployments)
    return [
        AutomationCore(
            name=f"bluesky: pause the deployments of {account}",
            trigger=_of_account(events.AUTH_FAILED, account),
            actions=[PauseDeployment(deployment_id=each) for each in ids],
        ),
        AutomationCore(
            name=f"bluesky: resume the deployments of {account}",
            trigger=_of_account(events.AUTH_RECOVERED, account),
            actions=[ResumeDeployment(deployment_id=each) for each in ids],
        ),
    ]


def _message(parts: Parts, subject: str, body: str) -> list[Any]:
    if parts.notification is None:
        return []
    return [SendNotification(block_document_id=parts.notification, subject=subject, body=body)]


def _once_per_incident(event: str) -> EventTrigger:
    # The events say each thing once; this keeps one that a dying worker sent twice from being acted on twice.
    each = {"prefect.resource.id", "incident", "attempt"}
    return EventTrigger(expect={event}, match=_ACCOUNTS, for_each=each, within=_A_DAY)


def _of_account(event: str, account: str) -> EventTrigger:
    return EventTrigger(expect={event}, match=ResourceSpecification({"account": account}))


def _of(deployment: UUID) -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.id": f"prefect.deployment.{deployment}"})
