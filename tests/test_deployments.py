"""The files that deploy it: that they say the same, and what those who read them take."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import boto3
import pytest
import yaml
from botocore.client import BaseClient
from cryptography.fernet import Fernet
from moto import mock_aws
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect_aws.workers.ecs_worker import ECSJobConfiguration, ECSWorker
from prefect_docker.worker import DockerWorker

from tests import warm

ROOT = Path(__file__).parents[1]
DEPLOYMENTS = ROOT / "deployments"


def _yaml(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / name).read_text())
    return content


def _json(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DEPLOYMENTS / name).read_text())
    return content


DECLARED = _yaml("prefect.yaml")["deployments"]
POOLS = {each["work_pool"]["name"] for each in DECLARED}


def _words(value: str | list[str]) -> list[str]:
    """Return a list, also for a single value, as IAM takes both."""
    return [value] if isinstance(value, str) else value


def _job(template: dict[str, Any], variables: dict[str, Any]) -> ECSJobConfiguration:
    """Return the job that a worker makes of the template and a deployment's variables."""

    async def make() -> Any:
        # It is not asked for anything, as no block and no variable is referred to.
        client = PrefectClient("http://127.0.0.1:1/api")
        return await ECSJobConfiguration.from_template_and_values(template, variables, client=client)

    job: ECSJobConfiguration = asyncio.run(make())
    return job


