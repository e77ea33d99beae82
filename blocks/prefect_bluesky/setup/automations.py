"""The automations for accounts that fail, recover or fall silent, and for runs that are lost.

`setup/server` creates each automation by its name, or changes it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    ResourceSpecification,
    RunDeployment,
    SendNotification,
)

from prefect_bluesky.alerts import ALERT, events
from prefect_bluesky.planning import HEARTBEAT, HELD, LOST_AND_ENDED, LOST_AND_HELD

_ACCOUNTS = ResourceSpecification({"prefect.resource.id": "bluesky.account.*"})
_SAVED_ACCOUNTS = ResourceSpecification({"prefect.resource.id": "bluesky.account.*", "block": "*"})
_FLOW_RUNS = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})

_ENDS = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Crashed", "Cancelled", HELD)}
_SESSION_RENEWED = {events.SESSION_CREATED, events.SESSION_REFRESHED}

_A_DAY = timedelta(days=1)

_WHO = "{{ event.resource['handle'] }}{% if event.resource['did'] %} ({{ event.resource['did'] }}){% endif %}"

_SINCE = "{{ event.payload['first_seen'][:16] | replace('T', ' ') }} UTC"

_FAILED = f"""{_WHO} cannot publish since {_SINCE}.

{{{{ event.payload['explanation'] }}}} ({{{{ event.payload['problem'] }}}})

What to do: {{{{ event.payload['remedy'] }}}}

{{{{ event.payload['link'] }}}}

Its posts are held, and are sent automatically once the account is fixed."""

_RECOVERED = f"""{_WHO} can publish again. It could not since {_SINCE}
({{{{ event.payload['problem'] }}}}). Its held posts are sent now."""

_SILENT = f"""The session of {_WHO} has not been refreshed for a day, and no failure was reported either.

What to do: check the last runs of refresh-sessions, and whether the account's PDS answers."""

_EXPIRED = """{{ event.payload['run'] }} was not sent.

{{ event.payload['reason'] }}

{{ event.payload['link'] }}"""

_VISIT = f"""{_WHO} can publish, but its owner has to grant access again until {{{{ event.payload['until'] }}}}.
{{{{ event.payload['reason'] }}}}

What to do: let the account's owner grant access: run the deployment authorize, or prefect-bluesky authorize."""

_UNUSABLE = """The saved block {{ event.payload['block'] }} cannot be used. {{ event.payload['reason'] }}

What to do: open the block in Prefect's UI, correct it and save it, or delete it. Its posts are held until then."""

_REVIEW = """{{ event.payload['drafts'] }} drafts wait until {{ event.payload['until'] }}: {{ event.payload['run'] }}

What to do: open the run, read the drafts among its artifacts, choose Resume (it may be in the run's menu ⋮) and answer
the form. Nothing is published before that.

{{ event.payload['link'] }}"""

_UNATTENDED = """No session was refreshed for an hour, so a revoked app password would go unnoticed.

What to do: check whether a worker of the pool "bluesky" is running, and check the deployment refresh-sessions."""

FORMER = [
    "bluesky: tell when an account has recovered",
    "bluesky: send what was held when an account has recovered",
    "bluesky: hold the post of a run that never began",
    "bluesky: start a batch again that never began",
    "bluesky: publish what is left by a run of publish-due that never began",
    "bluesky: tell when a spare session is in use",
]
"""The automations of earlier versions, which the setup deletes."""

_HOLD = ChangeFlowRunState(state=StateType.FAILED, name=HELD, message=LOST_AND_HELD)
_END = ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=LOST_AND_ENDED)


@dataclass(frozen=True)
class Parts:
    """The ids of the deployments, and of the notification block (None: no messages are sent)."""

    notification: UUID | None
    publish: UUID
    publish_advanced: UUID
    publish_batch: UUID
    publish_due: UUID
    planned: UUID
    publish_held: UUID
    refresh_sessions: UUID


