"""Where in each partition a new history of PostgreSQL begins, once some change is known to belong to it.

The connector writes all partitions in one order, that of commits. So the last record before the first fall is of the
former history, and whatever was appended between both is told apart by its position: above the one, or not above the
other.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from pyiceberg.table import Table

from orders_platform.ingest.errors import PositionFellError
from orders_platform.ingest.gaps import END, Gap, GapKind
from orders_platform.ingest.kafka_admin import KafkaAdmin, TopicLog
from orders_platform.ingest.ledger import Ledger
from orders_platform.ingest.positions import STREAMED, Fall
from orders_platform.lake.duckdb_engine import scan_sql

HISTORY = "history"


def make_history(con: duckdb.DuckDBPyConnection) -> None:
    """Makes the table `history` of places in the order of changes."""
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {HISTORY} (_kafka_partition INTEGER, _kafka_offset BIGINT, "
        "_kafka_ts TIMESTAMPTZ, _op VARCHAR, _tx_id BIGINT, _lsn BIGINT, _commit_pos BIGINT)"
    )


def add_to_history(con: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Adds the streamed changes of a batch."""
    con.execute(
        f"INSERT INTO {HISTORY} SELECT _kafka_partition, _kafka_offset, _kafka_ts, _op, _tx_id, _lsn, _commit_pos "
        f"FROM {rows} WHERE {STREAMED}"
    )


def refuse_rewound(
    con: duckdb.DuckDBPyConnection,
    admin: KafkaAdmin,
    table: Table,
    log: TopicLog,
    ledger: Ledger,
    falls: Sequence[Fall],
) -> None:
    """Raises `PositionFellError` naming the first changes that cannot follow, and where a new epoch would begin."""
    first = min(falls, key=lambda fall: (fall.timestamp, fall.partition))
    starts = {**_before(con, table, log, first), **{fall.partition: fall.offset for fall in falls}}
    moment = round(first.timestamp.timestamp() * 1000)
    later = admin.first_at(log.name, [(partition, moment) for partition in log.partitions])
    for (partition, _), found in later.items():
        offset = found.offset if found else log.partitions[partition].stable_end
        starts.setdefault(partition, max(offset, ledger.of(log.topic_id, partition).next))
    raise PositionFellError(
        f"topic {log.name}{'; '.join(map(str, falls))}: PostgreSQL was restored or failed over to an earlier position. "
        f"Nothing of this batch was loaded; changes from here on would lose to older ones",
        Gap(
            GapKind.REWOUND,
            log.topic_id,
            tuple((partition, starts[partition], END) for partition in sorted(starts)),
            log.topic_id.partition("~")[0],
            log.cluster_id,
        ),
    )


def _before(con: duckdb.DuckDBPyConnection, table: Table, log: TopicLog, first: Fall) -> dict[int, int]:
    """The first offsets of the new history that were appended before the first fall, by partition.

    Where nothing was loaded before it, the log itself began with it.
    """
    (last,) = con.execute(
        f"SELECT max(_kafka_ts) FROM {HISTORY} WHERE _kafka_partition = ? AND _kafka_offset < ?",
        [first.partition, first.offset],
    ).fetchall()[0]
    if last is None:
        (last,) = con.execute(
            f"SELECT max(_kafka_ts) FROM {scan_sql(table)} WHERE _topic_id = ? AND _kafka_partition = ?",
            [log.topic_id, first.partition],
        ).fetchall()[0]
    rows = con.execute(
        f"SELECT _kafka_partition, min(_kafka_offset) FROM {HISTORY} "
        f"WHERE coalesce(_kafka_ts >= ?, true) AND _kafka_ts <= ? AND _commit_pos <= ? GROUP BY 1",
        [last, first.timestamp, first.position],
    ).fetchall()
    return dict(rows)
