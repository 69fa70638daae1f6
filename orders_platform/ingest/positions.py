"""Whether PostgreSQL's log went on: within a Kafka partition the commit positions of streamed changes never fall.

They fall when the connector delivers changes again (then each is known by its transaction and LSN), or when PostgreSQL
was restored or failed over to an earlier position: then new changes would lose to older ones, and the topic stops until
somebody accepts that a new epoch begins there. Positions of two epochs are not compared.
Incremental-snapshot reads carry the position at which they were read and are no measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb

STREAMED = (
    "_op IN ('c', 'u', 'd', 't', 'r') AND (_snapshot IS NULL OR _snapshot <> 'incremental') AND _commit_pos IS NOT NULL"
)


@dataclass(frozen=True)
class Place:
    """Where a partition stands: the offset behind what is loaded, and the highest position of the newest epoch."""

    next: int
    epoch: int
    position: int


@dataclass(frozen=True)
class Fall:
    """The first change of a partition that cannot follow the one before it: its position lies below `earlier`."""

    partition: int
    offset: int
    timestamp: datetime
    tx_id: int | None
    lsn: int
    position: int
    earlier: int
    op: str

    def __str__(self) -> str:
        return (
            f"[{self.partition}] offset {self.offset}: commit position {self.position} (LSN {self.lsn}, transaction "
            f"{self.tx_id}) is below {self.earlier}, which came before it, and the change was never delivered before"
        )


def falls(
    con: duckdb.DuckDBPyConnection,
    rows: str,
    before: Mapping[int, Place],
    known: Callable[[list[int]], str],
) -> list[Fall]:
    """The first fall of each partition in which there is one.

    Args:
        rows: a relation with bronze's columns, of one log.
        before: where the partitions stand, as far as these rows follow.
        known: a FROM item with columns `_kafka_partition`, `_op`, `_tx_id`, `_lsn` of loaded rows with one of these
            LSNs.
    """
    suspects = con.execute(
        f"""WITH ordered AS (
            SELECT *, max(_commit_pos) OVER (PARTITION BY _kafka_partition, _epoch ORDER BY _kafka_offset
                                             ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier
            FROM {rows} WHERE {STREAMED})
        SELECT o._kafka_partition, _kafka_offset, _kafka_ts, _tx_id, _lsn, _commit_pos, greatest(earlier, s.position),
               _op
        FROM ordered o LEFT JOIN (VALUES {_values(before)}) s(partition, epoch, position)
            ON s.partition = o._kafka_partition AND s.epoch = o._epoch
        WHERE _commit_pos < greatest(earlier, s.position) ORDER BY 1, 2"""
    ).fetchall()
    unknown = _unknown(con, rows, [Fall(*row) for row in suspects], known)
    first: dict[int, Fall] = {}
    for fall in unknown:
        first.setdefault(fall.partition, fall)
    return list(first.values())


def highest_within(con: duckdb.DuckDBPyConnection, rows: str, before: Mapping[int, Place]) -> dict[int, Place]:
    """Where the partitions stand after these rows; what follows in the same load is compared with all of it."""
    found = con.execute(
        f"""SELECT _kafka_partition, _epoch, max(_commit_pos) FROM {rows} WHERE {STREAMED}
            GROUP BY _kafka_partition, _epoch ORDER BY _epoch"""
    ).fetchall()
    places = dict(before)
    for partition, epoch, position in found:
        place = places.get(partition)
        if place is None or epoch > place.epoch:
            places[partition] = Place(0, epoch, position)
        elif epoch == place.epoch:
            places[partition] = Place(0, epoch, max(position, place.position))
    return places


def _values(before: Mapping[int, Place]) -> str:
    rows = (f"({partition}, {place.epoch}, {place.position})" for partition, place in before.items())
    return ", ".join(rows) or "(NULL, NULL, NULL)"


_SAME_PLACE = "CASE WHEN _op = 'r' THEN _kafka_partition END"
"""Where a redelivery is looked for. All reads of a snapshot have one transaction and LSN: only a read of the same
partition tells that they came before. A streamed change is known by its own, also where its key has moved since, as
keys do when a topic gets more partitions."""


def _unknown(
    con: duckdb.DuckDBPyConnection, rows: str, suspects: list[Fall], known: Callable[[list[int]], str]
) -> list[Fall]:
    """Those that were not delivered before, neither in this batch nor in the table."""
    if not suspects:
        return []
    loaded = set(
        con.execute(
            f"SELECT DISTINCT {_SAME_PLACE}, _tx_id, _lsn FROM {known(sorted({fall.lsn for fall in suspects}))}"
        ).fetchall()
    )
    left = []
    for fall in suspects:
        place = fall.partition if fall.op == "r" else None
        if (place, fall.tx_id, fall.lsn) in loaded:
            continue
        in_batch = con.execute(
            f"""SELECT 1 FROM {rows} WHERE _lsn = $lsn AND _tx_id IS NOT DISTINCT FROM $tx_id
                AND {_SAME_PLACE} IS NOT DISTINCT FROM $place
                AND CASE WHEN _kafka_partition = $partition THEN _kafka_offset < $offset ELSE _kafka_ts <= $at END
                LIMIT 1""",
            {
                "lsn": fall.lsn,
                "tx_id": fall.tx_id,
                "place": place,
                "partition": fall.partition,
                "offset": fall.offset,
                "at": fall.timestamp,
            },
        ).fetchone()
        if in_batch is None:
            left.append(fall)
    return left
