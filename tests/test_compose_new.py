"""Feeds and folders of ideas: each item is composed once, however often one looks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import State
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Failed, Running
from prefect_aws import AwsCredentials, S3Bucket

from prefect_bluesky.compose.feeds import read_items
from prefect_bluesky.errors import BlueskyError, InvalidInput, SourceUnavailable
from tests.support import web_page

pytestmark = pytest.mark.usefixtures("loopback_is_allowed")

FLOWS = Path(__file__).parents[1] / "flows"


def rss(*ages: int, link: str = "https://example.com") -> bytes:
    """A feed with an item for each age in days."""
    items = "".join(
        f"<item><title>{age} days</title><link>{link}/{age}</link><guid>id-{age}</guid><pubDate>"
        f"{format_datetime(datetime.now(UTC) - timedelta(days=age))}</pubDate></item>"
        for age in ages
    )
    return f'<?xml version="1.0"?><rss version="2.0"><channel><title>Blog</title>{items}</channel></rss>'.encode()


ATOM = b"""<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title>
<entry><id>tag:1</id><link href="https://example.com/1"/><updated>2026-11-20T08:00:00Z</updated></entry>
<entry><id>tag:2</id><link href="https://example.com/2"/><updated>2026-11-21T08:00:00Z</updated></entry></feed>"""


class TestSources:
    """The items of a source."""

    def test_a_feed_has_the_pages_of_its_items_the_newest_first(self) -> None:
        with web_page(ATOM) as url:
            items = read_items(url)
        assert [(item.name, item.parameters) for item in items] == [
            ("tag:2", {"link": "https://example.com/2"}),
            ("tag:1", {"link": "https://example.com/1"}),
        ]
        assert items[0].published_at == datetime(2026, 11, 21, 8, tzinfo=UTC)

    def test_a_folder_has_its_files_of_text(self, tmp_path: Path) -> None:
        for name in ("one.md", "two.txt", "chart.png"):
            (tmp_path / name).write_text("Hi")
        assert {item.name for item in read_items(str(tmp_path))} == {"one.md", "two.txt"}

    @pytest.mark.usefixtures("prefect_api")
    def test_a_bucket_has_those_below_a_folder(self, aws_credentials: AwsCredentials) -> None:
        name = f"ideas-{uuid4().hex[:8]}"
        client: Any = aws_credentials.get_s3_client()
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        for key in ("week/one.md", "week/chart.png", "other/two.md"):
            client.put_object(Bucket=name, Key=key, Body=b"Hi")
        S3Bucket(bucket_name=name, credentials=aws_credentials).save(name)
        (item,) = read_items("week", f"s3-bucket/{name}")
        assert item.parameters == {"file": "week/one.md", "storage": f"s3-bucket/{name}"}

    @pytest.mark.parametrize(
        ("content", "said"), [(b"<html><body>Hi</body></html>", "is no RSS or Atom feed"), (b"", "is no RSS")]
    )
    def test_a_page_is_no_feed(self, content: bytes, said: str) -> None:
        with web_page(content) as url, pytest.raises(InvalidInput, match=said):
            read_items(url)

    @pytest.mark.parametrize(("source", "error"), [("", InvalidInput), ("no-such-folder", SourceUnavailable)])
    def test_a_missing_source_is_named(self, source: str, error: type[BlueskyError]) -> None:
        with pytest.raises(error):
            read_items(source)


@pytest.mark.usefixtures("prefect_api")
class TestFlow:
    """The runs of the items."""

    @pytest.fixture(scope="class")
    def compose_new(self) -> Flow[Any, Any]:
        return load_flow_from_entrypoint(f"{FLOWS / 'compose_new.py'}:compose_new")

    @pytest.fixture
    def deployment(self) -> Iterator[UUID]:
        compose: Flow[Any, Any] = load_flow_from_entrypoint(f"{FLOWS / 'compose.py'}:compose")
        with get_client(sync_client=True) as client:
            made = client.create_deployment(
                client.create_flow(compose), "compose", entrypoint="flows/compose.py", enforce_parameter_schema=False
            )
            yield made
            client.delete_deployment(made)

    @staticmethod
    def look(compose_new: Flow[Any, Any], source: str, **parameters: Any) -> str | None:
        state: Any = compose_new(
            source=source, channels=("bluesky-credentials/alice",), return_state=True, **parameters
        )
        assert isinstance(state, State)
        return state.message

    @staticmethod
    def ideas(deployment: UUID) -> list[str]:
        """Return the items to be composed, in the order in which they were started."""
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
            )
        return [run.parameters["link"] for run in sorted(runs, key=lambda run: str(run.expected_start_time))]

    def test_each_item_is_composed_once_and_old_ones_are_left_alone(
        self, compose_new: Flow[Any, Any], deployment: UUID
    ) -> None:
        files: dict[str, bytes] = {}
        link = f"https://example.com/{uuid4().hex[:8]}"
        with web_page(b"", files) as url:
            files["/feed"] = rss(2, 30, link=link)
            assert self.look(compose_new, f"{url}/feed") == "1 of 1 items are new."
            assert self.look(compose_new, f"{url}/feed") == "There was nothing new."
            files["/feed"] = rss(1, 2, 30, link=link)
            assert self.look(compose_new, f"{url}/feed") == "1 of 2 items are new."
        assert self.ideas(deployment) == [f"{link}/2", f"{link}/1"]

    def test_an_item_whose_run_has_failed_is_tried_again_a_few_times(
        self, compose_new: Flow[Any, Any], deployment: UUID
    ) -> None:
        with web_page(rss(1, link=f"https://example.com/{uuid4().hex[:8]}")) as url:
            said = []
            for _ in range(5):
                said.append(self.look(compose_new, url))
                self.fail(deployment)
        assert said == ["1 of 1 items are new."] * 3 + ["There was nothing new."] * 2

    @staticmethod
    def fail(deployment: UUID) -> None:
        """Let the runs of `compose` that are to begin run and fail."""
        wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
        with get_client(sync_client=True) as client:
            for run in client.read_flow_runs(flow_run_filter=wanted):
                if run.state is not None and run.state.is_scheduled():
                    client.set_flow_run_state(run.id, Running(), force=True)
                    client.set_flow_run_state(run.id, Failed(), force=True)

    def test_a_flood_is_dealt_with_bit_by_bit_the_oldest_first(
        self, compose_new: Flow[Any, Any], deployment: UUID
    ) -> None:
        link = f"https://example.com/{uuid4().hex[:8]}"
        with web_page(rss(1, 2, 3, link=link)) as url:
            self.look(compose_new, url, at_most=2)
            assert self.ideas(deployment) == [f"{link}/3", f"{link}/2"]
            self.look(compose_new, url, at_most=2)
        assert self.ideas(deployment) == [f"{link}/3", f"{link}/2", f"{link}/1"]
