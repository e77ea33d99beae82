"""Set up everything on a Prefect server: `uv run deployments/setup.py --notify slack-webhook/alerts`.

Registers the blocks, makes the work pool, deploys the flows in `prefect.yaml` with their schedules and concurrency
limits, and makes the automations. It may be run any number of times: what is there already is brought back to what
stands here. `--check` changes nothing and says what differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import yaml
from automations import Parts, automations, pausing
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import BlockDocument
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound

from prefect_bluesky import AIGenerator, AppriseService, BlueskyCredentials, MastodonCredentials
from prefect_bluesky.alerts import ALERT
from prefect_bluesky.validation import normal_account

ROOT = Path(__file__).parents[1]
_PAGE = 200
_NOBODY_IS_TOLD = "Nobody is told when an account cannot sign in: give --notify, such as slack-webhook/alerts."
BLOCKS = (BlueskyCredentials, MastodonCredentials, AppriseService, AIGenerator)
PREFECT_YAML = ROOT / "deployments" / "prefect.yaml"


class SetupError(Exception):
    """What was asked for cannot be set up; the message names the remedy."""


class Setup:
    """What stands here, and what is on the server.

    Args:
        client: the server's API.
        notify: the notification block, as `TYPE/NAME`; without one, the one that the automations have already.
        pause: whether an account's deployments are paused while it cannot sign in.
    """

    def __init__(self, client: SyncPrefectClient, notify: str | None, *, pause: bool) -> None:
        self._client = client
        self._notify = notify
        self._pause = pause
        self._declared: list[dict[str, Any]] = yaml.safe_load(PREFECT_YAML.read_text())["deployments"]

    def apply(self) -> None:
        """Make the server what stands here."""
        notification = self._notification()
        for block in BLOCKS:
            block.register_type_and_schema()
        for name in sorted({each["work_pool"]["name"] for each in self._declared}):
            if self._work_pool(name) is None:
                self._client.create_work_pool(WorkPoolCreate(name=name, type="process"))
                _say(f"made the work pool {name}")
        self._deploy()
        for wanted in self._wanted(notification):
            self._put(wanted)
        if notification is None:
            _say(_NOBODY_IS_TOLD)

    def differences(self) -> Iterator[str]:
        """What on the server is not as it stands here."""
        for block in BLOCKS:
            try:
                self._client.read_block_type_by_slug(block.get_block_type_slug())
            except ObjectNotFound:
                yield f"the block type {block.get_block_type_name()} is not registered"
        for name in sorted({each["work_pool"]["name"] for each in self._declared}):
            if self._work_pool(name) is None:
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
            yield _NOBODY_IS_TOLD
        for automation in wanted:
            yield from self._automation_differences(automation)

    def _notification(self) -> UUID | None:
        """The block that messages go to; None if there was none so far, and none is given."""
        if self._notify is None:
            return self._present_notification()
        found = [
            document
            for document in self._blocks()
            if self._notify in {document.name, _slug(document)} and _notifies(document)
        ]
        if not found:
            raise SetupError(
                f"--notify: there is no notification block {self._notify}. Save one in the UI under Blocks (Slack,"
                " Teams, e-mail, custom webhook), and give its type and name, such as slack-webhook/alerts."
            )
        if len(found) > 1:
            raise SetupError(f"--notify: it may be {' or '.join(sorted(map(_slug, found)))}; give one of them.")
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
            if action.type == "send-notification"
        }
        if len(present) > 1:
            raise SetupError("--notify: say where messages go, such as slack-webhook/alerts.")
        return present.pop() if present else None

    def _work_pool(self, name: str) -> object | None:
        try:
            return self._client.read_work_pool(name)
        except ObjectNotFound:
            return None

    def _deploy(self) -> None:
        command = ["--no-prompt", "deploy", "--prefect-file", str(PREFECT_YAML.relative_to(ROOT)), "--all"]
        # Prefect's own command, so that it is the same as when somebody types it.
        done = subprocess.run(  # noqa: S603 - nothing of it comes from outside
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
        _say(f"deployed {', '.join(map(_deployment_name, self._declared))}")

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
            for name in ("publish", "publish-batch", "publish-held", "refresh-sessions")
        }
        wanted = automations(Parts(notification=notification, **ids))
        if self._pause:
            for account, deployments in self._deployments_by_account().items():
                wanted += pausing(account, deployments)
        return wanted

    def _deployments_by_account(self) -> dict[str, list[UUID]]:
        """The deployments whose parameters refer to the saved block of an account."""
        found: dict[str, list[UUID]] = {}
        deployments: list[DeploymentResponse] = []
        while page := self._client.read_deployments(offset=len(deployments), limit=_PAGE):
            deployments += page
        for document in self._client.read_block_documents_by_type(BlueskyCredentials.get_block_type_slug()):
            reference = str(document.id)
            ids = [each.id for each in deployments if reference in json.dumps(each.parameters, default=str)]
            if ids:
                account = normal_account(document.data["handle"])
                found.setdefault(account, []).extend(ids)
        return found

    def _put(self, wanted: AutomationCore) -> None:
        present = self._present(wanted.name)
        if not present:
            self._client.create_automation(wanted)
            _say(f"made the automation “{wanted.name}”")
        elif differing := _differing(wanted, present[0]):
            # With every field set, as unset ones are not sent, the types of actions among them; but for one that
            # the server does not take (Prefect 3.8.8).
            complete = AutomationCore.model_validate(wanted.model_dump(exclude={"owner_resource"}))
            self._client.update_automation(present[0].id, complete)
            _say(f"changed the automation “{wanted.name}” back: {', '.join(differing)}")
        for copy in present[1:]:
            self._client.delete_automation(copy.id)
            _say(f"deleted a copy of the automation “{wanted.name}”")

    def _present(self, name: str) -> list[Automation]:
        return self._client.read_automations_by_name(name)

    def _automation_differences(self, wanted: AutomationCore) -> Iterator[str]:
        present = self._present(wanted.name)
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
        pairs = {
            "entrypoint": (declared["entrypoint"], deployment.entrypoint),
            "description": (declared["description"], deployment.description),
            "tags": (sorted(declared["tags"]), sorted(deployment.tags)),
            "parameters": (declared.get("parameters", {}), deployment.parameters),
            "work pool": (declared["work_pool"]["name"], deployment.work_pool_name),
            "job variables": (declared["work_pool"].get("job_variables", {}), deployment.job_variables),
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
    """A schedule as people read it. In which zone an interval is counted does not matter."""
    shown = f"every {interval:.0f} s" if interval else f"at {cron or rrule} {timezone or 'UTC'}"
    return shown if active else f"{shown}, switched off"


def _schedule(entry: Any) -> str:
    schedule = entry.schedule
    interval = getattr(schedule, "interval", None)
    return _told(
        interval=interval and interval.total_seconds(),
        cron=getattr(schedule, "cron", None),
        # The server puts a line above it, with the day from which it counts.
        rrule=getattr(schedule, "rrule", "").rpartition("\n")[2],
        timezone=schedule.timezone,
        active=entry.active,
    )


def _deployment_name(declared: dict[str, Any]) -> str:
    return f"{declared['entrypoint'].rpartition(':')[2].replace('_', '-')}/{declared['name']}"


def _differing(wanted: AutomationCore, present: Automation) -> dict[str, tuple[Any, Any]]:
    """The fields that differ, each with what it should be and what it is."""
    expected, found = _comparable(wanted), _comparable(present)
    fields = sorted(expected.keys() | found.keys())
    return {name: (expected.get(name), found.get(name)) for name in fields if expected.get(name) != found.get(name)}


def _comparable(automation: AutomationCore) -> dict[str, Any]:
    """Field by field, down to those of the trigger and the actions, in one notation."""
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

    content = automation.model_dump(mode="json", exclude={"id", "owner_resource", "tags"})
    # The server gives what it was not given as null.
    walk(content, "")
    return {path: value for path, value in flat.items() if value not in (None, [], {}, "")} | {
        "enabled": automation.enabled
    }


def _slug(document: BlockDocument) -> str:
    return f"{document.block_type.slug if document.block_type else ''}/{document.name}"


def _notifies(document: BlockDocument) -> bool:
    return bool(document.block_schema and "notify" in document.block_schema.capabilities)


def _say(line: str) -> None:
    print(line)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Set up the deployments, automations and limits of prefect-bluesky on the Prefect server.",
        epilog="Which server: PREFECT_API_URL, as for every command of Prefect. It may be run any number of times.",
    )
    parser.add_argument(
        "--notify",
        metavar="BLOCK",
        help="the saved notification block that messages go to, such as slack-webhook/alerts; once is enough",
    )
    parser.add_argument(
        "--pause",
        action="store_true",
        help="pause the deployments of an account while it cannot sign in: their runs are left out, not held",
    )
    parser.add_argument("--check", action="store_true", help="change nothing, and say what differs")
    arguments = parser.parse_args()
    with get_client(sync_client=True) as client:
        setup = Setup(client, arguments.notify, pause=arguments.pause)
        try:
            if arguments.check:
                differences = list(setup.differences())
                _say("\n".join(differences) or "All is as it stands here.")
                sys.exit(1 if differences else 0)
            setup.apply()
            _say("Set up. Start a worker: prefect worker start --pool bluesky")
        except SetupError as why:
            sys.exit(str(why))


if __name__ == "__main__":
    _main()
