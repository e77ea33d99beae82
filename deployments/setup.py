"""Set up everything on a Prefect server: `uv run deployments/setup.py --notify slack-webhook/alerts`.

Registers the blocks, creates the work pool, deploys the flows in `prefect.yaml` with their schedules and concurrency
limits, and creates the automations. Every further run undoes manual changes. `--check` changes nothing and prints the
differences.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from automations import FORMER, Parts, automations
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import BlockDocument
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import Automation, AutomationCore
from prefect.events.actions import SendNotification
from prefect.exceptions import ObjectNotFound
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from prefect_bluesky import (
    AIGenerator,
    AppriseService,
    BlueskyCredentials,
    BlueskyNotification,
    MastodonCredentials,
    PostingSchedule,
)
from prefect_bluesky.alerts import ALERT
from prefect_bluesky.worker import BlueskyWorker

ROOT = Path(__file__).parents[1]
_PAGE = 200
_NO_NOTIFICATION = "Nobody is notified if an account cannot sign in. Pass --notify, such as slack-webhook/alerts."
BLOCKS = (BlueskyCredentials, BlueskyNotification, MastodonCredentials, AppriseService, AIGenerator, PostingSchedule)
PREFECT_YAML = ROOT / "deployments" / "prefect.yaml"
WITHOUT_POOL: tuple[dict[str, Any], ...] = (
    {
        "name": "planned",
        "entrypoint": "flows/publish.py:publish",
        "description": "The calendar: its runs are planned posts. Not Ready is normal: no worker takes them.",
        "tags": ["bluesky"],
    },
    {
        "name": "later",
        "entrypoint": "flows/publish_batch.py:publish_batch",
        "description": "What a large calendar has after its next thousand posts: each run keeps a hundred of them, and"
        " they become planned posts eight days ahead. The status Not Ready is normal: no worker takes them.",
        "tags": ["bluesky"],
    },
)
"""Deployments without a work pool, so that no worker takes their runs. `prefect deploy` makes only such with a pool."""


class SetupError(Exception):
    """The server cannot be set up. The message names the remedy."""


class Setup:
    """The declared setup and the server's. `notify` is a notification block; None keeps that of the automations."""

    def __init__(self, client: SyncPrefectClient, notify: str | None) -> None:
        self._client = client
        self._notify = notify
        self._deployed: list[dict[str, Any]] = yaml.safe_load(PREFECT_YAML.read_text())["deployments"]
        self._declared = [*self._deployed, *WITHOUT_POOL]

    def apply(self) -> None:
        """Create what is missing on the server, and change the rest back."""
        notification = self._notification()
        for block in BLOCKS:
            block.register_type_and_schema()
        for name in self._missing_work_pools():
            template = BlueskyWorker.get_default_base_job_template()
            self._client.create_work_pool(
                WorkPoolCreate(name=name, type=BlueskyWorker.type, base_job_template=template)
            )
            print(f"created the work pool {name}")
        self._deploy()
        for wanted in self._wanted(notification):
            self._put(wanted)
        for former in self._former():
            self._client.delete_automation(former.id)
            print(f"deleted the automation “{former.name}” of an earlier version")
        if notification is None:
            print(_NO_NOTIFICATION)

    def differences(self) -> Iterator[str]:
        """Yield the differences between the server and the declared setup."""
        for block in BLOCKS:
            try:
                self._client.read_block_type_by_slug(block.get_block_type_slug())
            except ObjectNotFound:
                yield f"the block type {block.get_block_type_name()} is not registered"
        for name in self._missing_work_pools():
            yield f"the work pool {name} is missing"
        for declared in self._declared:
            yield from self._deployment_differences(declared)
        try:
            notification = self._notification()
            wanted = self._wanted(notification)
        except SetupError as why:
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
            raise SetupError(
                f"--notify: there is no notification block {self._notify}. Save one in the UI under Blocks (Slack,"
                " Teams, e-mail, custom webhook), and pass its type and name, such as slack-webhook/alerts."
            )
        if len(found) > 1:
            raise SetupError(f"--notify: several blocks have this name. Pass {' or '.join(sorted(map(_slug, found)))}.")
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
            raise SetupError("The automations use several notification blocks. Pass --notify TYPE/NAME.")
        return present.pop() if present else None

    def _missing_work_pools(self) -> Iterator[str]:
        for name in sorted({each["work_pool"]["name"] for each in self._deployed}):
            try:
                self._client.read_work_pool(name)
            except ObjectNotFound:
                yield name

    def _deploy(self) -> None:
        command = ["--no-prompt", "deploy", "--prefect-file", str(PREFECT_YAML.relative_to(ROOT)), "--all"]
        # Prefect's command gives the same result as when a person types it.
        done = subprocess.run(  # noqa: S603 - no part of the command comes from outside
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SetupError(f"prefect deploy failed:\n{done.stdout}")
        for declared in WITHOUT_POOL:
            flow: Any = load_flow_from_entrypoint(str(ROOT / declared["entrypoint"]))
            self._client.create_deployment(
                self._client.create_flow(flow),
                **declared,
                paused=False,
                parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            )
        print(f"deployed {', '.join(map(_deployment_name, self._declared))}")

    def _deployment(self, declared: dict[str, Any]) -> DeploymentResponse | None:
        try:
            return self._client.read_deployment_by_name(_deployment_name(declared))
        except ObjectNotFound:
            return None

    def _deployment_id(self, name: str) -> UUID:
        declared = next(each for each in self._declared if each["name"] == name)
        deployment = self._deployment(declared)
        if deployment is None:
            raise SetupError(f"the deployment {_deployment_name(declared)} is missing")
        return deployment.id

    def _wanted(self, notification: UUID | None) -> list[AutomationCore]:
        ids = {
            name.replace("-", "_"): self._deployment_id(name)
            for name in ("publish", "publish-batch", "publish-due", "planned", "publish-held", "refresh-sessions")
        }
        return automations(Parts(notification=notification, **ids))

    def _put(self, wanted: AutomationCore) -> None:
        present = self._client.read_automations_by_name(wanted.name)
        if not present:
            self._client.create_automation(wanted)
            print(f"created the automation “{wanted.name}”")
        elif differing := _differing(wanted, present[0]):
            # The client sends only fields that were set, and without this not even the types of actions. The server
            # refuses `owner_resource` (Prefect 3.8.8 to 3.9.1).
            complete = AutomationCore.model_validate(wanted.model_dump(exclude={"owner_resource"}))
            self._client.update_automation(present[0].id, complete)
            print(f"changed the automation “{wanted.name}” back: {', '.join(differing)}")
        for duplicate in present[1:]:
            self._client.delete_automation(duplicate.id)
            print(f"deleted a copy of the automation “{wanted.name}”")

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
        for field, (expected, found) in _differing(wanted, present[0]).items():
            yield f"the automation “{wanted.name}”: {field} is {found}, not {expected}"

    def _deployment_differences(self, declared: dict[str, Any]) -> Iterator[str]:
        name, deployment = _deployment_name(declared), self._deployment(declared)
        if deployment is None:
            yield f"the deployment {name} is missing"
            return
        limit = deployment.global_concurrency_limit
        options = deployment.concurrency_options
        wanted_limit = declared.get("concurrency_limit", {})
        work_pool = declared.get("work_pool", {})
        pairs = {
            "entrypoint": (declared["entrypoint"], deployment.entrypoint),
            "description": (declared["description"], deployment.description),
            "tags": (sorted(declared["tags"]), sorted(deployment.tags)),
            "parameters": (declared.get("parameters", {}), deployment.parameters),
            "work pool": (work_pool.get("name"), deployment.work_pool_name),
            "work queue": ("default" if work_pool else None, deployment.work_queue_name),
            "job variables": (work_pool.get("job_variables", {}), deployment.job_variables),
            "paused": (False, deployment.paused),
            "concurrency limit": (wanted_limit.get("limit"), limit.limit if limit else None),
            "collision strategy": (
                wanted_limit.get("collision_strategy"),
                options.collision_strategy.value if options else None,
            ),
            "schedules": (
                [_told(**each) for each in declared.get("schedules", [])],
                [_schedule(each) for each in deployment.schedules],
            ),
        }
        for field, (expected, found) in pairs.items():
            if expected != found:
                yield f"the deployment {name}: {field} is {found}, not {expected}"


def _told(
    *,
    interval: float | None = None,
    cron: str | None = None,
    rrule: str | None = None,
    timezone: str | None = None,
    active: bool = True,
    **_: Any,
) -> str:
    """Return a schedule in words. An interval's time zone does not matter."""
    shown = f"every {interval:.0f} s" if interval else f"at {cron or rrule} {timezone or 'UTC'}"
    return shown if active else f"{shown}, switched off"


def _schedule(entry: Any) -> str:
    schedule = entry.schedule
    interval = getattr(schedule, "interval", None)
    return _told(
        interval=interval and interval.total_seconds(),
        cron=getattr(schedule, "cron", None),
        # The server puts a line with the start day above the rule.
        rrule=getattr(schedule, "rrule", "").rpartition("\n")[2],
        timezone=schedule.timezone,
        active=entry.active,
    )


def _deployment_name(declared: dict[str, Any]) -> str:
    return f"{declared['entrypoint'].rpartition(':')[2].replace('_', '-')}/{declared['name']}"


def _differing(wanted: AutomationCore, present: Automation) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, each with the wanted and the present value."""
    expected, found = _comparable(wanted), _comparable(present)
    fields = sorted(expected.keys() | found.keys())
    return {name: (expected.get(name), found.get(name)) for name in fields if expected.get(name) != found.get(name)}


def _comparable(automation: AutomationCore) -> dict[str, Any]:
    """Return an automation's fields, with those of its trigger and actions, in one flat notation."""
    flat: dict[str, Any] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else key)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                walk(item, f"{path}[{index}]")
        else:
            flat[path] = sorted(value) if isinstance(value, list) else value

    walk(automation.model_dump(mode="json", exclude={"id", "owner_resource", "tags"}), "")
    # The server returns null for fields that were not sent.
    given = {path: value for path, value in flat.items() if value not in (None, [], {}, "")}
    return given | {"enabled": automation.enabled}


def _slug(document: BlockDocument) -> str:
    return f"{document.block_type.slug if document.block_type else ''}/{document.name}"


def _notifies(document: BlockDocument) -> bool:
    return bool(document.block_schema and "notify" in document.block_schema.capabilities)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Set up the deployments, automations and limits of prefect-bluesky on the Prefect server.",
        epilog="PREFECT_API_URL selects the server, as for every Prefect command. Run it as often as you like.",
    )
    parser.add_argument(
        "--notify",
        metavar="BLOCK",
        help="the saved notification block for messages, such as slack-webhook/alerts; later runs remember it",
    )
    parser.add_argument("--check", action="store_true", help="change nothing, and print the differences")
    arguments = parser.parse_args()
    with get_client(sync_client=True) as client:
        setup = Setup(client, arguments.notify)
        try:
            if arguments.check:
                differences = list(setup.differences())
                print("\n".join(differences) or "Everything is up to date.")
                sys.exit(1 if differences else 0)
            setup.apply()
            print("Set up. Start a worker: prefect worker start --pool bluesky")
        except SetupError as why:
            sys.exit(str(why))


if __name__ == "__main__":
    _main()
