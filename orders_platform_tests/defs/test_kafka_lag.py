"""The lag sensor against a real broker."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator

import dagster as dg
import pytest
from confluent_kafka import Producer

from orders_platform.contracts import load_contracts
from orders_platform.defs.automation.behind import find_behind
from orders_platform.defs.automation.kafka_lag import KIND, kafka_lag
from orders_platform.defs.automation.run_guard import KIND_TAG, REASON_TAG
from orders_platform.defs.automation.stale_dates import stale_order_dates
from orders_platform.defs.location import build_location
from orders_platform.defs.resources.platform import Platform
from orders_platform.defs.sync import SyncError, load
from orders_platform.ingest.backlog import unread
from orders_platform.ingest.gap_acceptance import accept, open_gap
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.topics import create_topics
from orders_platform.lake.audit import mark_audited
from orders_platform.lake.silver import merge_silver
from orders_platform.settings import Settings
from orders_platform_tests.defs.run_keys import RUN_KEY_TAG, is_new
from orders_platform_tests.ingest.broker_admin import delete_before, make_topic
from orders_platform_tests.lake.changes import append, contract, order


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def no_topics(broker: Settings, settings: Settings) -> Settings:
    """An installation of its own on the broker; five unread records make a run due."""
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=settings.home,
        ports=broker.ports,
        topic_prefix=f"lag-{uuid.uuid4().hex[:8]}",
        lag_threshold_records=5,
        lag_threshold_seconds=3600,
    )


@pytest.fixture
def topics(no_topics: Settings) -> Settings:
    """The same with its own topics."""
    create_topics(no_topics, load_contracts())
    return no_topics


def produce(settings: Settings, table: str, count: int) -> None:
    """Creates rows as Debezium would say it, without all columns of the contract; positions rise with the clock."""
    producer = Producer(settings.kafka_config)
    for number in range(count):
        position = time.time_ns()
        row = {
            "order_id": number, "customer_id": 1, "status": "placed", "currency": "EUR", "total": "1.00",
            "refunded": "0.00", "created_at": "2026-05-20T12:00:00Z", "updated_at": "2026-05-20T12:00:00Z",
        }  # fmt: skip
        source = {"lsn": position, "sequence": json.dumps([str(position), str(position)]), "ts_ms": position // 10**6}
        producer.produce(
            f"{settings.topic_prefix}.public.{table}",
            key=json.dumps({"order_id": number}),
            value=json.dumps({"before": None, "after": row, "source": source, "op": "c", "ts_ms": position // 10**6}),
            partition=number % 3,
        )
    assert producer.flush(20) == 0


def tick(
    instance: dg.DagsterInstance, settings: Settings, before: float | None = None
) -> dg.SensorResult | dg.SkipReason:
    context = dg.build_sensor_context(instance=instance, resources={"platform": Platform(settings)})
    context._last_tick_completion_time = before  # `build_sensor_context` takes none
    result = kafka_lag(context)
    assert isinstance(result, dg.SensorResult | dg.SkipReason)
    return result


def test_empty_topics_ask_for_nothing(instance: dg.DagsterInstance, topics: Settings) -> None:
    result = tick(instance, topics)
    assert isinstance(result, dg.SkipReason)
    assert "0 unread records" in (result.skip_message or "")


def test_a_few_young_records_wait_and_more_make_one_run_with_their_offsets(
    instance: dg.DagsterInstance, topics: Settings
) -> None:
    produce(topics, "orders", 4)
    assert isinstance(tick(instance, topics), dg.SkipReason)
    produce(topics, "orders", 4)
    produce(topics, "customers", 1)
    result = tick(instance, topics)
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or ()
    ranges = {name: op["config"]["ranges"] for name, op in request.run_config["ops"].items()}
    assert set(ranges) == {"staging_orders", "staging_customers"}
    assert sum(end - first for first, end in ranges["staging_orders"].values()) == 8
    assert request.tags["orders-platform/reason"] == "9 unread records, threshold 5"
    observed = {event.asset_key.to_user_string() for event in result.asset_events}
    assert observed == {f"kafka_{contract.table}" for contract in load_contracts()}
    (again,) = tick(instance, topics).run_requests or ()  # type: ignore[union-attr]
    assert again.run_key == request.run_key


def test_nothing_is_asked_for_while_a_run_is_queued(instance: dg.DagsterInstance, topics: Settings) -> None:
    produce(topics, "orders", 9)
    job = build_location(Platform(topics)).resolve_job_def("kafka_to_silver")
    run = instance.create_run_for_job(job, tags={KIND_TAG: KIND}, status=dg.DagsterRunStatus.NOT_STARTED)
    result = tick(instance, topics)
    assert isinstance(result, dg.SkipReason)
    assert run.run_id in (result.skip_message or "")
    skipped = tick(instance, topics, before=time.time() - 60)
    assert isinstance(skipped, dg.SensorResult)
    assert not skipped.run_requests
    lag = {event.asset_key.to_user_string(): event.metadata["lag_records"].value for event in skipped.asset_events}
    assert (lag["kafka_orders"], lag["kafka_customers"]) == (9, 0), "the series goes on while a run is slow"


def test_what_was_requested_runs_and_leaves_nothing_to_ask_for(instance: dg.DagsterInstance, topics: Settings) -> None:
    produce(topics, "orders", 9)
    (request,) = tick(instance, topics).run_requests or ()  # type: ignore[union-attr]
    assert run(instance, topics, request).success
    assert isinstance(tick(instance, topics), dg.SkipReason)
    first = numbers(instance, "bronze_orders")
    assert (first["rows"], first["dagster/partition_row_count"]) == (9, 9)
    assert run(instance, topics, request).success
    again, silver = numbers(instance, "bronze_orders"), numbers(instance, "silver_orders")
    assert (again["rows"], again["dagster/partition_row_count"]) == (0, 9), "the day has what it had"
    assert (silver["rows"], silver["dagster/row_count"]) == (0, 9)


def run(instance: dg.DagsterInstance, settings: Settings, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    job = build_location(Platform(settings)).resolve_job_def("kafka_to_silver")
    return job.execute_in_process(
        instance=instance,
        partition_key=request.partition_key,
        run_config=request.run_config,
        tags=dict(request.tags),
        asset_selection=request.asset_selection,
    )


def numbers(instance: dg.DagsterInstance, asset: str) -> dict[str, object]:
    """What the newest materialization says of itself."""
    (latest,) = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    assert latest.asset_materialization is not None
    return {name: each.value for name, each in latest.asset_materialization.metadata.items()}


def test_a_broker_that_is_down_is_a_skipped_tick_for_all_tables_together(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody listens on the port of these settings. The first to ask waits here until all five do."""
    together, topic = threading.Barrier(5), KafkaAdmin.topic

    def asked(admin: KafkaAdmin, name: str) -> TopicLog:
        together.wait(60)
        return topic(admin, name)

    monkeypatch.setattr("orders_platform.defs.automation.kafka_lag.BROKER_SECONDS", 1.5)
    monkeypatch.setattr(KafkaAdmin, "topic", asked)
    assert len(Platform(settings).contracts) == 5
    skipped = tick(instance, settings)
    assert isinstance(skipped, dg.SkipReason)
    assert "BrokerUnavailableError" in (skipped.skip_message or "")
    assert "did not answer within 1.5 s" in (skipped.skip_message or "")


