"""Apache Kafka on one machine: one node that is broker and controller (KRaft), durable for a laptop's purposes."""

from __future__ import annotations

import base64
import os
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.jars import version_of
from orders_platform.stack.jvm import JvmProgram, jvm_command, mark, write_properties
from orders_platform.stack.part import Part, Places, Report, UnhealthyError, places
from orders_platform.stack.processes import Command

NAME = "kafka"
NODE_ID = 1
HEAP_MEGABYTES = 288
FORMAT_SECONDS = 300
ANSWER_SECONDS = 5
MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Rows with large texts are larger than Kafka's default of 1 MB."""


def kafka(settings: Settings) -> Part:
    """The broker as a part of the stack."""
    place = places(settings, NAME)
    return Part(
        name=NAME,
        title="Apache Kafka",
        endpoint=f"127.0.0.1:{settings.ports.kafka}",
        version=version_of("kafka_2.13"),
        ports={
            "ORDERS_PLATFORM_PORT_KAFKA": settings.ports.kafka,
            "ORDERS_PLATFORM_PORT_KAFKA_CONTROLLER": settings.ports.kafka_controller,
        },
        folder=place.folder,
        mark=mark(place),
        log_file=place.log_file,
        pid_file=place.pid_file,
        prepare=lambda report: _prepare(settings, place, report),
        answer=lambda: _answer(settings, place),
    )


def broker_config(settings: Settings, data: Path) -> dict[str, str]:
    """`server.properties`: topics exist because a contract says so, timestamps are the broker's, one node is enough."""
    ports = settings.ports
    return {
        "process.roles": "broker,controller",
        "node.id": str(NODE_ID),
        "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{ports.kafka_controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{ports.kafka},CONTROLLER://127.0.0.1:{ports.kafka_controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports.kafka}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "log.message.timestamp.type": "LogAppendTime",
        "message.max.bytes": str(MAX_RECORD_BYTES),
        "replica.fetch.max.bytes": str(MAX_RECORD_BYTES),
        # One node: the internal topics cannot have more copies, and fewer partitions start sooner.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A broker that was killed may come back only when the controller has given up its former life.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
        # Records that were deleted stay deleted when the broker is killed; by default this is noted once a minute.
        "log.flush.start.offset.checkpoint.interval.ms": "1000",
        # The log cleaner takes 128 MB of the heap by default.
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


def _prepare(settings: Settings, place: Places, report: Report) -> Command:
    file = place.folder / "server.properties"
    data = place.folder / "data"
    write_properties(file, broker_config(settings, data))
    command = jvm_command(JvmProgram("kafka.Kafka", (str(file),), HEAP_MEGABYTES), place, report)
    if not (data / "meta.properties").exists():
        _format(place, file, report)
    return command


def _format(place: Places, file: Path, report: Report) -> None:
    """A new log folder with a cluster id, as Kafka's own tool makes it."""
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    tool = JvmProgram("kafka.tools.StorageTool", ("format", f"--cluster-id={cluster_id}", "-c", str(file)), 64)
    command = jvm_command(tool, place, report)
    try:
        done = subprocess.run(
            command.arguments,
            env={**os.environ, **command.environment},
            capture_output=True,
            text=True,
            timeout=FORMAT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise StackError(
            f"Kafka's log folder {place.folder} was not made within {FORMAT_SECONDS} s; is the disk very slow?"
        ) from None
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip()[-2000:]
        raise StackError(f"Kafka's log folder {place.folder} cannot be made: {said}")


def cluster_id(place: Places) -> str | None:
    """The id under which the broker's folder was made; None before that."""
    try:
        lines = (place.folder / "data" / "meta.properties").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("cluster.id=") for line in lines if line.startswith("cluster.id=")), None)


def _answer(settings: Settings, place: Places) -> str:
    endpoint = f"127.0.0.1:{settings.ports.kafka}"
    client = AdminClient({"bootstrap.servers": endpoint, "log_level": 0})
    try:
        metadata = client.list_topics(timeout=ANSWER_SECONDS)
    except KafkaException as error:
        raise UnhealthyError(f"Kafka does not answer at {endpoint}: {error.args[0].str()}") from error
    wanted = cluster_id(place)
    if metadata.cluster_id != wanted:
        raise UnhealthyError(f"another cluster ({metadata.cluster_id}, not {wanted}) answers at {endpoint}")
    return f"{len(metadata.topics)} topics"
