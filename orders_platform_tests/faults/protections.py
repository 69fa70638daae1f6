"""The platform without one of its protections, to show that histories fail then: what each rule is there for.

Each function alters the process in which it is called, and nothing on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any


class Protection(StrEnum):
    """What can be taken out."""

    CONDITIONAL_COMMIT = "conditional-commit"
    ORDER_OF_CHANGES = "order-of-changes"
    ORDER_OF_COMMITS = "order-of-commits"
    GAP_CHECK = "gap-check"
    READ_COMMITTED = "read-committed"
    FAST_FORWARD = "fast-forward"
    MISSING_LEDGER_IS_AN_ERROR = "missing-ledger-is-an-error"
    TOPICS_BY_ID = "topics-by-id"
    ONLY_WHAT_WAS_AUDITED = "only-what-was-audited"
    GOLD_LOOKED_AT_AGAIN = "gold-looked-at-again"


def take_out(protection: Protection) -> None:
    """From now on this process works without it."""
    _WITHOUT[protection]()


def _commit_on_whatever_head_there_is() -> None:
    """What PyIceberg's own append does: it tries again on the new head."""
    from orders_platform.ingest import bronze
    from orders_platform.lake.commits import ConflictError, commit, head

    def commit_anyway(table: Any, *, expected: int | None, **options: Any) -> int:
        try:
            return commit(table, expected=expected, **options)
        except ConflictError:
            table.refresh()
            return commit(table, expected=head(table), **options)

    bronze.commit = commit_anyway


def _order_by(*columns: str) -> Callable[[], None]:
    """Changes of a key are ordered by these instead."""

    def alter() -> None:
        from orders_platform.lake import schemas

        for module in _modules_with(schemas.ORDER_COLUMNS):
            module.ORDER_COLUMNS = columns

    return alter


def _pass_over_gaps() -> None:
    from orders_platform.ingest import backlog, cover

    backlog.refuse_lost = cover.refuse_lost = lambda *_: None  # type: ignore[attr-defined]
    _consume_with("auto.offset.reset", "earliest")


def _read_uncommitted() -> None:
    _consume_with("isolation.level", "read_uncommitted")


def _consume_with(name: str, value: str) -> None:
    from confluent_kafka import Consumer

    from orders_platform.ingest import consumer

    consumer.Consumer = lambda config: Consumer({**config, name: value})  # type: ignore[misc]


def _publish_on_whatever_head_there_is() -> None:
    """What PyIceberg's own `set_current_snapshot` does: main goes to the branch, wherever it was forked."""
    from orders_platform.fault_points import FaultPoint, reach
    from orders_platform.lake import gold

    def publish(table: Any, branch: str, *, to: int, **_: Any) -> None:
        reach(FaultPoint.GOLD_BEFORE_PUBLISH)
        table.refresh()
        table.manage_snapshots().set_current_snapshot(to).remove_branch(branch).commit()

    gold.fast_forward = publish  # type: ignore[attr-defined]


def _take_a_missing_ledger_for_an_empty_one() -> None:
    from orders_platform.ingest.errors import LedgerMissingError
    from orders_platform.ingest.ledger import Ledger

    read = Ledger.read

    def read_or_begin(table: Any) -> Ledger:
        try:
            return read(table)
        except LedgerMissingError:
            return Ledger(snapshot_id=table.current_snapshot().snapshot_id)

    Ledger.read = staticmethod(read_or_begin)  # type: ignore[method-assign, assignment]


def _know_topics_by_name() -> None:
    """A topic keeps the id that it had when it was first seen."""
    from dataclasses import replace

    from orders_platform.ingest.kafka_admin import KafkaAdmin
    from orders_platform.settings import load

    topic = KafkaAdmin.topic
    home = load().home

    def first_seen(self: KafkaAdmin, name: str) -> Any:
        log, note = topic(self, name), home / f"{name}.id"
        if not note.exists():
            note.write_text(log.topic_id)
        return replace(log, topic_id=note.read_text())

    KafkaAdmin.topic = first_seen  # type: ignore[method-assign]


def _build_from_whatever_silver_holds() -> None:
    from orders_platform.lake import gold
    from orders_platform.lake.commits import head

    gold.audited_snapshot = head  # type: ignore[attr-defined]


def _show_what_was_read_of_gold() -> None:
    from orders_platform.serving import daily_revenue

    daily_revenue._overtaken = lambda *_: False


def _modules_with(order: tuple[str, ...]) -> list[Any]:
    import sys

    import orders_platform.lake.merge
    import orders_platform.lake.silver  # noqa: F401 all that orders changes is imported

    return [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("orders_platform.") and getattr(module, "ORDER_COLUMNS", None) == order
    ]


_WITHOUT: Mapping[Protection, Callable[[], None]] = {
    Protection.CONDITIONAL_COMMIT: _commit_on_whatever_head_there_is,
    Protection.ORDER_OF_CHANGES: _order_by("_epoch", "_kafka_offset", "_kafka_offset", "_kafka_offset"),
    Protection.ORDER_OF_COMMITS: _order_by("_epoch", "_lsn", "_lsn", "_kafka_offset"),
    Protection.GAP_CHECK: _pass_over_gaps,
    Protection.READ_COMMITTED: _read_uncommitted,
    Protection.FAST_FORWARD: _publish_on_whatever_head_there_is,
    Protection.MISSING_LEDGER_IS_AN_ERROR: _take_a_missing_ledger_for_an_empty_one,
    Protection.TOPICS_BY_ID: _know_topics_by_name,
    Protection.ONLY_WHAT_WAS_AUDITED: _build_from_whatever_silver_holds,
    Protection.GOLD_LOOKED_AT_AGAIN: _show_what_was_read_of_gold,
}
