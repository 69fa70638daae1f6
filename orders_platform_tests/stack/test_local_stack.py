"""The whole stack: it comes up, says how it is, heals, and ends in order."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack import StackError, doctor, down, status, up
from orders_platform.stack.local_stack import StackStatus, parts
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.stack.topic_records import records
from orders_platform_tests.waiting import PATIENCE_SECONDS, eventually

MEMORY_LIMIT_BYTES = 1_500_000_000
PARTS = ["postgres", "kafka", "connect", "clickhouse", "connector"]


def _pids(settings: Settings) -> dict[str, int | None]:
    return {part.name: part.pid for part in status(settings).parts}


def _kill(settings: Settings, *names: str) -> None:
    for name, pid in _pids(settings).items():
        if name in names and pid is not None:
            process = psutil.Process(pid)
            process.send_signal(signal.SIGKILL)
            _, alive = psutil.wait_procs([process], timeout=PATIENCE_SECONDS)
            assert not alive


def _well(settings: Settings) -> StackStatus:
    """How the stack is, once all of it is well: one look may find a part busy, or the connector between two workers."""
    return eventually(lambda: status(settings), lambda now: now.healthy)


def _insert(settings: Settings, number: int) -> None:
    with psycopg.connect(settings.postgres) as connection:
        connection.execute(
            "INSERT INTO customers (customer_id, email, full_name, region, created_at, updated_at)"
            " VALUES (%s, 'a@example.com', 'A', 'EU-WEST', now(), now())",
            [number],
        )


def test_every_part_is_healthy_and_all_of_them_stay_below_one_and_a_half_gigabytes(live_stack: Settings) -> None:
    now = _well(live_stack)
    assert [part.name for part in now.parts] == PARTS
    assert [part.detail for part in now.parts if not part.healthy] == []
    assert now.healthy
    assert 0 < sum(part.memory_bytes for part in now.parts) < MEMORY_LIMIT_BYTES
    assert all(part.version and part.log_file.exists() for part in now.parts)


def test_status_tells_a_program_all_it_needs_to_connect(live_stack: Settings) -> None:
    connection = json.loads(json.dumps(status(live_stack).connection))
    assert connection["postgres"] == live_stack.postgres
    assert connection["kafka"] == f"127.0.0.1:{live_stack.ports.kafka}"
    assert connection["connect"] == f"http://127.0.0.1:{live_stack.ports.connect}"
    assert connection["clickhouse"] == live_stack.clickhouse
    assert connection["catalog"]["uri"].startswith("sqlite:///")
    assert connection["warehouse"] == f"file://{live_stack.home}/warehouse"


def test_topics_keep_seven_days_in_three_partitions_by_the_brokers_clock(live_stack: Settings) -> None:
    admin = AdminClient(live_stack.kafka_config)
    for contract in load_contracts():
        topic = contract.topic(live_stack.topic_prefix)
        assert len(admin.list_topics(topic, timeout=60).topics[topic].partitions) == 3
        resource = ConfigResource(ResourceType.TOPIC, topic)
        config = admin.describe_configs([resource])[resource].result(timeout=60)
        assert config["message.timestamp.type"].value == "LogAppendTime"
        assert config["retention.ms"].value == str(7 * 86_400_000)


def test_up_on_a_stack_that_is_well_changes_nothing(troubled_stack: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.supervise.HEAL_SECONDS", PATIENCE_SECONDS)
    before = _pids(troubled_stack)
    said: list[str] = []
    up(troubled_stack, said.append)
    assert _well(troubled_stack).healthy
    assert _pids(troubled_stack) == before
    assert not [line for line in said if "answers at" in line]


def test_two_who_start_it_at_the_same_time_get_one_stack(troubled_stack: Settings) -> None:
    _kill(troubled_stack, "clickhouse")
    threads = [threading.Thread(target=up, args=(troubled_stack,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _well(troubled_stack).healthy
    folder = str(troubled_stack.home / "clickhouse" / "data")
    assert sum(folder in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])) == 1


@pytest.mark.parametrize("name", ["postgres", "connect", "clickhouse", "kafka"])
def test_a_part_that_died_is_shown_and_healed_and_changes_go_on(troubled_stack: Settings, name: str) -> None:
    _kill(troubled_stack, name)
    now = next(part for part in status(troubled_stack).parts if part.name == name)
    assert not now.healthy
    assert now.pid is None
    assert "it has died" in now.detail
    up(troubled_stack, print)
    assert _well(troubled_stack).healthy
    number = 90_000 + PARTS.index(name)
    _insert(troubled_stack, number)
    found = records(troubled_stack, "customers", lambda found: any(r.key == {"customer_id": number} for r in found))
    assert sum(r.key == {"customer_id": number} for r in found) == 1


def test_a_power_cut_takes_all_parts_and_up_brings_them_back(troubled_stack: Settings) -> None:
    _insert(troubled_stack, 91_000)
    _kill(troubled_stack, *PARTS)
    for file in (troubled_stack.home / "run").glob("*.pid"):
        file.write_text("1\n", encoding="ascii")
    assert not status(troubled_stack).running
    up(troubled_stack, print)
    assert _well(troubled_stack).healthy
    with psycopg.connect(troubled_stack.postgres) as connection:
        row = connection.execute("SELECT count(*) FROM customers WHERE customer_id = 91000").fetchone()
    assert row == (1,)
    found = records(troubled_stack, "customers", lambda found: any(r.key == {"customer_id": 91_000} for r in found))
    assert sum(r.key == {"customer_id": 91_000} for r in found) == 1


def test_the_doctor_finds_nothing_wrong_with_a_stack_that_is_well(
    live_stack: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orders_platform.stack.diagnosis.NEEDED_MEMORY_BYTES", 0)
    findings = eventually(lambda: doctor(live_stack), lambda findings: all(finding.ok for finding in findings))
    assert [finding.what for finding in findings if not finding.ok] == []
    assert any("Debezium" in finding.what for finding in findings)


def test_the_doctor_names_what_is_wrong_with_its_remedy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.diagnosis.NEEDED_MEMORY_BYTES", 1 << 60)
    monkeypatch.setattr("orders_platform.stack.diagnosis.MANIFEST", settings.home / "manifest.json")
    monkeypatch.setattr("orders_platform.stack.diagnosis.STACK_PACKAGES", {"no_such_package": "PostgreSQL"})
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.ports.clickhouse))
        other.listen()
        wrong = {finding.what: finding.remedy for finding in doctor(settings) if not finding.ok}
    assert len(wrong) == 4
    assert wrong["not installed: PostgreSQL"] == "make install"
    assert any("ORDERS_PLATFORM_PORT_CLICKHOUSE" in what for what in wrong)
    assert "make manifest" in wrong.values()
    assert all(wrong.values())


def test_nothing_is_started_for_what_the_settings_place_elsewhere(settings: Settings) -> None:
    elsewhere = settings.model_copy(
        update={
            "kafka": {"bootstrap_servers": "kafka.example.com:9092"},
            "postgres_dsn": "postgresql://db.example.com/shop",
        }
    )
    assert [part.name for part in parts(elsewhere)] == ["clickhouse"]


def test_outside_of_local_there_is_no_stack_to_start(settings: Settings) -> None:
    with pytest.raises(StackError, match="ORDERS_PLATFORM_ENV=local, not production"):
        up(settings.model_copy(update={"env": "production"}))


def test_down_stops_all_and_can_be_repeated(new_home: Callable[[str], Path], settings: Settings) -> None:
    elsewhere = {"kafka": {"bootstrap_servers": "kafka.example.com:9092"}}
    small = new_settings(new_home("small"), **elsewhere)
    said: list[str] = []
    assert up(small).running
    down(small, said.append)
    assert [line.split(" (pid")[0] for line in said] == ["ClickHouse (chdb)", "PostgreSQL"]
    assert not status(small).running
    down(small)
    down(settings)
    assert not settings.home.exists(), "nothing is made for a stack that never was"
