"""The broker: what it keeps over a restart, wherever its home is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from orders_platform.contracts import load_contracts
from orders_platform.ingest.topics import create_topics, topic_name
from orders_platform.settings import Settings
from orders_platform.stack.errors import StackError
from orders_platform.stack.jvm import write_properties
from orders_platform.stack.kafka import cluster_id, kafka
from orders_platform.stack.part import UnhealthyError, places
from orders_platform.stack.supervise import ensure, running, take_down
from orders_platform_tests.conftest import new_settings


def test_records_survive_a_restart_in_a_home_with_spaces_and_letters_of_the_world(
    new_home: Callable[[str], Path],
) -> None:
    settings = new_settings(new_home("kafka") / "größe 中 🙂")
    topic = topic_name(settings, load_contracts()[0])
    with running(kafka(settings), print):
        create_topics(settings, load_contracts())
        producer = Producer(settings.kafka_config)
        producer.produce(topic, b"value", partition=0)
        assert producer.flush(30) == 0
    with running(kafka(settings), print):
        consumer = Consumer({**settings.kafka_config, "group.id": "test"})
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(30)
        consumer.close()
    assert message is not None
    assert message.value() == b"value"


def test_another_cluster_on_the_port_is_recognised(broker: Settings, tmp_path: Path) -> None:
    other = kafka(broker.model_copy(update={"home": tmp_path}))
    with pytest.raises(UnhealthyError, match=r"another cluster \(.*, not None\)"):
        other.answer()
    assert cluster_id(places(broker, "kafka"))


def test_a_broker_that_is_not_there_does_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orders_platform.stack.kafka.ANSWER_SECONDS", 0.3)
    with pytest.raises(UnhealthyError, match="does not answer"):
        kafka(settings).answer()


def test_a_log_folder_that_cannot_be_made_is_an_error_with_kafkas_own_words(settings: Settings) -> None:
    part = kafka(settings)
    part.folder.mkdir(parents=True)
    (part.folder / "data").write_text("a file where a folder should be", encoding="ascii")
    with pytest.raises(StackError, match=r"log folder .* cannot be made"):
        ensure(part, print)
    take_down(part, print)


def test_property_files_are_ascii_as_java_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "x.properties"
    write_properties(file, {"a": "C:\\ü", "b": "🙂=1"})
    assert file.read_text(encoding="ascii") == "a=C:\\\\\\u00fc\nb=\\ud83d\\ude42=1\n"
