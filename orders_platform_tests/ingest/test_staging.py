"""Staged files: what they hold, that they are put once, and that a wrong one is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from orders_platform.ingest.consumer import RangeReader
from orders_platform.ingest.errors import StagedFileError, TopicRecreatedError
from orders_platform.ingest.kafka_admin import KafkaAdmin
from orders_platform.ingest.offsets import Intervals, OffsetRange, by_partition
from orders_platform.ingest.staged_file import STAGED, StagedFile, read, sliced, staged_days, staged_files, write
from orders_platform.ingest.staging import stage_day, stage_ranges
from orders_platform.ingest.staging_files import FolderStorage, S3Storage, Storage, storage
from orders_platform.settings import Settings
from orders_platform_tests.ingest.broker_admin import drop_topic, make_topic, settled
from orders_platform_tests.ingest.events import (
    Record,
    change,
    contract,
    keep_clear_of_midnight,
    moment,
    produce,
    put,
    today,
    transactional,
)

DAY = date(2026, 3, 1)
NEXT = DAY + timedelta(days=1)


def staged(settings: Settings, topic: str, day: date = DAY) -> list[StagedFile]:
    return staged_files(storage(settings), topic, KafkaAdmin(settings).topic(topic).topic_id, day)


def test_records_are_staged_byte_for_byte(shop_topic: Settings, topic: str) -> None:
    headers = (("h", b"\x00\xff"), ("h", b""))
    odd = [Record(b"\xff not json", b"\x00"), Record(None, b"k", headers=headers), Record(b"", None)]
    produce(shop_topic, topic, [Record(each.value, each.key, 1, moment(DAY), each.headers) for each in odd])
    result = stage_day(shop_topic, contract(), DAY)
    assert (result.records, result.ranges) == (3, (OffsetRange(1, 0, 3),))
    assert result.bytes > 0
    (file,) = staged(shop_topic, topic)
    rows = read(storage(shop_topic), file).to_pylist()
    assert [(row["key"], row["value"]) for row in rows] == [(b"\x00", b"\xff not json"), (b"k", None), (None, b"")]
    assert [row["headers"] for row in rows] == [None, '[["h", "AP8="], ["h", ""]]', None]
    assert {row["timestamp"] for row in rows} == {moment(DAY)}
    assert {row["partition"] for row in rows} == {1}


def test_only_what_is_not_staged_yet_is_staged(shop_topic: Settings, topic: str) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(5)])
    assert stage_day(shop_topic, contract(), DAY, until={0: 2}).ranges == (OffsetRange(0, 0, 2),)
    assert stage_day(shop_topic, contract(), DAY).ranges == (OffsetRange(0, 2, 5),)
    assert stage_day(shop_topic, contract(), DAY).records == 0
    assert stage_day(shop_topic, contract(), DAY, until={}).records == 0


def test_records_of_a_topic_that_was_made_anew_meanwhile_are_not_staged_as_the_former_ones(
    shop_topic: Settings, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that stood still between the look at the topic and the reading finds other records at the offsets."""
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(3)])
    former = KafkaAdmin(shop_topic).topic(topic).topic_id

    class Late(RangeReader):
        def __enter__(self) -> Late:
            drop_topic(shop_topic, topic)
            make_topic(shop_topic)
            produce(shop_topic, topic, [change(10 + i, 10 + i, at=moment(DAY)) for i in range(5)])
            super().__enter__()
            return self

    monkeypatch.setattr("orders_platform.ingest.staging.RangeReader", Late)
    with pytest.raises(TopicRecreatedError, match=f"made anew while it was read .id {former} then"):
        stage_day(shop_topic, contract(), DAY)
    assert staged_files(storage(shop_topic), topic, former, DAY) == []


def test_a_range_that_ends_in_an_aborted_transaction_is_complete_without_its_records(
    shop_topic: Settings, topic: str
) -> None:
    keep_clear_of_midnight()
    produce(shop_topic, topic, [change(1, 1)])
    producer = transactional(shop_topic, f"aborted-{topic}")
    for finish in (producer.abort_transaction, producer.commit_transaction, producer.abort_transaction):
        producer.begin_transaction()
        put(producer, topic, [change(2, 2), change(3, 3, partition=1)])
        assert producer.flush(30) == 0
        finish(30)
    settled(shop_topic, topic)
    result = stage_day(shop_topic, contract(), today())
    assert result.ranges == (OffsetRange(0, 0, 7), OffsetRange(1, 0, 6))
    assert result.records == 3
    assert stage_day(shop_topic, contract(), today()).ranges == ()


