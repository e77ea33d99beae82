"""Make drafts with a model of any provider that pydantic-ai supports. The fitter checks each draft first."""

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

_INSTRUCTIONS = """You write posts for social media. Make drafts for one channel from the idea that you are given.

Each draft has a kind: a "hook" catches the eye in one post, a "link" leads to the idea's link in one post, a "thread"
tells the whole idea in several posts, a "summary" summarises the idea in one post. Make the drafts differ in more than
words. Say nothing that the idea does not say, and write in the idea's language. Do not write the link itself: if
with_link is true, the link is put below the last post."""


class _Draft(BaseModel):
    kind: Kind
    posts: list[str] = Field(min_length=1)
    with_link: bool = False


class _Drafts(BaseModel):
    drafts: list[_Draft] = Field(min_length=1)


class AIGenerator(Block):
    """
    Makes drafts from an idea with a model.

    Needs the extra `ai`: `pip install "prefect-bluesky[ai]"`.

    Example:
        Load a stored block and make drafts, or pass its name `ai-generator/BLOCK_NAME` to `compose`:
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
    _description = "Makes drafts from an idea with a model of any provider that pydantic-ai supports."

    model: str = Field(
        title="Model",
        description="The provider and the model, as pydantic-ai names them.",
        examples=["openai:gpt-5-mini", "anthropic:claude-sonnet-4-5"],
    )
    api_key: SecretStr | None = Field(
        default=None, title="API key", description="If empty, the provider's own environment variable is used."
    )
    base_url: str | None = Field(
        default=None, title="Base URL", description="A server with the provider's API. If empty, the provider's own."
    )
    instructions: str = Field(
        default="",
        title="Instructions",
        description="The style of the posts: the voice, the audience, words to use and words to avoid.",
    )
    attempts: int = Field(
        default=4, ge=1, le=10, title="Attempts", description="How often to ask the model until its drafts fit."
    )

    @field_validator("api_key")
    @classmethod
    def _normal_api_key(cls, key: SecretStr | None) -> SecretStr | None:
        written = key.get_secret_value().strip() if key else ""
        # The HTTP client would print an invalid header value in full.
        if not re.fullmatch(r"[!-~]*", written) or re.fullmatch(r"\*+", written):
            reason = "it is masked, or has characters that no key has."
            raise InvalidInput("api_key", reason, "Copy the key again, and start runs from a saved block.")
        return SecretStr(written) if written else None

    def generate(self, idea: Idea, rules: Rules, count: int) -> list[Draft]:
        """Return drafts that fit a channel.

        Drafts that do not fit are logged, and go back to the model with the excess over each limit.

        Args:
            idea: the idea to write about.
            rules: the channel's limits.
            count: the largest number of drafts.

        Raises:
            DoesNotFit: the idea's link or images fit no post of the channel, whatever the model writes.
            InvalidInput: the model does not exist, or the extra `ai` is not installed.
            GeneratorFailed: the provider refuses or does not answer, or the drafts do not fit after all attempts.
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
            # These errors show no key: they name something unknown, missing or not installed.
            raise InvalidInput("model", f"{self.model}: {unusable}.", "Name a model as pydantic-ai does.") from None
        agent = Agent(
            model,
            output_type=_Drafts,
            name="bluesky-drafts",
            instructions=[_INSTRUCTIONS, self.instructions] if self.instructions else _INSTRUCTIONS,
            retries=self.attempts - 1,
            # In a flow each request is a separate task, and the run keeps the drafts. Do not cache the answers: a
            # retry must not get an unusable answer again.
            capabilities=[PrefectDurability(model_task_config=TaskConfig(cache_policy=NO_CACHE, persist_result=False))],
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
                    asked += Agent.is_model_request_node(node)
                    for fault in _objections(node):
                        logger().warning("%s is asked again (%d of %d): %s", self.model, asked, self.attempts, fault)
        except UnexpectedModelBehavior:
            raise GeneratorFailed(self.model, f"its drafts were not usable after {asked} attempts") from None
        except ModelHTTPError as refusal:
            if refusal.status_code in {401, 403}:
                reason = f"{self.model} refuses it ({refusal.status_code})."
                raise InvalidInput("api_key", reason, "Put a valid key into the block.") from None
            reason = f"its provider answered with {refusal.status_code}"
            retryable = refusal.status_code == 429 or refusal.status_code >= 500
            raise GeneratorFailed(self.model, reason, retryable=retryable) from None
        except AgentRunError as trouble:
            raise GeneratorFailed(self.model, type(trouble).__name__, retryable=True) from None
        if run.result is None:
            raise GeneratorFailed(self.model, "the model ended without drafts")
        return run.result.output


def _objections(node: Any) -> list[str]:
    """Return the faults that a request sends back to the model."""
    from pydantic_ai.messages import RetryFeedbackPart, ToolReturnPart

    return [
        _as_text(part.content)
        for part in getattr(getattr(node, "request", None), "parts", ())
        if isinstance(part, RetryFeedbackPart) or (isinstance(part, ToolReturnPart) and part.outcome == "retried")
    ]


def _as_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "; ".join(str(each.get("msg", "")) for each in content if isinstance(each, dict))


def _as_draft(draft: _Draft, *, idea: Idea, rules: Rules) -> Draft:
    link = idea.link if draft.with_link or draft.kind == "link" else None
    return idea.draft(draft.kind, draft.posts, link, rules)


def _prompt(idea: Idea, rules: Rules, count: int) -> str:
    threads = f"A thread has at most {rules.max_posts} posts." if rules.max_posts > 1 else "The channel has no threads."
    parts = [
        f"Make {count} drafts for {rules.channel}. A post has at most {rules.max_length} characters. {threads}",
        f"Title: {idea.title}" if idea.title else "",
        "There is a link." if idea.link else "There is no link.",
        f"The idea:\n\n{idea.text or idea.title}",
    ]
    return "\n\n".join(part for part in parts if part)
