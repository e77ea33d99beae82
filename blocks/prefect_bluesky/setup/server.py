"""Set up a Prefect server: blocks, work pool, deployments with their schedules and limits, and automations."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.objects import BlockDocument, ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES
from prefect.events import Automation, AutomationCore
from prefect.events.actions import SendNotification
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter

from prefect_bluesky.alerts import ALERT
from prefect_bluesky.channels import AppriseService, BlueskyNotification, MastodonCredentials
from prefect_bluesky.compose import AIGenerator
from prefect_bluesky.credentials import BlueskyCredentials
from prefect_bluesky.errors import InvalidInput
from prefect_bluesky.planning import PostingSchedule
from prefect_bluesky.sessions import BlueskyOAuthClient
from prefect_bluesky.setup.automations import FORMER, Parts, automations
from prefect_bluesky.setup.declared import declared_deployments, full_name
from prefect_bluesky.setup.differences import deployment_differences, differing
from prefect_bluesky.setup.forms import form_of
from prefect_bluesky.worker import BlueskyWorker

BLOCKS = (
    BlueskyCredentials,
    BlueskyOAuthClient,
    BlueskyNotification,
    MastodonCredentials,
    AppriseService,
    AIGenerator,
    PostingSchedule,
)

_PAGE = 200
_NO_NOTIFICATION = "Nobody is notified if an account cannot sign in. Pass --notify, such as slack-webhook/alerts."
_SCHEDULE: TypeAdapter[SCHEDULE_TYPES] = TypeAdapter(SCHEDULE_TYPES)


class Setup:
    """The declared setup, and the setup of a server.

    Args:
        client: a client of the server.
        notify: the notification block for messages; None keeps the block that the automations have.
    """

    def __init__(self, client: SyncPrefectClient, notify: str | None) -> None:
        self._client = client
        self._notify = notify
        self._declared = declared_deployments()

    def apply(self) -> Iterator[str]:
        """Create what is missing on the server, and change the rest back. Yield what was done, a line each.

        Raises:
            InvalidInput: there is no such notification block.
        """
        notification = self._notification()
        for block in BLOCKS:
            block.register_type_and_schema()
        for name in self._missing_work_pools():
            template = BlueskyWorker.get_default_base_job_template()
            self._client.create_work_pool(
                WorkPoolCreate(name=name, type=BlueskyWorker.type, base_job_template=template)
            )
            yield f"created the work pool {name}"
        yield from self._other_work_pools()
        for declared in self._declared:
            self._deploy(declared)
        yield f"deployed {', '.join(map(full_name, self._declared))}"
        for wanted in self._wanted(notification):
            yield from self._put(wanted)
        for former in self._former():
            self._client.delete_automation(former.id)
            yield f"deleted the automation “{former.name}” of an earlier version"
        if notification is None:
            yield _NO_NOTIFICATION

    def differences(self) -> Iterator[str]:
        """Yield the differences between the server and the declared setup."""
        for block in BLOCKS:
            try:
                self._client.read_block_type_by_slug(block.get_block_type_slug())
            except ObjectNotFound:
                yield f"the block type {block.get_block_type_name()} is not registered"
        for name in self._missing_work_pools():
            yield f"the work pool {name} is missing"
        yield from self._other_work_pools()
        for declared in self._declared:
            yield from deployment_differences(full_name(declared), declared, self._deployment(declared))
        try:
            notification = self._notification()
            wanted = self._wanted(notification)
        except InvalidInput as why:
            yield str(why)
            return
        if notification is None:
            yield _NO_NOTIFICATION
        for automation in wanted:
            yield from self._automation_differences(automation)
        for former in self._former():
            yield f"the automation “{former.name}” is of an earlier version"

    def _notification(self) -> UUID | None:
        """Return the block that messages go to; None if none is given and the automations have none."""
        if self._notify is None:
            return self._present_notification()
        found = [each for each in self._blocks() if self._notify in {each.name, _slug(each)} and _notifies(each)]
        if not found:
            what = f"there is no notification block {self._notify}."
            where = "Save one in the UI under Blocks (Slack, Teams, e-mail, custom webhook)"
            remedy = f"{where}, and pass its type and name, such as slack-webhook/alerts."
            raise InvalidInput("--notify", what, remedy)
        if len(found) > 1:
            names = " or ".join(sorted(map(_slug, found)))
            raise InvalidInput("--notify", "several blocks have this name.", f"Pass {names}.")
        return found[0].id

    def _blocks(self) -> Iterator[BlockDocument]:
        count = 0
        while page := self._client.read_block_documents(offset=count, limit=_PAGE, include_secrets=False):
            yield from page
            count += len(page)

    def _present_notification(self) -> UUID | None:
        present = {
            action.block_document_id
            for automation in self._client.read_automations_by_name(ALERT)
            for action in automation.actions
            if isinstance(action, SendNotification)
        }
        if len(present) > 1:
            raise InvalidInput("--notify", "the automations use several notification blocks.", "Pass TYPE/NAME of one.")
        return present.pop() if present else None

    def _missing_work_pools(self) -> list[str]:
        return [name for name, kind in self._work_pools() if kind is None]

    def _other_work_pools(self) -> Iterator[str]:
        """Yield the work pools of another type: a worker that starts before the setup makes one of type process."""
        for name, kind in self._work_pools():
            if kind not in {None, BlueskyWorker.type}:
                remedy = f"Stop its workers, run `prefect work-pool delete {name}`, and run `prefect-bluesky setup`."
                yield f"the work pool {name} is of type {kind}, not {BlueskyWorker.type}. {remedy}"

    def _work_pools(self) -> Iterator[tuple[str, str | None]]:
        """Yield the declared work pools with their types on the server; None if a work pool is missing."""
        for name in sorted({each["work_pool"]["name"] for each in self._declared if "work_pool" in each}):
            try:
                yield name, self._client.read_work_pool(name).type
            except ObjectNotFound:
                yield name, None

    def _deploy(self, declared: dict[str, Any]) -> None:
        flow: Any = load_flow_from_entrypoint(declared["entrypoint"])
        pool, limit = declared.get("work_pool", {}), declared.get("concurrency_limit", {})
        self._client.create_deployment(
            self._client.create_flow(flow),
            declared["name"],
            version=version("prefect-bluesky"),
            entrypoint=declared["entrypoint"],
            # The flows are imported, wherever the package is installed.
            pull_steps=[],
            description=declared["description"],
            tags=declared["tags"],
            parameters=declared.get("parameters"),
            schedules=[
                DeploymentScheduleCreate(schedule=_SCHEDULE.validate_python(each))
                for each in declared.get("schedules", [])
            ],
            concurrency_limit=limit.get("limit"),
            concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]) if limit else None,
            work_pool_name=pool.get("name"),
            work_queue_name="default" if pool else None,
            job_variables=pool.get("job_variables"),
            paused=False,
            parameter_openapi_schema=form_of(full_name(declared), parameter_schema(flow).model_dump_for_openapi()),
        )

    def _deployment(self, declared: dict[str, Any]) -> DeploymentResponse | None:
        try:
            return self._client.read_deployment_by_name(full_name(declared))
        except ObjectNotFound:
            return None

    def _deployment_id(self, name: str) -> UUID:
        declared = next(each for each in self._declared if each["name"] == name)
        deployment = self._deployment(declared)
        if deployment is None:
            raise InvalidInput("deployment", f"there is no {full_name(declared)}.", "Run the setup without --check.")
        return deployment.id

    def _wanted(self, notification: UUID | None) -> list[AutomationCore]:
        ids = {
            name: self._deployment_id(name.replace("_", "-"))
            for name in Parts.__dataclass_fields__.keys() - {"notification"}
        }
        return automations(Parts(notification=notification, **ids))

    def _put(self, wanted: AutomationCore) -> Iterator[str]:
        present = self._client.read_automations_by_name(wanted.name)
        if not present:
            self._client.create_automation(wanted)
            yield f"created the automation “{wanted.name}”"
        elif differing(wanted, present[0]):
            # The client sends only fields that were set, and without this not even the types of actions. The server
            # refuses `owner_resource` (Prefect 3.8.8 to 3.9.1).
            complete = AutomationCore.model_validate(wanted.model_dump(exclude={"owner_resource"}))
            self._client.update_automation(present[0].id, complete)
            yield f"changed the automation “{wanted.name}”"
        for duplicate in present[1:]:
            self._client.delete_automation(duplicate.id)
            yield f"deleted a copy of the automation “{wanted.name}”"

    def _former(self) -> Iterator[Automation]:
        for name in FORMER:
            yield from self._client.read_automations_by_name(name)

    def _automation_differences(self, wanted: AutomationCore) -> Iterator[str]:
        present = self._client.read_automations_by_name(wanted.name)
        if not present:
            yield f"the automation “{wanted.name}” is missing"
            return
        if len(present) > 1:
            yield f"there are {len(present)} automations “{wanted.name}”"
        for field, (expected, found) in differing(wanted, present[0]).items():
            yield f"the automation “{wanted.name}”: {field} is {found}, not {expected}"


def _slug(document: BlockDocument) -> str:
    return f"{document.block_type.slug if document.block_type else ''}/{document.name}"


def _notifies(document: BlockDocument) -> bool:
    return bool(document.block_schema and "notify" in document.block_schema.capabilities)