def test_a_range_without_any_record_is_an_empty_file(shop_topic: Settings, topic: str) -> None:
    keep_clear_of_midnight()
    producer = transactional(shop_topic, f"nothing-{topic}")
    producer.begin_transaction()
    put(producer, topic, [change(1, 1)])
    assert producer.flush(30) == 0
    producer.abort_transaction(30)
    settled(shop_topic, topic)
    assert stage_day(shop_topic, contract(), today()).records == 0
    (file,) = staged(shop_topic, topic, today())
    assert file.range == OffsetRange(0, 0, 2)
    assert read(storage(shop_topic), file).num_rows == 0


def test_overlapping_files_of_racing_runs_agree(shop_topic: Settings, topic: str) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(6)])
    log, place = KafkaAdmin(shop_topic).topic(topic), storage(shop_topic)
    for first, end in ((0, 4), (2, 6), (2, 6)):
        stage_ranges(shop_topic, place, log, DAY, [OffsetRange(0, first, end)])
    files = staged(shop_topic, topic)
    assert by_partition(file.range for file in files) == {0: Intervals(((0, 6),))}
    both = [sliced(read(place, file), 2, 4) for file in files]
    assert both[0] == both[1]
    assert staged_days(place, topic, log.topic_id) == [DAY]


@pytest.mark.parametrize("damage", ["cut", "flipped", "renamed"])
def test_a_damaged_file_is_an_error_that_names_it(shop_topic: Settings, topic: str, damage: str) -> None:
    produce(shop_topic, topic, [change(i, i, at=moment(DAY)) for i in range(50)])
    stage_day(shop_topic, contract(), DAY)
    (file,) = staged(shop_topic, topic)
    path = Path(shop_topic.staging) / file.name
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(content[:200] + bytes([content[200] ^ 0xFF]) + content[201:])
    else:
        file = StagedFile(file.topic, file.topic_id, file.day, OffsetRange(0, 0, 60))
        path.rename(Path(shop_topic.staging) / file.name)
    with pytest.raises(StagedFileError, match="00000-0000000000000000000"):
        read(storage(shop_topic), file)


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Both kinds of storage, empty."""
    if request.param == "folder":
        yield FolderStorage(tmp_path / "staging")
        return
    settings = request.getfixturevalue("settings").model_copy(update={"staging_url": "s3://staging/some/folder"})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in request.getfixturevalue("s3_variables").items():
            patch.setenv(name, value)
        place = storage(settings)
        assert isinstance(place, S3Storage)
        yield place


def test_a_name_is_given_once_and_can_be_freed(place: Storage) -> None:
    assert place.names("t/a") == place.folders("t") == []
    assert place.put("t/a/x", pa.py_buffer(b"1"))
    assert place.put("t/b/y", pa.py_buffer(b"2"))
    assert not place.put("t/a/x", pa.py_buffer(b"3"))
    assert place.read("t/a/x").to_pybytes() == b"1"
    assert place.names("t/a") == ["x"]
    assert place.folders("t") == ["a", "b"]
    aside = place.set_aside("t/a/x")
    assert place.names("t/a") == []
    assert place.read(aside).to_pybytes() == b"1"
    assert place.put("t/a/x", pa.py_buffer(b"3"))
    with pytest.raises(FileNotFoundError):
        place.read("t/a/nothing")


def test_files_of_others_are_no_concern(tmp_path: Path) -> None:
    place = FolderStorage(tmp_path)
    place.put("topic/id/dt=2026-03-01/README", pa.py_buffer(b""))
    write(place, StagedFile("topic", "id", DAY, OffsetRange(0, 5, 5)), STAGED.empty_table())
    assert [file.range for file in staged_files(place, "topic", "id", DAY)] == [OffsetRange(0, 5, 5)]
