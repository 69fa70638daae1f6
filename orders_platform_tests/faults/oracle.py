"""Says what the tables must hold, from the topics and PostgreSQL alone, and names whatever they hold instead.

It shares no code with what it judges: the topics are read with a plain consumer, the tables with PyIceberg, masks are
computed with Python's hmac, revenue with Python's Decimal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orders_platform.contracts import Contract
from orders_platform.settings import Settings
from orders_platform_tests.faults.differing import Rows
from orders_platform_tests.faults.oracle_ingest import NOTHING, Records, ingest_differences
from orders_platform_tests.faults.oracle_published import published_differences


def differences(
    settings: Settings,
    contracts: Sequence[Contract],
    state: Mapping[str, Rows],
    earlier: Records = NOTHING,
    *,
    restored: bool = False,
) -> list[str]:
    """Everything in which bronze, silver, gold or ClickHouse differ from what they must be; empty when all is well.

    `earlier`: records that were loaded before the topic lost them. `restored`: PostgreSQL went back to an earlier
    position, and changes are counted anew.
    """
    found = ingest_differences(settings, contracts, state, earlier, restored=restored)
    return found + published_differences(settings, state)