def test_every_run_that_automation_asks_for_says_why(instance: dg.DagsterInstance, topics: Settings) -> None:
    platform, orders = Platform(topics), contract("orders")
    # Orders in bronze that the ledger does not know: gold's dates are stale, and loading more of them is stopped.
    append(topics, platform.catalog, orders, [order(1, "c", 1)])
    merge_silver(topics, platform.catalog, orders)
    mark_audited(platform.catalog, orders)
    produce(topics, "customers", 9)
    location = build_location(platform)
    context = dg.build_sensor_context(instance, resources={"platform": platform})
    asked = {
        sensor.name: requests_of(sensor(context))
        for sensor in location.sensors or ()
        if not isinstance(sensor, dg.RunStatusSensorDefinition)  # tells of runs, and asks for none
    }
    with dg.instance_for_test() as kept:  # schedules know their instance by its folder
        for schedule in location.schedules or ():
            assert isinstance(schedule, dg.ScheduleDefinition)
            asked[schedule.name] = requests_of(schedule(dg.build_schedule_context(kept)))
    assert len(asked["kafka_lag"]) == 2
    assert len(asked) == 5
    assert [name for name, requests in asked.items() if not requests] == []
    silent = {name for name, requests in asked.items() for each in requests if not each.tags.get(REASON_TAG)}
    assert silent == set()


def requests_of(result: object) -> list[dg.RunRequest]:
    if isinstance(result, dg.SensorResult):
        return list(result.run_requests or ())
    assert isinstance(result, dg.RunRequest), result
    return [result]