def _left_out(variable: str) -> str:
    """Return the default of a compose file's variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", variable)


class TestCompose:
    """compose.yaml."""

    text = (DEPLOYMENTS / "compose.yaml").read_text()
    top = text.partition("\nname:")[0]
    services = _yaml("compose.yaml")["services"]

    def test_each_setting_is_explained_at_its_top(self) -> None:
        used = set(re.findall(r"\$\{(\w+)", self.text))
        passed_on = {
            name
            for service in self.services.values()
            for name, value in service.get("environment", {}).items()
            if value is None
        }
        explained = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\b(?:NOTIFY|LISTEN)\b", self.top))
        assert explained == used | passed_on

    def test_variables_without_a_default_are_required(self) -> None:
        required = set(re.findall(r"^#   (\w+) +required", self.top, re.MULTILINE))
        assert set(re.findall(r"\$\{(\w+):\?", self.text)) == required == {"POSTGRES_PASSWORD", "ENCRYPTION_KEY"}

    def test_every_image_names_its_version(self) -> None:
        versions = {name: service["image"].partition(":")[2] for name, service in self.services.items()}
        ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        assert versions == {"postgres": "17", "server": ours, "setup": ours, "worker": ours}

    def test_the_image_is_built_from_the_repository(self) -> None:
        builds = [service["build"] for service in self.services.values() if "build" in service]
        assert all((DEPLOYMENTS / build["context"]).resolve() == ROOT for build in builds)
        assert all((ROOT / build["dockerfile"]).is_file() for build in builds)

    def test_two_workers_serve_the_pool_that_is_deployed_to(self) -> None:
        worker = self.services["worker"]
        assert [_left_out(word) for word in worker["command"]] == [
            *("prefect", "worker", "start", "--pool", *POOLS, "--limit", "3")
        ]
        assert worker["deploy"] == {"replicas": 2}

    def test_each_service_waits_for_what_it_needs(self) -> None:
        waits = {
            name: {needed: how["condition"] for needed, how in service.get("depends_on", {}).items()}
            for name, service in self.services.items()
        }
        assert waits == {
            "postgres": {},
            "server": {"postgres": "service_healthy"},
            "setup": {"server": "service_healthy"},
            "worker": {"setup": "service_completed_successfully"},
        }
        assert all("healthcheck" in self.services[name] for name in ("postgres", "server"))

    def test_the_server_is_reached_from_this_machine_alone(self) -> None:
        published = {name: service["ports"] for name, service in self.services.items() if "ports" in service}
        assert {name: list(map(_left_out, ports)) for name, ports in published.items()} == {
            "server": ["127.0.0.1:4200:4200"]
        }

    def test_setup_and_workers_reach_the_server_by_its_name(self) -> None:
        assert {self.services[name]["environment"]["PREFECT_API_URL"] for name in ("setup", "worker")} == {
            "http://server:4200/api"
        }

    def test_the_links_that_people_get_lead_to_where_the_server_listens(self) -> None:
        links = self.services["worker"]["environment"]["PREFECT_UI_URL"]
        assert _left_out(links) == "http://localhost:4200"
        assert self.services["server"]["environment"]["PREFECT_SERVER_UI_API_URL"] == f"{links}/api"

    @pytest.mark.parametrize(
        ("notify", "arguments"),
        [("", []), ("slack-webhook/alerts", ["--notify", "slack-webhook/alerts"])],
        ids=["left out", "given"],
    )
    def test_setup_is_told_whom_to_tell_only_if_there_is_somebody(
        self, tmp_path: Path, notify: str, arguments: list[str]
    ) -> None:
        python = tmp_path / "prefect-bluesky"
        python.write_text('#!/bin/sh\nfor word; do echo "$word"; done\n')
        python.chmod(0o700)
        shell, option, command = self.services["setup"]["command"]
        done = subprocess.run(
            [shutil.which(shell) or shell, option, command.replace("$$", "$")],
            env={"PATH": str(tmp_path), "NOTIFY": notify},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == ["setup", *arguments]

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")
    def test_the_key_that_its_top_says_how_to_make_is_one_that_prefect_takes(self) -> None:
        (command,) = re.findall(r"Make one: (.*)", self.top)
        made = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
        assert Fernet(made.stdout.strip())


class TestImage:
    """Dockerfile and Dockerfile.dockerignore."""

    steps = tuple(
        tuple(line.split(maxsplit=1))
        for line in (DEPLOYMENTS / "Dockerfile").read_text().replace("\\\n", "").splitlines()
        if line and not line.startswith("#")
    )

    def _all(self, instruction: str) -> list[str]:
        return [rest for name, rest in self.steps if name == instruction]

    def _copied(self) -> list[str]:
        return [source for rest in self._all("COPY") for source in shlex.split(rest)[:-1]]

    def test_the_copied_files_exist(self) -> None:
        assert [source for source in self._copied() if not (ROOT / source).exists()] == []

    def test_only_the_copied_files_are_sent_to_the_builder(self) -> None:
        lines = (DEPLOYMENTS / "Dockerfile.dockerignore").read_text().splitlines()
        patterns = [line for line in lines if not line.startswith("#")]
        assert patterns[0] == "*"
        assert [line[1:] for line in patterns if line.startswith("!")] == self._copied()
        # What comes last counts.
        assert patterns[-2:] == ["**/__pycache__", "**/.env*"]

    def test_the_image_installs_locked_packages_without_tests_and_linters(self) -> None:
        syncs = [shlex.split(rest) for rest in self._all("RUN") if rest.startswith("uv sync")]
        locked = ["uv", "sync", "--locked", "--no-default-groups", "--all-extras"]
        assert syncs == [[*locked, "--no-install-project"], [*locked, "--no-editable"]]

    def test_dependencies_come_before_the_sources(self) -> None:
        first = next(number for number, (_, rest) in enumerate(self.steps) if rest.startswith("uv sync"))
        assert [rest for name, rest in self.steps[:first] if name == "COPY"] == ["pyproject.toml uv.lock ./"]

    def test_the_image_runs_a_worker_as_a_user_without_rights(self) -> None:
        assert self._all("USER") == ["prefect"]
        (command,) = self._all("CMD")
        assert json.loads(command) == ["prefect", "worker", "start", "--pool", *POOLS]

    def test_it_installs_the_package_with_its_flows(self) -> None:
        assert {"blocks", "flows", "deployments"} <= set(self._copied())
        assert all(each["entrypoint"].startswith("prefect_bluesky.flows.") for each in DECLARED)


class TestEcs:
    """ecs-work-pool.json and ecs-iam-policy.json."""

    template = _json("ecs-work-pool.json")
    policy = _json("ecs-iam-policy.json")

    def _defaults(self) -> dict[str, Any]:
        variables = self.template["variables"]["properties"]
        own = ECSWorker.get_default_base_job_template()["variables"]["properties"]
        return {name: each["default"] for name, each in variables.items() if each != own[name]}

    def _allowed(self, action: str) -> list[str]:
        """The resources on which the policy allows an action."""
        return [
            resource
            for statement in self.policy["Statement"]
            if action in _words(statement["Action"])
            for resource in _words(statement["Resource"])
        ]

    def test_the_template_is_prefect_s_own_but_for_some_defaults(self) -> None:
        own = ECSWorker.get_default_base_job_template()
        for name, default in self._defaults().items():
            own["variables"]["properties"][name]["default"] = default
        assert self.template == own

    def test_the_defaults_are_these(self) -> None:
        assert self._defaults() == {
            "env": DECLARED[0]["work_pool"]["job_variables"]["env"],
            "image": "IMAGE_URI",
            "cpu": 512,
            "memory": 1024,
            "task_role_arn": "arn:aws:iam::ACCOUNT_ID:role/prefect-bluesky-task",
            "execution_role_arn": "arn:aws:iam::ACCOUNT_ID:role/prefect-bluesky-execution",
            "configure_cloudwatch_logs": True,
            "cloudwatch_logs_options": {"awslogs-group": "prefect-bluesky"},
        }
        assert self.template["variables"]["properties"]["launch_type"]["default"] == "FARGATE"

    @pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared["name"])
    def test_prefect_makes_a_job_of_it_for_each_deployment(self, declared: dict[str, Any]) -> None:
        job = _job(self.template, declared["work_pool"]["job_variables"])
        assert job.env == {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
        assert job.task_run_request["overrides"]["taskRoleArn"].endswith("role/prefect-bluesky-task")
        assert (job.task_definition["cpu"], job.task_definition["memory"]) == (512, 1024)

    def test_the_worker_may_give_the_roles_of_the_template_and_no_others(self) -> None:
        defaults = self._defaults()
        roles = [defaults[name].replace("ACCOUNT_ID", "*") for name in ("task_role_arn", "execution_role_arn")]
        assert self._allowed("iam:PassRole") == roles

    def test_the_worker_may_read_the_logs_that_the_template_names(self) -> None:
        group = self._defaults()["cloudwatch_logs_options"]["awslogs-group"]
        assert self._allowed("logs:GetLogEvents") == [f"arn:aws:logs:*:*:log-group:{group}:log-stream:*"]

    @pytest.mark.parametrize("name", ["iam-policy.json", "ecs-iam-policy.json"])
    def test_everything_is_allowed_only_where_aws_knows_no_less(self, name: str) -> None:
        unbounded = {
            action
            for statement in _json(name)["Statement"]
            if "*" in _words(statement["Resource"]) and "Condition" not in statement
            for action in _words(statement["Action"])
        }
        assert unbounded <= {"ecs:DescribeTaskDefinition", "ec2:DescribeSubnets", "ec2:DescribeVpcs"}

    @pytest.mark.slow
    @mock_aws
    def test_the_worker_calls_nothing_that_its_policy_does_not_allow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        boto3.client("ecs").create_cluster(clusterName="default")
        calls: set[str] = set()
        make_call = BaseClient._make_api_call

        def recorded(client: Any, operation: str, parameters: dict[str, Any]) -> Any:
            calls.add(f"{client.meta.service_model.service_name}:{operation}")
            return make_call(client, operation, parameters)

        job = _job(self.template, {})
        job.task_definition["containerDefinitions"][0]["memory"] = 1024  # moto wants it where AWS takes the task's own
        run = FlowRun(name="run", flow_id=uuid4(), deployment_id=uuid4())
        job.prepare_for_flow_run(run)
        (pool,) = POOLS
        worker = ECSWorker(work_pool_name=pool)
        with monkeypatch.context() as patch:
            patch.setattr(BaseClient, "_make_api_call", recorded)
            client = boto3.client("ecs")
            for _ in range(2):  # the second finds the task definition of the first
                task, cluster = worker._prepare_and_create_task(logging.getLogger(), client, job, run)[:2]
            worker._stop_task(cluster, task, job)
        assert {"ecs:RunTask", "ecs:DescribeTaskDefinition", "ecs:StopTask", "ec2:DescribeSubnets"} <= calls
        assert [call for call in calls if not self._allowed(call)] == []
        (definition,) = client.list_task_definitions()["taskDefinitionArns"]
        assert any(fnmatchcase(definition, pattern) for pattern in self._allowed("ecs:RunTask"))


class TestPrefectYaml:
    """prefect.yaml."""

    text = (DEPLOYMENTS / "prefect.yaml").read_text()

    def test_no_deployment_holds_the_fields_of_a_block(self) -> None:
        assert "{{" not in self.text

    def test_the_example_of_one_s_own_is_one(self) -> None:
        uncommented = re.sub(r"(?m)^  # ?((?:-|  ).*)$", r"  \1", self.text)
        (own,) = (each for each in yaml.safe_load(uncommented)["deployments"] if each not in DECLARED)
        flow: Flow[Any, Any] = load_flow_from_entrypoint(own["entrypoint"])
        assert flow.validate_parameters(own["parameters"]).keys() >= own["parameters"].keys()
        assert own.keys() <= {key for each in DECLARED for key in each} | {"parameters"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["process", "docker", "ecs"])
def test_the_deployments_go_to_pools_of_each_kind(prefect_api: str, tmp_path: Path, kind: str) -> None:
    pool, file = f"bluesky-{kind}", tmp_path / "prefect.yaml"
    file.write_text((DEPLOYMENTS / "prefect.yaml").read_text().replace("name: bluesky\n", f"name: {pool}\n"))
    template = [] if kind == "process" else ["--base-job-template", str(DEPLOYMENTS / f"{kind}-work-pool.json")]
    _prefect(prefect_api, "work-pool", "create", "--type", kind, pool, *template)
    _prefect(prefect_api, "--no-prompt", "deploy", "--prefect-file", str(file), "--all")
    with get_client(sync_client=True) as client:
        found = client.read_deployments(work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])))
        assert client.read_work_pool(pool).type == kind
        for each in found:
            client.delete_deployment(each.id)
        client.delete_work_pool(pool)
    assert {each.name: each.entrypoint for each in found} == {each["name"]: each["entrypoint"] for each in DECLARED}


def _prefect(api: str, *arguments: str) -> None:
    done = subprocess.run(
        [warm.python(), "-m", "prefect", *arguments],
        cwd=ROOT,
        env=os.environ | {"PREFECT_API_URL": api},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class TestDocker:
    """docker-work-pool.json."""

    template = _json("docker-work-pool.json")

    def test_the_template_is_prefect_s_own_but_for_these_defaults(self) -> None:
        own = DockerWorker.get_default_base_job_template()
        for name, default in {
            "env": DECLARED[0]["work_pool"]["job_variables"]["env"],
            "image": _yaml("compose.yaml")["x-image"]["image"],
            "image_pull_policy": "IfNotPresent",
            "auto_remove": True,
            "mem_limit": "1g",
        }.items():
            own["variables"]["properties"][name]["default"] = default
        assert self.template == own


class TestPages:
    """Pages, where they say what follows from the other files."""

    text = "\n".join(
        page.read_text()
        for page in (DEPLOYMENTS / "README.md", ROOT / "docs" / "sizing.md", ROOT / "docs" / "cloud.md")
    )
    runs_a_day: ClassVar = {
        each["name"]: 86_400 // schedule["interval"] for each in DECLARED for schedule in each.get("schedules", [])
    }

    def test_the_runs_a_day_are_those_of_the_schedules(self) -> None:
        told = re.findall(r"(\d+) (?:runs )?of `([\w-]+)`", self.text)
        assert {name: int(count) for count, name in told} == self.runs_a_day
        assert f"{sum(self.runs_a_day.values())} a day for the schedules" in self.text

    @pytest.mark.parametrize(("secrets", "column"), [(1, 0), (2, 1)], ids=["one secret", "two secrets"])
    def test_the_costs_follow_from_the_prices_and_the_calls(self, secrets: int, column: int) -> None:
        checks, refreshes, posts = self.runs_a_day["refresh-sessions"], 48, 10
        calls = 30 * (checks * secrets + refreshes * 3 + posts * secrets)
        account = secrets * 0.40 + calls / 10_000 * 0.05
        rows = {row[0]: row[1:] for row in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", self.text, re.MULTILINE)}
        assert rows["a month of 30 days"][column] == f"{calls:,}"
        assert {count: rows[f"{count:,}"][column] for count in (1, 50, 1000)} == {
            count: f"${count * account:,.2f}" for count in (1, 50, 1000)
        }
