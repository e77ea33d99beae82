"""`prefect-bluesky setup` on a real Prefect server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.schedules import construct_schedule
from prefect.events import Automation, AutomationCore
from prefect.exceptions import PrefectHTTPStatusError

from prefect_bluesky import Post
from prefect_bluesky.setup import Setup
from prefect_bluesky.setup import differences as differences_module
from prefect_bluesky.setup.declared import declared_deployments, full_name
from tests.world import ROOT, World, world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(no_prefect_api: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that was set up once."""
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


def differences(notify: str | None = None) -> list[str]:
    with get_client(sync_client=True) as client:
        return list(Setup(client, notify).differences())


def _core(automation: Automation) -> AutomationCore:
    """An automation as the server takes one."""
    return AutomationCore.model_validate(automation.model_dump(exclude={"id", "owner_resource"}))


def automations() -> dict[str, Automation]:
    with get_client(sync_client=True) as client:
        return {automation.name: automation for automation in client.read_automations()}


def test_run_three_times_it_makes_one_of_each(server: World) -> None:
    with get_client(sync_client=True) as client:
        before = {automation.id for automation in client.read_automations()}
        for _ in range(2):
            assert "Set up." in server.set_up()
        assert {automation.id for automation in client.read_automations()} == before
        names = Counter(automation.name for automation in client.read_automations())
        assert set(names.values()) == {1}
        deployments = Counter(deployment.name for deployment in client.read_deployments())
        assert deployments == dict.fromkeys(
            (
                "publish",
                "publish-advanced",
                "publish-batch",
                "publish-due",
                "planned",
                "later",
                "compose",
                "compose-new",
                "publish-variant",
                "publish-held",
                "refresh-sessions",
                "diagnose",
                "authorize",
                "report",
            ),
            1,
        )
        assert [pool.name for pool in client.read_work_pools()] == ["bluesky"]
        schedules = [deployment.schedules for deployment in client.read_deployments() if deployment.schedules]
        assert [len(each) for each in schedules] == [1, 1]
    assert differences() == []


def test_after_changes_by_hand_it_says_what_differs_and_puts_it_back(server: World) -> None:
    present = automations()
    former = "bluesky: send what was held when an account has recovered"
    alert, recovered, silent, expired = (
        present[f"bluesky: {name}"]
        for name in (
            "tell when an account cannot sign in",
            "send what was held when an account recovers",
            "tell when a session was not refreshed for a day",
            "tell when a post has expired",
        )
    )
    with get_client(sync_client=True) as client:
        hurried = alert.trigger.model_copy(update={"within": timedelta(minutes=1)})
        client.update_automation(alert.id, _core(alert.model_copy(update={"trigger": hurried})))
        client.pause_automation(recovered.id)
        client.delete_automation(silent.id)
        client.create_automation(_core(expired))
        client.create_automation(_core(expired.model_copy(update={"name": former})))
        deployment = client.read_deployment_by_name("refresh-sessions/refresh-sessions")
        client.update_deployment(deployment.id, DeploymentUpdate(description="mine", paused=True))
    found = differences()
    assert found == [
        "the deployment refresh-sessions/refresh-sessions: description is mine, not Keep every saved account's session"
        " warm, and say which account needs somebody.",
        "the deployment refresh-sessions/refresh-sessions: paused is True, not False",
        "the automation “bluesky: tell when an account cannot sign in”: trigger.within is 60.0, not 86400.0",
        "the automation “bluesky: send what was held when an account recovers”: enabled is False, not True",
        "there are 2 automations “bluesky: tell when a post has expired”",
        "the automation “bluesky: tell when a session was not refreshed for a day” is missing",
        f"the automation “{former}” is of an earlier version",
    ]
    assert server.set_up("--check").splitlines() == found
    done = server.set_up().splitlines()
    assert "changed the automation “bluesky: tell when an account cannot sign in”" in done
    assert done[-1].startswith("Set up.")
    assert differences() == []


def test_a_removed_pool_and_another_queue_are_named_and_put_back(server: World) -> None:
    with get_client(sync_client=True) as client:
        client.create_work_queue("slow", work_pool_name="bluesky")
        deployment = client.read_deployment_by_name("publish-due/publish-due")
        client.update_deployment(deployment.id, DeploymentUpdate(work_queue_name="slow"))
        assert differences() == ["the deployment publish-due/publish-due: work queue is slow, not default"]
        client.delete_work_pool("bluesky")
        found = differences()
        assert found[0] == "the work pool bluesky is missing"
        assert "the deployment publish-due/publish-due: work pool is None, not bluesky" in found
        assert not [line for line in found if "publish/planned" in line]
        assert "Set up." in server.set_up()
        assert [pool.type for pool in client.read_work_pools()] == ["bluesky"]
    assert differences() == []


def test_a_pool_that_an_early_worker_made_is_named_with_the_remedy(server: World) -> None:
    said = (
        "the work pool bluesky is of type process, not bluesky."
        " Stop its workers, run `prefect work-pool delete bluesky`, and run `prefect-bluesky setup`."
    )
    with get_client(sync_client=True) as client:
        client.delete_work_pool("bluesky")
        client.create_work_pool(WorkPoolCreate(name="bluesky", type="process"))
        assert said in server.set_up().splitlines()
        assert differences() == [said]
        client.delete_work_pool("bluesky")
    server.set_up()
    assert differences() == []