def test_a_topic_that_is_missing_or_takes_any_timestamp_stops_its_own_table_only(
    instance: dg.DagsterInstance, no_topics: Settings
) -> None:
    """One contract whose topic is not there yet used to keep the sensor, `sync` and freshness from all tables."""
    others = [contract for contract in load_contracts() if contract.table not in ("products", "orders")]
    create_topics(no_topics, others)
    make_topic(no_topics, **{"message.timestamp.after.max.ms": str(400 * 86_400_000)})  # that of orders
    produce(no_topics, "customers", 9)
    result = tick(instance, no_topics)
    assert isinstance(result, dg.SensorResult)
    asked = {
        tuple(key.to_user_string() for key in request.asset_selection or ()): request.tags["orders-platform/reason"]
        for request in result.run_requests or ()
    }
    assert list(asked) == [
        ("staging_customers", "bronze_customers", "silver_customers"),
        ("staging_orders", "bronze_orders"),
        ("staging_products", "bronze_products"),
    ]
    _, unbounded, missing = asked.values()
    assert "set message.timestamp.type=LogAppendTime" in unbounded
    assert "products does not exist on" in missing
    assert "orders-platform up" in missing
    with pytest.raises(SyncError) as error:
        load(no_topics, [contract.table for contract in load_contracts()])
    assert "bronze_orders: UnboundedTimestampsError" in str(error.value)
    assert f"bronze_products: TopicMissingError: topic {no_topics.topic_prefix}.public.products" in str(error.value)
    assert "customers" not in str(error.value)
    assert [each.table for each in find_behind(Platform(no_topics)).unread if each.records] == []


def test_without_any_topic_the_tick_fails_by_name(
    instance: dg.DagsterInstance, broker: Settings, settings: Settings
) -> None:
    strange = Settings(_env_file=None, home=settings.home, ports=broker.ports, topic_prefix="nobody")  # type: ignore[call-arg]
    with pytest.raises(Exception, match=r"topic nobody\.public\.\w+ does not exist"):
        tick(instance, strange)


