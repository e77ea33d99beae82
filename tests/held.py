"""Accounts whose posts are held, and the runs that hold them."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow

from prefect_bluesky import BlueskyCredentials, Post, sandbox
from prefect_bluesky.planning.saved_accounts import as_parameter
from tests.support import block, run_deployed


class Stopped:
    """An account whose app password is dead, with its saved block."""

    def __init__(self, pds: sandbox.Sandbox) -> None:
        self.pds = pds
        self.account = pds.create_account()
        self.name = f"account-{uuid4().hex[:8]}"
        block(pds, self.account).save(self.name)
        pds.revoke_app_password(self.account)

    @property
    def credentials(self) -> BlueskyCredentials:
        """The account's block, as a flow loads it."""
        loaded = BlueskyCredentials.load(self.name)
        assert isinstance(loaded, BlueskyCredentials)
        return loaded

    def publish(self, flow: Flow[Any, Any], post: Post, **parameters: Any) -> FlowRun:
        """Let a deployment's run publish with the saved block; the run at its end."""
        return deployed_publish(flow, self.credentials, post, **parameters)

    def hold(self, flow: Flow[Any, Any], *posts: Post, **parameters: Any) -> list[UUID]:
        """Let deployment's runs of `publish` end held; their ids."""
        held = [self.publish(flow, post, **parameters) for post in posts]
        assert [run.state_name for run in held] == ["Held"] * len(posts)
        return [run.id for run in held]

    def mend(self) -> None:
        """Put a new app password into the block."""
        new = self.pds.create_app_password(self.account, uuid4().hex)
        block(self.pds, self.account, app_password=new).save(self.name, overwrite=True)

    def delete_block(self) -> None:
        """Delete the account's saved block, so that there is none."""
        BlueskyCredentials.delete(self.name)

    def posts(self) -> list[str]:
        """Return the account's texts, as a feed shows them, the oldest first."""
        posts = sorted(self.pds.posts(self.account), key=lambda post: post["value"]["createdAt"])
        return [post["value"]["text"] for post in posts]


def deployed_publish(
    flow: Flow[Any, Any], credentials: BlueskyCredentials, post: Post, *, given: Any = None, **parameters: Any
) -> FlowRun:
    """Run `publish` as a worker does; the run at its end.

    Args:
        flow: the flow.
        credentials: the account's block.
        post: the post.
        given: the block as the server has it among the run's parameters; by default a reference.
        parameters: the flow's other parameters.
    """
    stored = {
        "credentials": as_parameter(credentials) if given is None else given,
        "post": post.model_dump(mode="json", exclude_defaults=True),
    }
    run, _ = run_deployed(flow, stored | parameters, credentials=credentials, post=post, **parameters)
    return run


def runs(ids: list[UUID]) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return [client.read_flow_run(each) for each in ids]


def states(ids: list[UUID]) -> list[str | None]:
    return [run.state_name for run in runs(ids)]


def set_held(run: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run, State(type=StateType.FAILED, name="Held"), force=True)


def masked(credentials: BlueskyCredentials) -> dict[str, Any]:
    """A block as the server has it that was passed as an object."""
    return {"handle": credentials.handle, "app_password": "**********", "service_url": credentials.service_url}
