"""How the accounts of a minute are shared by several runs."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from prefect.client.schemas.objects import FlowRun

from prefect_bluesky.planning.share import bounds_of, part_of


def run_of(account: str) -> FlowRun:
    """A planned run of an account."""
    return FlowRun(flow_id=UUID(int=0), parameters={"credentials": account})


@given(st.sets(st.text(), min_size=8), st.integers(1, 8))
def test_no_part_has_more_than_one_account_more_than_another(accounts: set[str], parts: int) -> None:
    bounds = bounds_of(accounts, parts)
    sizes = Counter(part_of(run_of(account), bounds) for account in accounts)
    assert sizes.keys() == set(range(parts))
    assert max(sizes.values()) - min(sizes.values()) <= 1


@given(st.sets(st.text(), min_size=8), st.text(), st.integers(1, 8))
def test_who_is_planned_later_has_a_part(accounts: set[str], late: str, parts: int) -> None:
    assert part_of(run_of(late), bounds_of(accounts, parts)) in range(parts)
