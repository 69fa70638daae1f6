"""What stops a table, and the decision to go on all the same."""

from __future__ import annotations

from datetime import date

import pytest
from pyiceberg.catalog import Catalog

from orders_platform.ingest.errors import GapError
from orders_platform.ingest.gap_acceptance import accept, open_gap
from orders_platform.settings import Settings
from orders_platform_tests.ingest.events import contract
from orders_platform_tests.ingest.loads import ingest

DAY = date(2026, 3, 1)


def stopped(settings: Settings, catalog: Catalog, error: type[GapError]) -> str:
    """What a load and the search agree on: the name of what stops the table."""
    with pytest.raises(error) as raised:
        ingest(settings, DAY)
    found = open_gap(settings, catalog, contract())
    assert found is not None
    assert found.gap is not None
    assert type(found) is error
    assert f"gaps accept TABLE {raised.value.gap.name if raised.value.gap else ''}" in str(raised.value)
    return found.gap.name


def let(settings: Settings, catalog: Catalog, name: str) -> None:
    accepted = accept(settings, catalog, contract(), name, reason="known", by="ann")
    assert (accepted.reason, accepted.by) == ("known", "ann")
