"""An incident: an account cannot sign in, and later it can again. Prefect is told of each once.

An incident and its events have ids that follow from what lies in the account's store. So workers that notice the same
thing, or one that is killed while it tells and another that tells again, send the same event, and it counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.context import FlowRunContext
from prefect.events import Event, Resource
from prefect.utilities.urls import url_for

from prefect_bluesky.alerts import events
from prefect_bluesky.prefect_api import API_TROUBLE, api_client
from prefect_bluesky.problems import AuthProblem

_APP_PASSWORDS = "https://bsky.app/settings/app-passwords"


@dataclass(frozen=True)
class Incident:
    """That an account cannot be used.

    Args:
        account: what its block names: a handle or a DID.
        service_url: where it signs in.
        problem: the cause.
        first_seen: since when.
        http_status: the server's status, if a server said it.
        xrpc_error: the server's error name.
        is_stored: whether all workers know its beginning from the account's store. Otherwise the day tells it apart.
    """

    account: str
    service_url: str
    problem: AuthProblem
    first_seen: datetime
    http_status: int | None = None
    xrpc_error: str | None = None
    is_stored: bool = True

    @property
    def id(self) -> UUID:
        """The same for all workers."""
        began = self.first_seen.astimezone(UTC)
        since = began.isoformat() if self.is_stored else began.date().isoformat()
        return uuid5(NAMESPACE_URL, f"{self.service_url} {self.account} {self.problem} {since}")

    def event_id(self, event: str, attempt: int = 1) -> UUID:
        """The id of an event of this incident.

        Args:
            event: the event's name.
            attempt: 1, and more where an alert was lost on its way to a person.
        """
        return uuid5(self.id, f"{event} {attempt}")


@dataclass(frozen=True)
class Reporter:
    """Tells Prefect of one account's incidents.

    Args:
        block_id: the account's saved block, to link to.
    """

    block_id: UUID | None

    def may_alert(self, account: str, service_url: str) -> bool:
        """Return whether people are told of a refusal of this block.

        They are told of saved blocks, and of an account that has none where a deployment publishes for it. A person who
        runs a script sees the error, and a wrong app password there says nothing about the account's saved block.

        Args:
            account: the handle or DID that the block names.
            service_url: where it signs in.
        """
        if self.block_id is not None:
            return True
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return run is not None and run.deployment_id is not None and not _is_saved(account, service_url)

    def failed(self, incident: Incident, *, did: str | None, handle: str, attempt: int = 1) -> bool:
        """Tell that the account cannot be used.

        Args:
            incident: what happened.
            did: the account's DID, if it is known.
            handle: its handle, as last heard.
            attempt: counts what is told again because the alert was lost.

        Returns:
            whether Prefect has taken it.
        """
        return self._tell(events.AUTH_FAILED, incident, did, handle, attempt)

    def recovered(self, incident: Incident, *, did: str | None, handle: str) -> bool:
        """Tell that the account can be used again; as `failed`."""
        return self._tell(events.AUTH_RECOVERED, incident, did, handle, attempt=1)

    def _tell(self, event: str, incident: Incident, did: str | None, handle: str, attempt: int) -> bool:
        problem = incident.problem
        about = events.resource(incident.account, did=did, handle=handle, pds_url=incident.service_url)
        if self.block_id:
            about["block"] = str(self.block_id)
        return events.deliver(
            Event(
                id=incident.event_id(event, attempt),
                event=event,
                # What an automation tells incidents apart by, so that the same one alerts once.
                resource=Resource(
                    {
                        **about,
                        "account": incident.account,
                        "incident": str(incident.id),
                        "attempt": str(attempt),
                    }
                ),
                payload={
                    "account": incident.account,
                    "problem": problem.value,
                    "explanation": problem.explanation,
                    "remedy": problem.remedy,
                    "http_status": incident.http_status,
                    "xrpc_error": incident.xrpc_error,
                    "first_seen": incident.first_seen.astimezone(UTC).isoformat(timespec="seconds"),
                    "link": self._link(),
                },
            )
        )

    def _link(self) -> str:
        """Where a person mends it: the saved block, else the run that met it, else where app passwords are made."""
        if self.block_id:
            return url_for("block-document", obj_id=self.block_id) or _APP_PASSWORDS
        context = FlowRunContext.get()
        run = context.flow_run if context else None
        return (run and url_for("flow-run", obj_id=run.id)) or _APP_PASSWORDS


def _is_saved(account: str, service_url: str) -> bool:
    try:
        with api_client() as client:
            saved = client.read_block_documents_by_type("bluesky-credentials", include_secrets=False)
    except API_TROUBLE:
        return False  # a person who is told in vain is better off than one who is not told
    return any(
        each.data.get("handle") == account and each.data.get("service_url", _DEFAULT_SERVICE) == service_url
        for each in saved
    )


_DEFAULT_SERVICE = "https://bsky.social"
