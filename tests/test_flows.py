"""The tasks and the flow on a real Prefect server, and the block as Prefect keeps it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import Flow, flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.serializers import PickleSerializer

from prefect_bluesky import (
    AuthError,
    AuthProblem,
    BlueskyCredentials,
    Post,
    PublishedPost,
    ensure_session,
    publish_post,
    sandbox,
)
from prefect_bluesky.errors import InvalidInput, ServiceUnavailable
from prefect_bluesky.sessions.lock import worker_lock
from tests.support import LOGIN, REFRESH, RESOLVE, WRITE, block, counted, expired, forget_processes_memory, texts

FLOWS = Path(__file__).parents[1] / "flows"

pytestmark = pytest.mark.usefixtures("prefect_api")


def run_of(state: State[Any]) -> FlowRun:
    """The flow run that a state belongs to."""
    with get_client(sync_client=True) as client:
        assert state.state_details.flow_run_id is not None
        return client.read_flow_run(state.state_details.flow_run_id)


def artifact_of(state: State[Any]) -> Any:
    """Return the only artifact of a flow run."""
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_of(state).id]))
        )
    return artifact


class TestPublish:
    """The flow that people deploy."""

    def test_the_flow_gates_publishes_and_links_the_post(self, publish: Any, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        with counted(pds) as requests:
            state = publish(block(pds, account), Post(text="Hello #Prefect"), return_state=True)
        published, run = state.result(), run_of(state)
        assert isinstance(published, PublishedPost)
        assert state.message == f"Published {published.url}"
        assert requests == {LOGIN: 1, WRITE: 1}
        assert texts(pds, account) == ["Hello #Prefect"]
        assert run.name == f"publish as {account.handle}"
        with get_client(sync_client=True) as client:
            in_run = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]))
            tasks = client.read_task_runs(task_run_filter=in_run)
        assert {task.name for task in tasks} == {f"session of {account.handle}", f"post as {account.handle}"}
        assert published.url in str(artifact_of(state).data)

    def test_a_run_whose_post_was_out_before_says_so(self, publish: Any, pds: sandbox.Sandbox) -> None:
        credentials = block(pds, pds.create_account())
        first, second = (publish(credentials, Post(text="Hello"), key="one", return_state=True) for _ in range(2))
        url = first.result().url
        assert (first.message, second.message) == (f"Published {url}", f"Already out: {url}")

    def test_a_caller_gets_the_post_and_the_artifact_shows_the_whole_thread(
        self, publish: Any, pds: sandbox.Sandbox
    ) -> None:
        credentials = block(pds, pds.create_account())
        published = publish(credentials, Post(text="one", thread=["two", "three"]))
        state = publish(credentials, Post(text="one", thread=["two", "three"]), key="again", return_state=True)
        assert len(published.posts) == 3
        assert [each.url for each in state.result().posts[1:] if each.url not in artifact_of(state).description] == []

    def test_the_flow_can_be_served(self, publish: Any, pds: sandbox.Sandbox) -> None:
        """`publish.serve()` starts each run in a process of its own, with the flow pickled by value."""
        pickle = PickleSerializer(picklelib="cloudpickle")
        served = pickle.loads(pickle.dumps(publish))
        parameters = served.validate_parameters({"credentials": block(pds, pds.create_account()), "post": "Hello"})
        assert parameters["post"] == Post(text="Hello")

    def test_an_empty_key_is_no_key(self, publish: Any, pds: sandbox.Sandbox) -> None:
        """A form may send one for a field that somebody has emptied."""
        account = pds.create_account()
        credentials = block(pds, account)
        for text in ("one", "two"):
            publish(credentials, Post(text=text), key="")
        assert sorted(texts(pds, account)) == ["one", "two"]

    def test_its_link_shows_the_text_as_it_is(self, publish: Any, pds: sandbox.Sandbox) -> None:
        state = publish(block(pds, pds.create_account()), Post(text="# not a heading\n*"), return_state=True)
        assert str(artifact_of(state).description).endswith("\n\n\\# not a heading  \n\\*")

    def test_its_log_names_handle_did_and_expiry_and_no_secret(
        self, publish: Any, pds: sandbox.Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        publish(credentials, Post(text="Hello"))
        expiry = f"{credentials.ensure_session().expires_at:%Y-%m-%d %H:%M:%S} UTC"
        lines = [record.getMessage() for record in caplog.records if record.name == "prefect.flow_runs"]
        assert any(all(part in line for part in (account.handle, account.did, expiry)) for line in lines)
        assert account.app_password not in caplog.text
        assert "eyJ" not in caplog.text

    def test_a_saved_block_publishes(self, publish: Any, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        name = f"account-{uuid4().hex[:8]}"
        block(pds, account).save(name)
        publish(BlueskyCredentials.load(name), Post(text="from a saved block"))
        assert texts(pds, account) == ["from a saved block"]

    def test_a_saved_block_is_deleted_through_its_class_and_a_post_through_the_block(
        self, publish: Any, pds: sandbox.Sandbox
    ) -> None:
        account = pds.create_account()
        name = f"account-{uuid4().hex[:8]}"
        credentials = block(pds, account)
        credentials.save(name)
        credentials.delete_post(publish(credentials, Post(text="Hello")))
        assert texts(pds, account) == []
        BlueskyCredentials.delete(name)
        with pytest.raises(ValueError, match="Unable to find block document"):
            BlueskyCredentials.load(name)

    def test_a_dry_run_shows_a_preview_and_publishes_nothing(self, publish: Any, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        state = publish(block(pds, account), Post(text="Not yet"), dry_run=True, return_state=True)
        assert [post.text for post in state.result().posts] == ["Not yet"]
        assert "Not yet" in str(artifact_of(state).data)
        assert texts(pds, account) == []

    def test_a_run_that_refers_to_a_saved_block_publishes(self, publish: Any, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        reference = {"$ref": {"block_document_id": str(block(pds, account).save(f"account-{uuid4().hex[:8]}"))}}
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                publish, parameters={"credentials": reference, "post": {"text": "by reference"}, "key": None}
            )
            run = client.read_flow_run(run.id)
        run_flow(publish, flow_run=run, parameters=run.parameters)
        assert texts(pds, account) == ["by reference"]

    def test_a_run_from_masked_parameters_says_how_to_start_it(self, publish: Any, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        run = run_of(publish(block(pds, account), Post(text="once"), return_state=True))
        assert account.app_password not in str(run.parameters)
        with pytest.raises(InvalidInput, match="saved block"):
            publish(**run.parameters)
        assert texts(pds, account) == ["once"]


@pytest.fixture(scope="module")
def diagnose() -> Flow[Any, Any]:
    """The flow as a deployment loads it."""
    return load_flow_from_entrypoint(f"{FLOWS / 'diagnose.py'}:diagnose")


class TestDiagnose:
    """The flow that finds out why."""

    def test_a_diagnosis_ends_in_a_table_and_the_one_problem_that_explains_the_rest(
        self, diagnose: Any, pds: sandbox.Sandbox
    ) -> None:
        account = pds.create_account()
        credentials = block(pds, account)
        credentials.ensure_session()
        pds.revoke_app_password(account)
        state = diagnose(credentials, log_in=True, return_state=True)
        assert state.result().problem is AuthProblem.APP_PASSWORD_REVOKED
        report = str(artifact_of(state).data)
        assert "| check | found | verdict |" in report
        assert AuthProblem.APP_PASSWORD_REVOKED.remedy in report
        assert account.app_password not in report


class TestTasks:
    """Retries, as the errors themselves say."""

    def test_passing_trouble_is_retried(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.fail(LOGIN, status=502)
        pds.fail(WRITE, status=502, times=2)

        @flow
        def team() -> None:
            ensure_session.with_options(retry_delay_seconds=0)(block(pds, account))
            publish_post.with_options(retry_delay_seconds=0)(block(pds, account), "after all")

        with counted(pds) as requests:
            team()
        assert requests[LOGIN] == 2
        assert requests[WRITE] == 3
        assert texts(pds, account) == ["after all"]

    def test_trouble_that_outlasts_the_retries_leaves_no_traceback_of_the_task(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with sandbox.run() as failing:
            account = failing.create_account()
            failing.fail(LOGIN, status=502, times=99)

            @flow
            def team() -> None:
                publish_post.with_options(retry_delay_seconds=0)(block(failing, account), "never")

            with pytest.raises(ServiceUnavailable):
                team()
        of_task = [record for record in caplog.records if record.name == "prefect.task_runs"]
        assert sum("Retry" in record.getMessage() for record in of_task) == 3
        assert [record.getMessage() for record in of_task if record.exc_info] == []

    def test_a_dead_app_password_is_not_retried(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.revoke_app_password(account)

        @flow
        def team() -> None:
            ensure_session(block(pds, account))

        with counted(pds) as requests, pytest.raises(AuthError) as failure:
            team()
        assert failure.value.problem is AuthProblem.APP_PASSWORD_REJECTED
        assert requests == {LOGIN: 1, RESOLVE: 1}

    @pytest.mark.parametrize(
        "retried",
        [
            lambda work: flow(retries=2, retry_delay_seconds=0)(work),
            lambda work: flow(retries=2, retry_delay_seconds=0)(lambda: flow(work)()),
            lambda work: task(retries=2, retry_delay_seconds=0)(work),
        ],
        ids=["a flow", "a subflow of a retried flow", "a task within a retried task"],
    )
    def test_each_post_of_what_is_retried_goes_out_once(
        self, pds: sandbox.Sandbox, retried: Callable[[Callable[[], None]], Callable[[], None]]
    ) -> None:
        account = pds.create_account()
        attempts: list[int] = []

        def announce() -> None:
            publish_post(block(pds, account), "one and only")
            publish_post(block(pds, account), "and another")
            attempts.append(len(attempts))
            if len(attempts) < 3:
                raise RuntimeError("the worker stumbles after the posts are out")

        retried(announce)()
        assert len(attempts) == 3
        assert texts(pds, account) == ["and another", "one and only"]

    def test_a_write_whose_answer_is_lost_is_not_repeated_by_the_tasks_retry(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        pds.drop(WRITE)
        pds.fail("com.atproto.repo.getRecord", status=503)

        @flow
        def team() -> PublishedPost:
            return publish_post.with_options(retry_delay_seconds=0)(block(pds, account), "once")

        published = team()
        assert [post["uri"] for post in pds.posts(account)] == [published.uri]

    def test_a_map_over_accounts_publishes_for_each(self, pds: sandbox.Sandbox) -> None:
        accounts = [pds.create_account() for _ in range(3)]

        @flow
        def team() -> None:
            publish_post.map([block(pds, account) for account in accounts], "to all").wait()

        team()
        assert [texts(pds, account) for account in accounts] == [["to all"]] * 3

    async def _team(self, credentials: BlueskyCredentials) -> PublishedPost:
        @flow
        async def team() -> PublishedPost:
            await credentials.aensure_session()
            return await credentials.apublish("from an async flow")

        return await team()

    def test_an_async_flow_publishes(self, pds: sandbox.Sandbox) -> None:
        account = pds.create_account()
        published = asyncio.run(self._team(block(pds, account)))
        assert pds.posts(account)[0]["uri"] == published.uri


class TestWorkers:
    """The lock and the store across workers."""

    def test_workers_at_the_moment_of_expiry_share_one_refresh(self, pds: sandbox.Sandbox) -> None:
        _, credentials = expired(pds)
        workers = []
        for _ in range(4):
            forget_processes_memory()
            workers.append(credentials._authenticator())
        for worker in workers:
            worker.ensure()
        with counted(pds) as requests, ThreadPoolExecutor(4) as threads:
            renewals = [threads.submit(copy_context().run, worker.recover, worker.session()) for worker in workers]
            tokens = {renewal.result().access_token for renewal in renewals}
        assert requests == {REFRESH: 1}
        assert len(tokens) == 1

    def test_a_lock_that_a_server_left_closed_is_opened(self, caplog: pytest.LogCaptureFixture) -> None:
        name = f"bluesky-session-{uuid4().hex}"
        with get_client(sync_client=True) as client:
            client.upsert_global_concurrency_limit_by_name(name, 1)
            client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=1))
        with worker_lock(name, lease=60, patience=-59):
            assert "its holder is dead" in caplog.text
        caplog.clear()
        with worker_lock(name, lease=60, patience=-59):
            assert caplog.text == ""

    def test_trouble_is_not_hidden_when_the_server_is_gone(self, pds: sandbox.Sandbox) -> None:
        credentials = block(pds, pds.create_account()).model_copy(update={"service_url": "http://127.0.0.1:1"})
        with pytest.raises(ServiceUnavailable, match="did not answer"):
            credentials.ensure_session()