def automations(parts: Parts) -> list[AutomationCore]:
    """Return the automations. Without a notification block, those that only send messages are left out."""
    wanted = [
        AutomationCore(
            name=ALERT,
            description="Sent immediately, once for each incident, with the cause and the remedy.",
            trigger=_once_per_incident(events.AUTH_FAILED),
            actions=_message(parts, "Bluesky: {{ event.resource['handle'] }} cannot publish", _FAILED),
        ),
        AutomationCore(
            name="bluesky: send what was held when an account recovers",
            description="Once for each incident. A schedule sends what was held too, in case this event is lost.",
            trigger=_once_per_incident(events.AUTH_RECOVERED),
            actions=[
                *_message(parts, "Bluesky: {{ event.resource['handle'] }} can publish again", _RECOVERED),
                # publish-held runs for all accounts: a post held because its worker died does not name its account.
                RunDeployment(deployment_id=parts.publish_held),
            ],
        ),
        AutomationCore(
            name="bluesky: tell when a post has expired",
            description="The post made sense until a time, or was held for too long.",
            trigger=EventTrigger(expect={events.POST_EXPIRED}, match=_ACCOUNTS),
            actions=_message(parts, "Bluesky: a post of {{ event.payload['account'] }} has expired", _EXPIRED),
        ),
        AutomationCore(
            name="bluesky: tell when a saved block cannot be used",
            description="Once for each reason.",
            trigger=EventTrigger(
                expect={events.BLOCK_UNUSABLE},
                match=ResourceSpecification({"prefect.resource.id": "bluesky.block.*"}),
                for_each={"prefect.resource.id", "reason"},
                within=_A_DAY,
            ),
            actions=_message(parts, "Bluesky: the block {{ event.payload['block'] }} cannot be used", _UNUSABLE),
        ),
        AutomationCore(
            name="bluesky: tell when an account's owner has to grant access again",
            description="A grant is about to end, or its spare session is in use or lost.",
            trigger=EventTrigger(expect={events.VISIT_DUE}, match=_ACCOUNTS),
            actions=_message(parts, "Bluesky: {{ event.resource['handle'] }} needs its owner again", _VISIT),
        ),
        AutomationCore(
            name="bluesky: tell when drafts wait for a review",
            description="Once for each question of a run of compose.",
            trigger=EventTrigger(
                expect={events.REVIEW_WAITS}, match=ResourceSpecification({"prefect.resource.id": "bluesky.review.*"})
            ),
            actions=_message(parts, "Bluesky: drafts wait for your review", _REVIEW),
        ),
        AutomationCore(
            name="bluesky: tell when a session was not refreshed for a day",
            description="For a saved account of which no failure was reported.",
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
            description="One message for all accounts if the worker is down.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                after={"prefect.flow-run.Completed"},
                expect={"prefect.flow-run.Completed"},
                match=_FLOW_RUNS,
                match_related=_of(parts.refresh_sessions),
                # Without for_each, Prefect opens windows without an event, and repeats the message.
                for_each={"related:deployment:prefect.resource.id"},
                within=timedelta(hours=1),
            ),
            actions=_message(parts, "Bluesky: sessions are not refreshed", _UNATTENDED),
        ),
        AutomationCore(
            name="bluesky: refresh sessions when a worker starts",
            description="Also for another process that serves a deployment.",
            trigger=EventTrigger(
                expect={"prefect.worker.started", "prefect.deployment.ready"}, within=timedelta(minutes=5)
            ),
            actions=[RunDeployment(deployment_id=parts.refresh_sessions)],
        ),
        AutomationCore(
            name="bluesky: publish planned posts that are late",
            description="A person moved them into the past or retries them, or a run of publish-due has died.",
            trigger=EventTrigger(
                # Prefect calls a run that a person retries neither scheduled nor late.
                expect={"prefect.flow-run.Late", "prefect.flow-run.AwaitingRetry"},
                match=_FLOW_RUNS,
                match_related=_of(parts.planned),
                # A thousand may be late at once: one run publishes them all.
                for_each={"related:deployment:prefect.resource.id"},
                within=timedelta(seconds=10),
            ),
            actions=[RunDeployment(deployment_id=parts.publish_due)],
        ),
        AutomationCore(
            name="bluesky: publish planned posts that are overdue when a worker starts",
            description="The posts of the time in which no worker was there.",
            trigger=EventTrigger(expect={"prefect.worker.started"}, within=timedelta(minutes=1)),
            actions=[RunDeployment(deployment_id=parts.publish_due)],
        ),
        *_when_lost(
            "publish what is left by a run of publish-due",
            [RunDeployment(deployment_id=parts.publish_due)],
            parts.publish_due,
        ),
        *_when_lost("hold the post of a run", [_HOLD], parts.publish, parts.publish_advanced),
        # The posts of a batch are due now, so publish-held, which starts the batch again, runs at once.
        *_when_lost(
            "start a batch again", [_HOLD, RunDeployment(deployment_id=parts.publish_held)], parts.publish_batch
        ),
        # Only one run of each deployment is allowed, so a lost run would block all later runs: a restarted server has
        # forgotten when its slot was to be freed.
        *_when_left("end a run of publish-held", parts.publish_held, [_END]),
        *_when_left("end a run of refresh-sessions", parts.refresh_sessions, [_END]),
    ]
    return [automation for automation in wanted if automation.actions]


