"""The flow `authorize` on a real PDS: its paused run shows links and takes addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import orjson
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Failed, Scheduled

from prefect_bluesky import BlueskyCredentials, BlueskyOAuthClient
from tests.pds.consent import consent, refuse
from tests.pds.server import Account, RealPds
from tests.support import artifacts_of, texts
from tests.worker import asks, run_in
from tests.world import wait_for

pytestmark = [pytest.mark.pds, pytest.mark.usefixtures("prefect_api", "directory")]

AUTHORIZE = f"{Path(__file__).parents[2] / 'flows' / 'authorize.py'}:authorize"

SCOPE = (
    "atproto repo?collection=app.bsky.feed.post&collection=app.bsky.feed.threadgate"
    "&collection=app.bsky.feed.postgate&action=create blob:image/*"
)


@pytest.fixture
def pds(real_pds: RealPds) -> RealPds:
    return real_pds


class Run:
    """A run of the flow, underway in a thread."""

    def __init__(self, threads: ThreadPoolExecutor, block: UUID, hours: float) -> None:
        given = {"account": {"$ref": {"block_document_id": str(block)}}, "hours": hours}
        with get_client(sync_client=True) as client:
            flow: Flow[Any, Any] = load_flow_from_entrypoint(AUTHORIZE)
            self.id = client.create_flow_run(flow, parameters=given, state=Scheduled()).id
        self._name: Future[str | None] = threads.submit(copy_context().run, run_in, AUTHORIZE, self.id)

    def form(self) -> str:
        """Wait until the run is paused. Return the text of its form."""
        wait_for(lambda: self._name.done() or (asks(self.id) and self._text()), "the form")
        return self._text()

    def link(self) -> str:
        """Wait until the run is paused. Return the link in its form."""
        (link,) = re.findall(r"<(http\S+)>", self.form())
        return str(link)

    def answer(self, address: str) -> None:
        """Resume the run with an address."""
        with get_client(sync_client=True) as client:
            assert client.resume_flow_run(self.id, run_input={"address": address}).status == SetStateStatus.ACCEPT

    def ended(self) -> tuple[str | None, str | None]:
        """Wait for the end. Return the name and the message of the run's state."""
        self._name.result(timeout=120)
        state = self.read().state
        assert state
        return state.name, state.message

    def read(self) -> FlowRun:
        with get_client(sync_client=True) as client:
            return client.read_flow_run(self.id)

    def inputs(self) -> dict[str, str]:
        """What Prefect stores of the run's forms."""
        with get_client(sync_client=True) as client:
            return {each.key: each.value for each in client.filter_flow_run_input(self.id, "", 200, set())}

    def logs(self) -> str:
        with get_client(sync_client=True) as client:
            found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[self.id])))
        return "\n".join(log.message for log in found)

    def _text(self) -> str:
        state = self.read().state
        assert state
        keys = state.state_details.run_input_keyset or {}
        return str(orjson.loads(self.inputs().get(keys.get("description", ""), '""')))


Start = Callable[..., Run]


@pytest.fixture
def start(account: Account, real_pds: RealPds) -> Iterator[Start]:
    """Starts the flow for the account."""
    with ThreadPoolExecutor(1) as threads:

        def start(hours: float = 24, **fields: Any) -> Run:
            signs_in = fields or {"oauth_client": BlueskyOAuthClient()}
            made = BlueskyCredentials(handle=account.handle, service_url=real_pds.url, **signs_in)
            return Run(threads, UUID(str(made.save(account.handle.replace(".", "-")))), hours)

        yield start


def load(account: Account) -> BlueskyCredentials:
    found = BlueskyCredentials.load(account.handle.replace(".", "-"))
    assert isinstance(found, BlueskyCredentials)
    return found


def test_an_owner_grants_access_in_two_forms_and_nothing_of_the_answers_stays(
    start: Start, account: Account, real_pds: RealPds
) -> None:
    run = start()
    addresses = []
    for _ in range(2):
        addresses.append(consent(run.link(), account))
        run.answer(addresses[-1])
    about = f"The account is {account.did} at {real_pds.url}. The scope is {SCOPE}."
    assert run.ended() == ("Completed", f"Access is granted, with a spare session. {about}")
    load(account).publish("a text")
    assert texts(real_pds, account) == ["a text"]

    inputs = run.inputs()
    assert not [key for key in inputs if key.endswith("-response")]
    kept = [*inputs.values(), run.logs(), str(run.read()), *map(str, artifacts_of(run.id))]
    for address in addresses:
        query = parse_qs(urlsplit(address).query)
        assert not [text for text in kept if query["code"][0] in text or query["state"][0] in text]


def test_a_person_is_asked_again_with_the_reason_and_a_new_link(start: Start, account: Account) -> None:
    run = start()
    links = [run.link()]
    assert "in a new tab, before" in run.form()
    run.answer("")
    links.append(run.link())
    assert run.form().startswith("First of two:")
    run.answer(refuse(links[-1]))
    links.append(run.link())
    assert "**address: the account's server gave no grant: The user rejected the request" in run.form()
    late = consent(links[0], account)
    run.answer(late)
    links.append(run.link())
    assert "it belongs to another link" in run.form()
    assert len(set(links)) == len(links)
    for link in (links[-1], ""):
        run.answer(consent(link or run.link(), account))
    assert run.ended()[0] == "Completed"


def test_an_expired_code_is_no_end_of_the_run(start: Start, account: Account) -> None:
    run = start()
    address = consent(run.link(), account)
    code = parse_qs(urlsplit(address).query)["code"][0]
    run.answer(address.replace(code, f"cod-{'0' * 64}"))
    assert "invalid_grant" in run.form()
    run.answer("")
    for _ in range(2):
        run.answer(consent(run.link(), account))
    assert run.ended()[0] == "Completed"


@pytest.mark.parametrize("is_noticed", [False, True], ids=["Prefect is late", "Prefect fails it"])
def test_a_run_that_nobody_answers_is_cancelled(start: Start, is_noticed: bool) -> None:
    run = start(hours=0.002)
    run.form()
    if is_noticed:
        # As the server's own look at paused runs does, every five seconds.
        with get_client(sync_client=True) as client:
            never: State[Any] = Failed(message="The flow was paused and never resumed.")
            client.set_flow_run_state(run.id, never, force=True)
    assert run.ended() == ("Cancelled", "Nobody has granted access within 0.002 hours. Run it again for a new link.")


@pytest.mark.slow  # nobody comes
def test_a_run_without_a_spare_session_leaves_an_account_that_publishes_and_says_so(
    start: Start, account: Account, real_pds: RealPds
) -> None:
    run = start(hours=0.01)
    run.answer(consent(run.link(), account))
    name, message = run.ended()
    assert name == "Completed"
    why = "Nobody has granted access within 0.01 hours."
    assert (message or "").startswith(f"Access is granted, but the spare session is missing. {why} The account is")
    load(account).publish("a text")
    assert texts(real_pds, account) == ["a text"]


def test_an_account_without_a_client_is_named(start: Start, account: Account) -> None:
    run = start(app_password=account.app_password)
    remedy = "Save a Bluesky OAuth Client, and pick it in the account's block."
    assert run.ended() == ("Failed", f"oauth_client: it is missing. {remedy}")
