"""Services that Apprise reaches: a text, at most once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Scheduled
from pydantic import SecretStr

from prefect_bluesky.channels import AppriseChannel, AppriseService, Published, Variant, load_channel
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.errors import DoesNotFit, InvalidInput, Unconfirmed
from tests import apprise_place
from tests.apprise_place import Place

TELEGRAM = "tgram://123456789:abcdefghijklmnopqrstuvwxyz012345678/@news"


@pytest.fixture
def place() -> Iterator[Place]:
    with apprise_place.run() as place:
        yield place


def hook(text: str) -> Variant:
    return Variant(kind="hook", posts=(text,))


def test_its_limit_is_that_of_the_service() -> None:
    rules = AppriseChannel(AppriseService(url=SecretStr(TELEGRAM))).rules
    assert (rules.channel, rules.max_length, rules.max_posts, rules.max_images) == ("Telegram", 4096, 1, 0)


def test_texts_are_counted_in_code_points_as_apprise_cuts_them() -> None:
    channel = AppriseChannel(AppriseService(url=SecretStr(TELEGRAM)))
    family = "👩\u200d👩\u200d👧\u200d👦"
    with pytest.raises(DoesNotFit, match="it has 4,102 characters, 6 over the limit of 4,096"):
        channel.fit(Draft(kind="hook", posts=(family * 586,)))


def test_a_url_of_no_service_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidInput, match=r"^url: Apprise does not recognise it"):
        AppriseChannel(AppriseService(url=SecretStr("nobody://here")))


def test_a_text_goes_out_as_it_is(place: Place) -> None:
    text = "5 < 6 & *that*\n\nhttps://example.com"
    assert AppriseChannel(place.service).publish(hook(text), "key") == Published(())
    assert place.texts == [text]


@pytest.mark.usefixtures("prefect_api")
class TestAttempts:
    """A run that is tried again."""

    @staticmethod
    def attempts(place: Place, *statuses: int) -> list[State[Published]]:
        """A run as it is started again and again, with what the service answers each time."""

        @flow(name=f"send-{uuid4().hex}")
        def send() -> Published:
            return AppriseChannel(place.service).publish(hook("Hi"), "key")

        sending: Flow[Any, Any] = send
        states: list[State[Published]] = []
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(send, state=Scheduled())
        for status in statuses:
            place.status = status
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(run.id, Scheduled(), force=True)
                current = client.read_flow_run(run.id)
            state: Any = run_flow(sending, flow_run=current, return_type="state")
            states.append(state)
        return states

    def test_a_text_that_was_confirmed_is_not_sent_again(self, place: Place) -> None:
        states = self.attempts(place, 200, 200)
        assert [state.is_completed() for state in states] == [True, True]
        assert place.texts == ["Hi"]

    def test_a_text_whose_fate_is_not_known_is_told_and_not_sent_again(self, place: Place) -> None:
        for state in self.attempts(place, 500, 200):
            with pytest.raises(Unconfirmed, match="JSON did not confirm a post, which may be out or not"):
                state.result()
        assert place.texts == ["Hi"]


@pytest.mark.usefixtures("prefect_api")
def test_a_saved_block_is_a_channel_by_its_name(place: Place) -> None:
    name = f"place-{uuid4().hex[:8]}"
    place.service.save(name)
    load_channel(f"apprise-service/{name}").publish(hook("Hi"), "key")
    assert place.texts == ["Hi"]


@pytest.mark.parametrize("name", ["", "nobody", "apprise-service/", "/alice"])
def test_an_unknown_channel_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"^channels: "):
        load_channel(name)


@pytest.mark.usefixtures("prefect_api")
@pytest.mark.parametrize("name", ["mastodon-credentials/nobody", "no-such-type/alice"])
def test_a_block_that_is_not_there_is_said_to_be(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"there is no block {name}"):
        load_channel(name)
