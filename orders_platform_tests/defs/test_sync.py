"""One pass without a daemon, over topics that somebody else's Debezium fills."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import Producer

from orders_platform.contracts import load_contracts
from orders_platform.defs.sync import sync
from orders_platform.ingest.errors import TopicMissingError
from orders_platform.ingest.topics import create_topics
from orders_platform.serving.client import open_client
from orders_platform.settings import Settings

PLACED = "2026-05-20T12:00:00Z"


@pytest.fixture(scope="module")
def foreign(broker: Settings, clickhouse: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """An installation on topics with the prefix `erp`, which hold one order, changed once."""
    ports = broker.ports.model_copy(update={"clickhouse": clickhouse.ports.clickhouse})
    home = tmp_path_factory.mktemp("foreign")
    settings = Settings(_env_file=None, home=home, ports=ports, topic_prefix="erp")  # type: ignore[call-arg]
    with open_client(settings) as client:
        client.command("DROP TABLE IF EXISTS daily_revenue SYNC")
    create_topics(settings, load_contracts())
    return settings


def change(settings: Settings, position: int, total: str, *, schema: bool) -> None:
    """A change of order 1 as an older Debezium may write it: a schema beside it, fields of its own, a tombstone."""
    row = {"order_id": 1, "customer_id": 7, "status": "paid", "currency": "EUR", "total": total, "refunded": "0.00"}
    row |= {"created_at": PLACED, "updated_at": PLACED, "a_column_of_theirs": "x"}
    source = {"lsn": position, "sequence": json.dumps([str(position), str(position)]), "ts_ms": position, "db": "erp"}
    value = {"before": None, "after": row, "source": source, "op": "u", "ts_ms": position, "their_field": [1]}
    key: dict[str, object] = {"order_id": 1}
    described = {"type": "struct", "fields": []}
    producer = Producer(settings.kafka_config)
    for content in (value, None):
        producer.produce(
            "erp.public.orders",
            key=json.dumps({"schema": described, "payload": key} if schema else key),
            value=None
            if content is None
            else json.dumps({"schema": described, "payload": content} if schema else content),
            partition=0,
        )
    assert producer.flush(20) == 0


def revenue(settings: Settings) -> Decimal:
    with open_client(settings) as client:
        return Decimal(client.query("SELECT sum(revenue) FROM daily_revenue").result_rows[0][0])


def test_foreign_envelopes_with_and_without_schema_reach_the_dashboard(foreign: Settings) -> None:
    change(foreign, 100, "10.00", schema=True)
    change(foreign, 200, "12.50", schema=False)
    said: list[str] = []
    report = sync(foreign, said.append)
    assert not report.failures
    assert (report.hops["staging"].rows, report.hops["bronze"].rows, report.hops["silver"].rows) == (4, 2, 1)
    assert revenue(foreign) == Decimal("12.50")
    assert "1 order dates stale in gold: 2026-05-20" in said


def test_a_pass_over_what_is_done_runs_nothing(foreign: Settings) -> None:
    assert sync(foreign).runs == 0


def test_a_day_that_is_wrong_in_clickhouse_alone_is_loaded_again_by_one_run(foreign: Settings) -> None:
    """Gold is up to date: nothing of it is built again."""
    with open_client(foreign) as client:
        client.command(f"ALTER TABLE daily_revenue DROP PARTITION {PLACED[:10].replace('-', '')}")
    assert revenue(foreign) == 0
    said: list[str] = []
    report = sync(foreign, said.append)
    assert (report.runs, report.hops["gold"].rows, report.hops["clickhouse"].rows) == (1, 0, 1)
    assert said == ["1 order dates stale in ClickHouse: 2026-05-20"]
    assert revenue(foreign) == Decimal("12.50")
    assert sync(foreign).runs == 0


def test_topics_that_are_not_there_are_named_and_nothing_runs(foreign: Settings, tmp_path: Path) -> None:
    nobody = Settings(_env_file=None, home=tmp_path, ports=foreign.ports, topic_prefix="nobody")  # type: ignore[call-arg]
    with pytest.raises(TopicMissingError, match=r"nobody\.public\."):
        sync(nobody)
