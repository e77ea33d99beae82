"""Drafts by a model: of any provider that pydantic-ai knows, checked by the fitter before anybody sees them."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator

from prefect_bluesky.channels import Draft, Kind, Rules, fit
from prefect_bluesky.compose.idea import Idea
from prefect_bluesky.errors import DoesNotFit, GeneratorFailed, InvalidInput
from prefect_bluesky.extras import extra
from prefect_bluesky.prefect_api import as_block_form, logger

if TYPE_CHECKING:
    from pydantic_ai import Agent

_INSTRUCTIONS = """You write posts for social media. Of the idea that you are given, you make drafts for one channel.

Each draft has a kind: a "hook" catches the eye in one post, a "link" leads to the idea's link in one post, a "thread"
tells all of it in several posts, a "summary" tells it in short in one post. Make them differ in more than words. Say
nothing that the idea does not say, and write in its language. Do not write the link itself: where with_link is true, it
is put below the last post."""


class _Draft(BaseModel):
    kind: Kind
    posts: list[str] = Field(min_length=1)
    with_link: bool = False


class _Drafts(BaseModel):
    drafts: list[_Draft] = Field(min_length=1)


class AIGenerator(Block):
    """
    Makes drafts of an idea with a model.

    Needs the extra `ai`: `pip install "prefect-bluesky[ai]"`.

    Example:
        Load a stored block and name it to `compose`, as `ai-generator/BLOCK_NAME`; or make drafts with it:
        ```python
        from prefect_bluesky import AIGenerator
        from prefect_bluesky.channels import load_channel
        from prefect_bluesky.compose import Idea

        generator = AIGenerator.load("BLOCK_NAME")
        drafts = generator.generate(Idea(text="Release 2.0 is out"), load_channel("mastodon").rules, count=3)
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True, extra="forbid", json_schema_extra=as_block_form)

    _block_type_name = "AI Generator"
    _block_type_slug = "ai-generator"
    _logo_url = HttpUrl("https://github.com/pydantic.png?size=200")
    _documentation_url = HttpUrl("https://ai.pydantic.dev/models/overview/")
    _description = "Makes drafts of an idea with a model of any provider that pydantic-ai knows."

    model: str = Field(
        title="Model",
        description="The provider and the model, as pydantic-ai names them.",
        examples=["openai:gpt-5-mini", "anthropic:claude-sonnet-4-5"],
    )
    api_key: SecretStr | None = Field(
        default=None, title="API key", description="Left out, the provider's own environment variable is used."
    )
    base_url: str | None = Field(
        default=None, title="Base URL", description="Of a server with the provider's API. Left out: the provider's own."
    )
    instructions: str = Field(
        default="",
        title="Instructions",
        description="What the posts shall be like: the voice, the audience, words to use and to avoid.",
    )
    attempts: int = Field(
        default=4, ge=1, le=10, title="Attempts", description="How often the model is asked until its drafts fit."
    )

    @field_validator("api_key")
    @classmethod
    def _normal_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        written = key.get_secret_value().strip() if key else ""
        # Of what cannot stand in a header, the HTTP client would show all.
        if not re.fullmatch(r"[!-~]*", written) or re.fullmatch(r"\*+", written):
            raise InvalidInput(
                "api_key", "it is masked, or holds what no key holds.", "Copy it again, and start from a saved block."
            )
        return SecretStr(written) if written else None

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Drafts that fit a channel.

        What does not fit goes back to the model with what is wrong, by how much, and is logged.

        Args:
            idea: what to tell.
            rules: what the channel takes.
            count: how many drafts at most.

        Raises:
            DoesNotFit: the idea's link or images fit no post of the channel, whatever the model writes.
            InvalidInput: there is no such model, or the extra `ai` is not installed.
            GeneratorFailed: the provider refuses or does not answer, or after all attempts the drafts do not fit.
        """
        drafted = partial(_as_draft, idea=idea, rules=rules)
        for each in ("hook", "link"):
            fit(drafted(_Draft(kind=each, posts=["x"])), rules)
        agent = self._agent(drafted, rules)
        drafts: _Drafts = run_coro_as_sync(self._ask(agent, _prompt(idea, rules, count)))
        return [drafted(each) for each in drafts.drafts[:count]]

    def _agent(self, drafted: Any, rules: Rules) -> Agent[None, _Drafts]:
        with extra("ai", "generator"):
            from pydantic_ai import Agent, ModelRetry
            from pydantic_ai.durable_exec.prefect import PrefectDurability, TaskConfig
            from pydantic_ai.exceptions import UserError
            from pydantic_ai.models import infer_model
            from pydantic_ai.providers import infer_provider_class
        given: dict[str, Any] = {"api_key": self.api_key and self.api_key.get_secret_value(), "base_url": self.base_url}
        options = {name: value for name, value in given.items() if value}
        try:
            model = infer_model(self.model, lambda provider: infer_provider_class(provider)(**options))
        except (UserError, ValueError, TypeError, ImportError) as unusable:
            # Of these none shows a key: they speak of names that are unknown, missing, or not installed.
            raise InvalidInput("model", f"{self.model}: {unusable}.", "Name one as pydantic-ai does.") from None
        asked_anew = TaskConfig(cache_policy=NO_CACHE, persist_result=False)
        agent = Agent(
            model,
            output_type=_Drafts,
            name="bluesky-drafts",
            instructions=[_INSTRUCTIONS, self.instructions] if self.instructions else _INSTRUCTIONS,
            retries=self.attempts - 1,
            # In a flow each request is a task of its own. What was drafted is kept by the run; an answer that was not
            # usable must not come back when the run is tried again.
            capabilities=[PrefectDurability(model_task_config=asked_anew)],
        )

        @agent.output_validator
        def fits(output: _Drafts) -> _Drafts:
            problems: list[str] = []
            for number, each in enumerate(output.drafts):
                try:
                    fit(drafted(each), rules)
                except DoesNotFit as refused:
                    problems += [f"drafts[{number}].{problem}" for problem in refused.problems]
            if problems:
                raise ModelRetry("\n".join(problems))
            return output

        return agent

    async def _ask(self, agent: Agent[None, _Drafts], prompt: str) -> _Drafts:
        from pydantic_ai import Agent
        from pydantic_ai.exceptions import AgentRunError, ModelHTTPError, UnexpectedModelBehavior

        asked = 0
        try:
            async with agent.iter(prompt) as run:
                async for node in run:
                    objections = _objections(node)
                    asked += Agent.is_model_request_node(node)
                    for objection in objections:
                        logger().warning(
                            "%s is asked again (%d of %d): %s", self.model, asked, self.attempts, objection
                        )
        except UnexpectedModelBehavior:
            reason = f"its drafts were not usable when it had been asked {asked} times"
            raise GeneratorFailed(self.model, reason) from None
        except ModelHTTPError as refusal:
            if refusal.status_code in {401, 403}:
                raise InvalidInput(
                    "api_key", f"{self.model} refuses it ({refusal.status_code}).", "Put a valid one into the block."
                ) from None
            passing = refusal.status_code == 429 or refusal.status_code >= 500
            reason = f"its provider answered with {refusal.status_code}"
            raise GeneratorFailed(self.model, reason, retryable=passing) from None
        except AgentRunError as trouble:
            raise GeneratorFailed(self.model, type(trouble).__name__, retryable=True) from None
        if run.result is None:
            raise GeneratorFailed(self.model, "it ended without drafts")
        return run.result.output


def _objections(node: Any) -> list[str]:
    """What goes back to the model with a request."""
    from pydantic_ai.messages import RetryFeedbackPart, ToolReturnPart

    return [
        _told(part.content)
        for part in getattr(getattr(node, "request", None), "parts", ())
        if isinstance(part, RetryFeedbackPart) or (isinstance(part, ToolReturnPart) and part.outcome == "retried")
    ]


def _told(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "; ".join(str(each.get("msg", "")) for each in content if isinstance(each, dict))


def _as_draft(draft: _Draft, *, idea: Idea, rules: Rules) -> Draft:
    link = idea.link if draft.with_link or draft.kind == "link" else None
    shows_card = link and rules.has_cards and len(draft.posts) == 1
    return Draft(
        kind=draft.kind,
        posts=tuple(draft.posts),
        link=link,
        images=() if shows_card else idea.images[: rules.max_images],
        languages=idea.languages,
    )


def _prompt(idea: Idea, rules: Rules, count: int) -> str:
    threads = f"A thread has at most {rules.max_posts} posts." if rules.max_posts > 1 else "It has no threads."
    parts = [
        f"Make {count} drafts for {rules.channel}. A post has at most {rules.max_length} characters. {threads}",
        f"Title: {idea.title}" if idea.title else "",
        "There is a link." if idea.link else "There is no link.",
        f"The idea:\n\n{idea.text or idea.title}",
    ]
    return "\n\n".join(part for part in parts if part)
