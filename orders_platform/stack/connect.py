"""Kafka Connect on one machine: a distributed worker with exactly-once source support, Debezium on its class path."""

from __future__ import annotations

from orders_platform.settings import Settings
from orders_platform.stack.connect_rest import ConnectRest
from orders_platform.stack.jars import version_of
from orders_platform.stack.jvm import JvmProgram, jvm_command, mark, write_properties
from orders_platform.stack.kafka import MAX_RECORD_BYTES
from orders_platform.stack.part import Part, Places, Report, UnhealthyError, places
from orders_platform.stack.processes import Command

NAME = "connect"
GROUP = "orders-platform-connect"
OFFSETS_TOPIC = f"{GROUP}-offsets"
HEAP_MEGABYTES = 320


def connect(settings: Settings) -> Part:
    """The Connect worker as a part of the stack."""
    place = places(settings, NAME)
    return Part(
        name=NAME,
        title="Kafka Connect",
        endpoint=f"http://127.0.0.1:{settings.ports.connect}",
        version=version_of("connect-runtime"),
        ports={"ORDERS_PLATFORM_PORT_CONNECT": settings.ports.connect},
        folder=place.folder,
        mark=mark(place),
        log_file=place.log_file,
        pid_file=place.pid_file,
        prepare=lambda report: _prepare(settings, place, report),
        answer=lambda: _answer(settings),
    )


def worker_config(settings: Settings) -> dict[str, str]:
    """`connect-distributed.properties`: JSON without schemas, and a transaction for each batch of a source task."""
    converter = "org.apache.kafka.connect.json.JsonConverter"
    return {
        "bootstrap.servers": settings.kafka_config["bootstrap.servers"],
        "group.id": GROUP,
        "listeners": f"http://127.0.0.1:{settings.ports.connect}",
        "rest.advertised.host.name": "127.0.0.1",
        "rest.advertised.port": str(settings.ports.connect),
        "exactly.once.source.support": "enabled",
        "config.storage.topic": f"{GROUP}-configs",
        "config.storage.replication.factor": "1",
        "offset.storage.topic": OFFSETS_TOPIC,
        "offset.storage.replication.factor": "1",
        "offset.storage.partitions": "1",
        "status.storage.topic": f"{GROUP}-status",
        "status.storage.replication.factor": "1",
        "status.storage.partitions": "1",
        "key.converter": converter,
        "key.converter.schemas.enable": "false",
        "value.converter": converter,
        "value.converter.schemas.enable": "false",
        # A NULL in a column that has a default stays NULL (KAFKA-8713).
        "key.converter.replace.null.with.default": "false",
        "value.converter.replace.null.with.default": "false",
        "header.converter": converter,
        "header.converter.schemas.enable": "false",
        # One worker: there is nobody whose return is worth waiting for.
        # It starts while the broker does. By default its clients would ask for it anew in a busy loop (KIP-899).
        "metadata.recovery.strategy": "none",
        "reconnect.backoff.max.ms": "250",
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "1500",
        # Topics of the contracts are there before; see `topic.creation.default` of the connector.
        "topic.creation.enable": "true",
        # Service loading alone: scanning a hundred jars costs two seconds more.
        "plugin.discovery": "service_load",
        "producer.max.request.size": str(MAX_RECORD_BYTES),
        "producer.buffer.memory": str(2 * MAX_RECORD_BYTES),
    }


def _prepare(settings: Settings, place: Places, report: Report) -> Command:
    file = place.folder / "connect-distributed.properties"
    write_properties(file, worker_config(settings))
    program = JvmProgram("org.apache.kafka.connect.cli.ConnectDistributed", (str(file),), HEAP_MEGABYTES)
    return jvm_command(program, place, report)


def _answer(settings: Settings) -> str:
    worker = ConnectRest(settings).worker()
    version = worker.get("version")
    if version != version_of("connect-runtime"):
        raise UnhealthyError(f"another Connect ({version}) answers at port {settings.ports.connect}")
    return f"cluster {worker['kafka_cluster_id']}"