@pytest.mark.parametrize(
    ("notify", "said"),
    [
        ("slack-webhook/nowhere", "--notify: there is no notification block slack-webhook/nowhere."),
        ("custom-webhook/alerts", None),
        ("alerts", None),
    ],
)
def test_the_notification_block_is_found_by_name_or_refused(server: World, notify: str, said: str | None) -> None:
    found = differences(notify)
    assert [line[: len(said or "")] for line in found] == ([said] if said else [])


def test_no_app_password_and_no_machine_s_path_is_in_what_is_deployed(server: World) -> None:
    declared = Path(ROOT / "deployments" / "prefect.yaml").read_text()
    assert str(ROOT) not in declared
    with get_client(sync_client=True) as client:
        deployed = client.read_deployments()
    assert all(deployment.parameters == {} for deployment in deployed)


@pytest.mark.parametrize(
    "declared",
    [{"interval": 600}, {"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin"}, {"rrule": "FREQ=DAILY"}],
    ids=["interval", "cron", "rrule"],
)
def test_a_schedule_of_one_s_own_is_found_as_it_stands_in_the_file(server: World, declared: dict[str, Any]) -> None:
    with get_client(sync_client=True) as client:
        flow_id = client.read_deployment_by_name("publish/publish").flow_id
        schedule = DeploymentScheduleCreate(schedule=construct_schedule(**declared))
        made = client.create_deployment(flow_id, "scheduled", schedules=[schedule])
        (found,) = client.read_deployment(made).schedules
        client.delete_deployment(made)
    assert differences_module._schedule(found) == differences_module._told(**declared)


class TestTheForms:
    """What a deployment asks for."""

    @staticmethod
    def form(name: str) -> dict[str, Any]:
        with get_client(sync_client=True) as client:
            return client.read_deployment_by_name(name).parameter_openapi_schema or {}

    def test_publish_asks_for_an_account_a_text_pictures_and_a_link(self, server: World) -> None:
        form = self.form("publish/publish")
        assert [field["title"] for field in form["properties"].values()] == ["Account", "Post"]
        post = form["properties"]["post"]
        fields = sorted(post["properties"].values(), key=lambda field: int(field["position"]))
        assert [field["title"] for field in fields] == ["Text", "Pictures", "Link"]
        assert post["required"] == ["text"]

    def test_publish_asks_for_a_file_as_somebody_without_a_storage_block_has_it(self, server: World) -> None:
        pictures = self.form("publish/publish")["properties"]["post"]["properties"]["images"]
        assert "storage" not in str(pictures)

    @pytest.mark.parametrize("deployment", [full_name(each) for each in declared_deployments()])
    def test_a_parameter_that_may_be_left_out_is_a_field_not_a_choice_of_kinds(
        self, server: World, deployment: str
    ) -> None:
        choices = [name for name, field in self.form(deployment)["properties"].items() if "anyOf" in field]
        assert choices == []

    def test_publish_advanced_asks_for_all_that_a_post_can_have(self, server: World) -> None:
        form = self.form("publish/publish-advanced")
        assert list(form["properties"]) == ["credentials", "post", "key", "dry_run", "approve"]
        assert form["definitions"]["Post"]["properties"].keys() == Post.model_fields.keys()

    @pytest.mark.parametrize(
        "post",
        [{"text": ""}, {}, {"text": "Hi", "images": [{"alt": "no file"}]}],
        ids=["empty text", "no text", "no file"],
    )
    def test_what_can_be_checked_is_checked_before_a_worker_starts(self, server: World, post: dict[str, Any]) -> None:
        account = {"handle": "alice.test", "app_password": "aaaa-bbbb-cccc-dddd"}
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("publish/publish").id
            given = {"credentials": account, "post": post}
            with pytest.raises(PrefectHTTPStatusError) as refused:
                client.create_flow_run_from_deployment(deployment, parameters=given)
        assert refused.value.response.status_code == 409

    def test_code_may_give_more_than_the_form_asks_for(self, server: World) -> None:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("publish/publish")
            account = {"handle": "alice.test", "app_password": "aaaa-bbbb-cccc-dddd"}
            post = {"text": "Hi", "languages": ["en"]}
            given = {"credentials": account, "post": post, "key": "one"}
            run = client.create_flow_run_from_deployment(deployment.id, parameters=given)
            client.delete_flow_run(run.id)
        assert run.parameters["key"] == "one"

    def test_the_form_and_code_may_leave_a_parameter_empty(self, server: World) -> None:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("publish/publish-advanced")
            account = {"handle": "alice.test", "app_password": "aaaa-bbbb-cccc-dddd"}
            for empty in (None, ""):
                given = {"credentials": account, "post": {"text": "Hi"}, "key": empty}
                run = client.create_flow_run_from_deployment(deployment.id, parameters=given)
                client.delete_flow_run(run.id)
                assert run.parameters["key"] == empty
