"""The blocks are as Prefect asks all collections' blocks to be."""

from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites.blocks import BlockStandardTestSuite

from prefect_bluesky import (
    AIGenerator,
    AppriseService,
    BlueskyCredentials,
    BlueskyNotification,
    BlueskyOAuthClient,
    MastodonCredentials,
    PostingSchedule,
)

WITHOUT_SECRETS: set[Any] = {BlueskyNotification, PostingSchedule}
BLOCKS = [
    AIGenerator,
    AppriseService,
    BlueskyCredentials,
    BlueskyOAuthClient,
    MastodonCredentials,
    BlueskyNotification,
    PostingSchedule,
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
class TestBlocks(BlockStandardTestSuite):
    """Prefect's own tests of blocks."""

    @pytest.fixture
    def block(self) -> type[Block]:
        """Only here for the base class: the parameter takes its place."""
        raise NotImplementedError

    def test_has_a_valid_image(self, block: type[Block]) -> None:
        """Prefect's test downloads it, and tests ask nobody outside: that there is one must do."""
        assert block._logo_url is not None
        assert block._logo_url.scheme == "https"

    def test_each_field_has_a_title_and_a_description(self, block: type[Block]) -> None:
        assert [name for name, field in block.model_fields.items() if not (field.title and field.description)] == []

    def test_secret_fields_stay_secret(self, block: type[Block]) -> None:
        secret = {name for name, field in block.model_fields.items() if "SecretStr" in str(field.annotation)}
        kept = {name for name in block.model_json_schema()["secret_fields"] if "." not in name}
        assert kept == secret
        assert bool(kept) == (block not in WITHOUT_SECRETS)

    def test_what_may_be_left_out_is_left_out_by_a_form_that_preselects_the_first_kind(
        self, block: type[Block]
    ) -> None:
        fields = block.model_json_schema()["properties"].values()
        choices = [field["anyOf"] for field in fields if "anyOf" in field and field.get("default", "") is None]
        assert [kinds for kinds in choices if kinds[0] != {"type": "null"}] == []
