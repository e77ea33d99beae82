"""Incidents: an account cannot sign in, and later it can again. Each is reported to Prefect once.

The ids of an incident and its events are computed from the account's stored document. So several workers that notice
the same incident, or repeat a report after a worker was killed, send the same event, and Prefect counts it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.events import Event, Resource, ResourceSpecification
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.utilities.urls import url_for

from prefect_bluesky.alerts import events
from prefect_bluesky.errors import explanation_of
from prefect_bluesky.prefect_api import API_TROUBLE, api_client, current_flow_run
from prefect_bluesky.problems import AuthProblem

_APP_PASSWORDS = "https://bsky.app/settings/app-passwords"
_DEFAULT_SERVICE = "https://bsky.social"


@dataclass(frozen=True)
class Incident:
    """A period in which an account cannot be used.

    Args:
        account: the handle or DID that the block names.
        service_url: where the account signs in.
        problem: the cause.
        first_seen: the time of the first failure.
        http_status: the server's status, if a server refused.
        xrpc_error: the server's error name, if a server refused.
        after: None if `first_seen` is in the account's store, which all workers share. For an incident of the store
            itself, the id of the last such report, or "": all workers find that among Prefect's events.
        told_as: the id under which the incident was told, if it is known from its event.
        symptom: the problem that the server's answer alone names; None if it is `problem`. The evidence may name
            another cause at each refusal, and the incident stays the same.
        found: what the evidence showed.
    """

    account: str
    service_url: str
    problem: AuthProblem
    first_seen: datetime
    http_status: int | None = None
    xrpc_error: str | None = None
    after: str | None = None
    told_as: UUID | None = None
    symptom: AuthProblem | None = None
    found: str = ""

    @property
    def id(self) -> UUID:
        """The incident's id, the same for all workers."""
        since = self.first_seen.astimezone(UTC).isoformat() if self.after is None else f"after {self.after}"
        what = f"{self.service_url} {self.account} {self.symptom or self.problem} {since}"
        return self.told_as or uuid5(NAMESPACE_URL, what)

    def event_id(self, event: str, attempt: int = 1) -> UUID:
        """Return the id of this incident's event. `attempt` is 1, and higher if an earlier alert was lost."""
        return uuid5(self.id, f"{event} {attempt}")


@dataclass(frozen=True)
class Reporter:
    """A sender of one account's incidents to Prefect.

    Args:
        block_id: the account's saved block, which alerts link to.
    """

    block_id: UUID | None

    def may_alert(self, account: str, service_url: str) -> bool:
        """Return whether a refusal of this block alerts people.

        Alerts are sent for saved blocks, and for an account without one if a deployment publishes for it. A person who
        runs a script sees the error, and a wrong app password there says nothing about the account's saved block.

        Args:
            account: the handle or DID that the block names.
            service_url: where the account signs in.
        """
        if self.block_id is not None:
            return True
        run = current_flow_run()
        return run is not None and run.deployment_id is not None and not _is_saved(account, service_url)

    def failed(self, incident: Incident, *, did: str | None, handle: str, attempt: int = 1) -> bool:
        """Report that the account cannot be used.

        Args:
            incident: the incident.
            did: the account's DID, if it is known.
            handle: the account's last known handle.
            attempt: 1, and higher if an earlier alert was lost.

        Returns:
            True if Prefect accepted the event.
        """
        return self._send(events.AUTH_FAILED, incident, did, handle, attempt)

    def recovered(self, incident: Incident, *, did: str | None, handle: str) -> bool:
        """Report that the account can be used again. Arguments and result are as for `failed`."""
        return self._send(events.AUTH_RECOVERED, incident, did, handle, attempt=1)

    def _send(self, event: str, incident: Incident, did: str | None, handle: str, attempt: int) -> bool:
        problem = incident.problem
        about = events.resource(incident.account, did=did, handle=handle, pds_url=incident.service_url)
        if self.block_id:
            about["block"] = str(self.block_id)
        return events.deliver(
            Event(
                id=incident.event_id(event, attempt),
                event=event,
                # Automations alert once for each incident and attempt.
                resource=Resource(
                    {
                        **about,
                        "account": incident.account,
                        "incident": str(incident.id),
                        "attempt": str(attempt),
                        "stored": "yes" if incident.after is None else "no",
                    }
                ),
                payload={
                    "account": incident.account,
                    "problem": problem.value,
                    "explanation": explanation_of(problem, incident.found),
                    "remedy": problem.remedy,
                    "http_status": incident.http_status,
                    "xrpc_error": incident.xrpc_error,
                    "first_seen": incident.first_seen.astimezone(UTC).isoformat(timespec="seconds"),
                    "link": self._link(),
                },
            )
        )

    def _link(self) -> str:
        """Return the page where a person fixes the account: the saved block, else the run, else Bluesky's settings."""
        if self.block_id:
            return block_page(self.block_id)
        run = current_flow_run()
        return (run and url_for("flow-run", obj_id=run.id)) or _APP_PASSWORDS


def block_page(block_id: UUID) -> str:
    """Return the page of a saved block in Prefect's UI, where a person fixes its account, else Bluesky's settings."""
    return url_for("block-document", obj_id=block_id) or _APP_PASSWORDS


def was_told(incident: Incident) -> bool:
    """Return whether an incident was reported to Prefect."""
    labels = ResourceSpecification({"incident": str(incident.id)})
    failed = EventNameFilter(name=[events.AUTH_FAILED])
    return bool(events.told(EventFilter(event=failed, resource=EventResourceFilter(labels=labels))))


def last_unstored(account: str, service_url: str) -> tuple[Incident | None, bool]:
    """Return the last incident of an account that could not be stored, if there is one, and whether it is open.

    Args:
        account: the handle or DID that the block names.
        service_url: where the account signs in.
    """
    labels = ResourceSpecification({"account": account, "pds": service_url, "stored": "no"})
    wanted = EventFilter(
        event=EventNameFilter(name=[events.AUTH_FAILED, events.AUTH_RECOVERED]),
        resource=EventResourceFilter(labels=labels),
    )
    *_, last = [None, *events.told(wanted)]
    problem = next((each for each in AuthProblem if last and each.value == last.payload["problem"]), None)
    if last is None or problem is None:
        return None, False
    incident = Incident(
        account,
        service_url,
        problem,
        datetime.fromisoformat(last.payload["first_seen"]),
        after=str(last.id),
        told_as=UUID(last.resource["incident"]),
    )
    return incident, last.event == events.AUTH_FAILED


def _is_saved(account: str, service_url: str) -> bool:
    try:
        with api_client() as client:
            saved = client.read_block_documents_by_type("bluesky-credentials", include_secrets=False)
    except API_TROUBLE:
        return False  # a superfluous alert is better than a missing one
    return any(
        each.data.get("handle") == account and each.data.get("service_url", _DEFAULT_SERVICE) == service_url
        for each in saved
    )
