"""Drafts by a model, behind a server with OpenAI's API on loopback: bounded, logged, and never longer than they may."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect import flow
from pydantic import SecretStr

from prefect_bluesky.channels import Rules
from prefect_bluesky.channels.bluesky import RULES
from prefect_bluesky.channels.draft import Draft
from prefect_bluesky.compose.ai import AIGenerator
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.errors import DoesNotFit, GeneratorFailed, InvalidInput
from tests.support import QuietHandler, http_server

IDEA = Idea(text="Release 2.0 is out.", link="https://example.com/2.0")
GOOD = json.dumps({"drafts": [{"kind": "link", "posts": ["2.0 is here"]}, {"kind": "thread", "posts": ["One", "Two"]}]})
LONG = json.dumps({"drafts": [{"kind": "hook", "posts": ["x" * 312]}]})
BROKEN = '{"drafts": [{"kind": "hook", "posts": ["Hi"'


class ModelServer:
    """Answers with what it was told to, one after the other, the last again and again."""

    def __init__(self, *answers: str | int) -> None:
        self._answers = answers
        self.url = ""
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append(request)
        answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
        if isinstance(answer, int):
            return answer, {"error": {"message": "no", "type": "error"}}
        name = request["tools"][0]["function"]["name"]
        call = {"id": f"call-{len(self.asked)}", "type": "function", "function": {"name": name, "arguments": answer}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        return 200, {
            "id": "chat",
            "object": "chat.completion",
            "created": 1,
            "model": "a-model",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }

    @property
    def last_objection(self) -> str:
        """Return the last message that went back to the model."""
        return str(self.asked[-1]["messages"][-1]["content"])


@contextmanager
def serving(*answers: str | int) -> Iterator[ModelServer]:
    model = ModelServer(*answers)

    class Handler(QuietHandler):
        def do_POST(self) -> None:  # noqa: N802
            status, content = model.answer(json.loads(self.body()))
            self.answer(status, json.dumps(content).encode(), Content_Type="application/json")

    with http_server(Handler) as port:
        model.url = f"http://127.0.0.1:{port}/v1"
        yield model


def generator(server: ModelServer, **fields: Any) -> AIGenerator:
    return AIGenerator(model="openai-chat:a-model", api_key=SecretStr("secret-key"), base_url=server.url, **fields)


def test_an_unusable_draft_goes_back_to_the_model_until_it_fits(caplog: pytest.LogCaptureFixture) -> None:
    with serving(LONG, BROKEN, GOOD) as server, caplog.at_level(logging.WARNING):
        drafts = generator(server).generate(IDEA, RULES, 5)
    assert drafts == [
        Draft(kind="link", posts=("2.0 is here",), link="https://example.com/2.0"),
        Draft(kind="thread", posts=("One", "Two")),
    ]
    assert len(server.asked) == 3
    logged = [record.getMessage() for record in caplog.records if "asked again" in record.getMessage()]
    assert "(2 of 4): drafts[0].posts[0]: it has 312 characters, 12 over the limit of 300" in logged[0]
    assert "(3 of 4)" in logged[1]


def test_the_exact_overflow_goes_back_to_the_model() -> None:
    with serving(LONG, GOOD) as server:
        generator(server).generate(IDEA, RULES, 5)
        assert "drafts[0].posts[0]: it has 312 characters, 12 over the limit of 300" in server.last_objection


def test_a_model_that_never_learns_is_asked_no_more_than_was_allowed() -> None:
    with serving(LONG) as server:
        with pytest.raises(GeneratorFailed, match="not usable after 3 attempts"):
            generator(server, attempts=3).generate(IDEA, RULES, 5)
        assert len(server.asked) == 3


def test_there_are_no_more_than_were_asked_for() -> None:
    with serving(GOOD) as server:
        assert len(generator(server).generate(IDEA, RULES, 1)) == 1


def test_the_model_is_told_what_the_channel_takes_and_how_to_write() -> None:
    with serving(GOOD) as server:
        generator(server, instructions="Write like a pirate.").generate(IDEA, RULES, 5)
    told = json.dumps(server.asked[0]["messages"])
    for part in ("at most 300 characters", "5 drafts for Bluesky", "Release 2.0 is out.", "Write like a pirate."):
        assert part in told


@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [(400, GeneratorFailed, False), (401, InvalidInput, False), (500, GeneratorFailed, True)],
)
def test_a_provider_s_refusal_is_reported_without_the_key(
    status: int, error: type[GeneratorFailed | InvalidInput], retryable: bool
) -> None:
    with serving(status) as server, pytest.raises(error) as refused:
        generator(server).generate(IDEA, RULES, 5)
    assert refused.value.retryable is retryable
    assert "secret-key" not in repr(refused.value)


@pytest.mark.parametrize("model", ["a-model", "nobody:a-model"])
def test_a_model_of_no_provider_is_refused_by_its_field(model: str) -> None:
    with pytest.raises(InvalidInput, match=r"^model: "):
        AIGenerator(model=model, api_key=SecretStr("secret-key")).generate(IDEA, RULES, 5)


@pytest.mark.parametrize("key", ["two words", "********", "“quoted”", "a\nb"])
def test_a_key_that_is_none_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidInput, match="api_key") as refused:
        AIGenerator(model="openai-chat:a-model", api_key=SecretStr(key))
    assert key not in str(refused.value)


def test_a_key_is_taken_without_the_line_break_it_was_copied_with() -> None:
    key = AIGenerator(model="openai-chat:a-model", api_key=SecretStr("secret-key\n")).api_key
    assert key is not None
    assert key.get_secret_value() == "secret-key"


def test_a_link_that_fits_no_post_costs_no_request() -> None:
    rules = Rules("a pager", max_length=20)
    with serving(GOOD) as server:
        with pytest.raises(DoesNotFit):
            generator(server).generate(IDEA, rules, 5)
        assert server.asked == []


@pytest.mark.usefixtures("prefect_api")
def test_in_a_flow_each_request_is_a_task_of_its_own() -> None:
    with serving(LONG, GOOD) as server:
        block = generator(server)

        @flow
        def drafting() -> int:
            return len(block.generate(IDEA, RULES, 5))

        assert drafting() == 2
        assert len(server.asked) == 2