def remove(settings: Settings, table: str, count: int, at: int | None = None) -> None:
    """Deletes rows, for which a key is enough; positions rise with the clock, or from `at` on."""
    producer = Producer(settings.kafka_config)
    key = f"{table.removesuffix('s')}_id"
    for number in range(count):
        position = time.time_ns() if at is None else at + number
        source = {"lsn": position, "sequence": json.dumps([str(position), str(position)]), "ts_ms": position // 10**6}
        row = {key: number}
        value = {"before": row, "after": None, "source": source, "op": "d", "ts_ms": position // 10**6}
        topic = f"{settings.topic_prefix}.public.{table}"
        producer.produce(topic, key=json.dumps(row), value=json.dumps(value), partition=number % 3)
    assert producer.flush(20) == 0


def requests(instance: dg.DagsterInstance, settings: Settings) -> dict[str, dg.RunRequest]:
    """What a tick asks for, by tables."""
    result = tick(instance, settings)
    asked = (result.run_requests or ()) if isinstance(result, dg.SensorResult) else ()
    names = {
        ",".join(sorted({key.to_user_string().partition("_")[2] for key in r.asset_selection or ()})): r for r in asked
    }
    assert len(names) == len(asked)
    return names


def execute(instance: dg.DagsterInstance, settings: Settings, request: dg.RunRequest) -> bool:
    """Runs it as the daemon does, which skips a run key that was used."""
    assert is_new(instance, request.run_key or "")
    job = build_location(Platform(settings)).resolve_job_def("kafka_to_silver")
    return job.execute_in_process(
        {**request.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        instance,
        request.partition_key,
        raise_on_error=False,
        asset_selection=request.asset_selection,
        tags={**request.tags, RUN_KEY_TAG: request.run_key or ""},
    ).success


def test_a_table_that_fails_in_its_runs_waits_longer_each_time_and_the_others_go_on(
    instance: dg.DagsterInstance, topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records kept coming, each tick planned other ends, and so the table was tried again every few seconds."""
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 300.0)
    remove(topics, "orders", 9)
    assert execute(instance, topics, requests(instance, topics)["orders"])
    remove(topics, "orders", 9, at=5)  # PostgreSQL has gone back in time
    remove(topics, "customers", 9)
    assert not execute(instance, topics, requests(instance, topics)["customers,orders"])
    remove(topics, "orders", 9)
    skipped = tick(instance, topics)
    assert isinstance(skipped, dg.SkipReason)
    assert "orders: tried 1 times, next attempt in" in (skipped.skip_message or "")
    remove(topics, "customers", 9)
    healthy = requests(instance, topics)
    assert list(healthy) == ["customers"], "it goes on, without the table that fails"
    assert execute(instance, topics, healthy["customers"])

    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    remove(topics, "customers", 9)
    assert list(requests(instance, topics)) == ["customers", "orders"]
    assert not execute(instance, topics, requests(instance, topics)["orders"])
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 300.0)
    remove(topics, "orders", 9)
    assert execute(instance, topics, requests(instance, topics)["customers"])
    skipped = tick(instance, topics)
    assert isinstance(skipped, dg.SkipReason)
    assert "orders: tried 2 times" in (skipped.skip_message or "")

    catalog, orders = Platform(topics).catalog, next(each for each in load_contracts() if each.table == "orders")
    gap = open_gap(topics, catalog, orders)
    assert gap is not None
    assert gap.gap is not None
    accept(topics, catalog, orders, gap.gap.name, reason="restored", by="ann")
    assert execute(instance, topics, requests(instance, topics)["orders"]), "what was decided is tried at once"
    assert isinstance(tick(instance, topics), dg.SkipReason)


def test_a_table_whose_silver_is_refused_waits_although_bronze_goes_on(
    instance: dg.DagsterInstance, topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run moves bronze's head, so heads do not tell whether the table gets on."""
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 300.0)
    produce(topics, "customers", 20)  # none of them is a customer
    assert not execute(instance, topics, requests(instance, topics)["customers"])
    produce(topics, "customers", 20)
    skipped = tick(instance, topics)
    assert isinstance(skipped, dg.SkipReason)
    assert "customers: tried 1 times" in (skipped.skip_message or "")


def test_tables_that_one_run_left_behind_are_tried_again_by_one_run(
    instance: dg.DagsterInstance, topics: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed has failed none of its tables."""
    monkeypatch.setattr("orders_platform.defs.automation.run_guard.FIRST_WAIT_SECONDS", 0.0)
    remove(topics, "orders", 9)
    remove(topics, "customers", 9)
    asked = requests(instance, topics)["customers,orders"]
    job = build_location(Platform(topics)).resolve_job_def("kafka_to_silver")
    tags = {**asked.tags, RUN_KEY_TAG: asked.run_key or ""}
    instance.create_run_for_job(job, tags=tags, status=dg.DagsterRunStatus.FAILURE)
    again = requests(instance, topics)
    assert list(again) == ["customers,orders"]
    assert execute(instance, topics, again["customers,orders"])
    assert isinstance(tick(instance, topics), dg.SkipReason)


def test_without_silver_or_with_clickhouse_down_no_order_date_is_asked_for(
    instance: dg.DagsterInstance, settings: Settings
) -> None:
    context = dg.build_sensor_context(instance=instance, resources={"platform": Platform(settings)})
    assert isinstance(stale_order_dates(context), dg.SkipReason)


def test_a_table_that_has_lost_records_fails_in_a_run_of_its_own_and_stops_no_other(
    instance: dg.DagsterInstance, topics: Settings
) -> None:
    """A gap in one topic used to keep the sensor and `sync` from loading any table."""
    produce(topics, "orders", 9)
    catalog = Platform(topics).catalog
    orders = next(contract for contract in load_contracts() if contract.table == "orders")
    unread(topics, catalog, orders)  # the topic is seen with all its records
    for partition in range(3):
        delete_before(topics, f"{topics.topic_prefix}.public.orders", partition, 2)
    produce(topics, "customers", 9)
    result = tick(instance, topics)
    assert isinstance(result, dg.SensorResult)
    healthy, stopped = result.run_requests or ()
    assert {key.to_user_string() for key in healthy.asset_selection or ()} == {
        "staging_customers", "bronze_customers", "silver_customers",
    }  # fmt: skip
    assert {key.to_user_string() for key in stopped.asset_selection or ()} == {"staging_orders", "bronze_orders"}
    assert "RecordsExpiredError" in stopped.tags["orders-platform/reason"]
    job = build_location(Platform(topics)).resolve_job_def("kafka_to_silver")
    run = job.execute_in_process(
        {**stopped.run_config, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        instance,
        stopped.partition_key,
        raise_on_error=False,
        asset_selection=stopped.asset_selection,
        tags={**stopped.tags},
    )
    assert not run.success
    with pytest.raises(SyncError, match="bronze_orders: RecordsExpiredError") as error:
        load(topics, ["orders", "customers"])
    assert "customers" not in str(error.value)
    assert unread(topics, catalog, next(c for c in load_contracts() if c.table == "customers")).records == 0