def _when_lost(what: str, actions: list[Any], *deployments: UUID) -> list[AutomationCore]:
    """Return the automations for runs that crashed or lost their worker. publish-held finds those that never began."""
    has_crashed = AutomationCore(
        name=f"bluesky: {what} that has crashed",
        description="Posts that are already out are found.",
        trigger=EventTrigger(expect={"prefect.flow-run.Crashed"}, match=_FLOW_RUNS, match_related=_of(*deployments)),
        actions=actions,
    )
    return [has_crashed, _when_silent(what, actions, *deployments)]


def _when_left(what: str, deployment: UUID, actions: list[Any]) -> list[AutomationCore]:
    """Return the automations for runs that block others, and will not end by themselves."""
    never_began = AutomationCore(
        name=f"bluesky: {what} that never began",
        description="The worker died before it started the run. A container, too, starts within half an hour.",
        trigger=_without(
            {"prefect.flow-run.Running", *_ENDS},
            after={"prefect.flow-run.Pending"},
            within=timedelta(minutes=30),
            deployments=(deployment,),
        ),
        actions=actions,
    )
    return [_when_silent(what, actions, deployment), never_began]


def _when_silent(what: str, actions: list[Any], *deployments: UUID) -> AutomationCore:
    """Return the automation for runs whose worker has died."""
    return AutomationCore(
        name=f"bluesky: {what} whose worker has died",
        description="The run has sent no heartbeat for 90 seconds. A living run sends one every 30 seconds.",
        trigger=_without(
            {HEARTBEAT, *_ENDS},
            # The worker may have died before the run's first heartbeat.
            after={HEARTBEAT, "prefect.flow-run.Running"},
            within=timedelta(seconds=90),
            deployments=deployments,
        ),
        actions=actions,
    )


def _without(expect: set[str], *, after: set[str], within: timedelta, deployments: Sequence[UUID]) -> EventTrigger:
    """Return the trigger for each run of some deployments of which an event is not heard in time."""
    return EventTrigger(
        posture=Posture.Proactive,
        after=after,
        expect=expect,
        match=_FLOW_RUNS,
        match_related=_of(*deployments),
        for_each={"prefect.resource.id"},
        within=within,
    )


def _message(parts: Parts, subject: str, body: str) -> list[Any]:
    if parts.notification is None:
        return []
    return [SendNotification(block_document_id=parts.notification, subject=subject, body=body)]


def _once_per_incident(event: str) -> EventTrigger:
    # A dying worker and its successor may send the same event twice. `for_each` makes the automation act once.
    each = {"prefect.resource.id", "incident", "attempt"}
    return EventTrigger(expect={event}, match=_ACCOUNTS, for_each=each, within=_A_DAY)


def _of(*deployments: UUID) -> ResourceSpecification:
    names = [f"prefect.deployment.{deployment}" for deployment in deployments]
    return ResourceSpecification({"prefect.resource.id": names if len(names) > 1 else names[0]})
