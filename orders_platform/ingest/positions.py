"""Whether PostgreSQL's log went on: within a Kafka partition the commit positions of streamed changes never fall.

They fall when the connector delivers changes again (then each is known by its transaction and LSN), or when PostgreSQL
was restored or failed over to an earlier position: then new changes would lose to older ones, and the topic stops.
Incremental-snapshot reads carry the position at which they were read and are no measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import duckdb

from orders_platform.ingest.errors import PositionFellError

STREAMED = (
    "_op IN ('c', 'u', 'd', 't', 'r') AND (_snapshot IS NULL OR _snapshot <> 'incremental') AND _commit_pos IS NOT NULL"
)


def check_positions(
    con: duckdb.DuckDBPyConnection,
    rows: str,
    before: Mapping[int, tuple[int, int]],
    firsts: Mapping[int, int],
    known: Callable[[list[int]], str],
    topic: str,
) -> dict[int, int]:
    """Checks rows of bronze in the order of their offsets.

    Args:
        rows: a relation with bronze's columns, of one topic.
        before: for each partition the offset behind what was loaded, and the highest position in it.
        firsts: for each partition the first offset of these rows' range; only a range that follows is compared with
            what was before it.
        known: a FROM item with columns `_kafka_partition`, `_tx_id`, `_lsn` of loaded rows with one of these LSNs.

    Returns:
        The highest position of each partition.

    Raises:
        PositionFellError: naming the first change that cannot follow the one before it.
    """
    start = {p: before[p][1] for p, first in firsts.items() if p in before and first >= before[p][0]}
    values = ", ".join(f"({partition}, {position})" for partition, position in start.items()) or "(NULL, NULL)"
    suspects = con.execute(
        f"""WITH ordered AS (
            SELECT _kafka_partition, _kafka_offset, _tx_id, _lsn, _commit_pos, _snapshot,
                   max(_commit_pos) OVER (PARTITION BY _kafka_partition ORDER BY _kafka_offset
                                          ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earlier
            FROM {rows} WHERE {STREAMED})
        SELECT o._kafka_partition, _kafka_offset, _tx_id, _lsn, _commit_pos, greatest(earlier, s.position)
        FROM ordered o LEFT JOIN (VALUES {values}) s(partition, position) ON s.partition = o._kafka_partition
        WHERE _commit_pos < greatest(earlier, s.position) ORDER BY 1, 2"""
    ).fetchall()
    if suspects:
        _refuse_unknown(con, rows, suspects, known, topic)
    found = con.execute(f"SELECT _kafka_partition, max(_commit_pos) FROM {rows} WHERE {STREAMED} GROUP BY 1").fetchall()
    highest = dict(start)
    for partition, position in found:
        highest[partition] = max(position, start.get(partition, position))
    return highest


def _refuse_unknown(
    con: duckdb.DuckDBPyConnection,
    rows: str,
    suspects: list[tuple[int, int, int | None, int, int, int]],
    known: Callable[[list[int]], str],
    topic: str,
) -> None:
    """Raises unless every suspect was delivered before, in this batch or in the table."""
    loaded = set(
        con.execute(
            f"SELECT DISTINCT _kafka_partition, _tx_id, _lsn FROM {known(sorted({lsn for *_, lsn, _, _ in suspects}))}"
        ).fetchall()
    )
    for partition, offset, tx_id, lsn, position, earlier in suspects:
        if (partition, tx_id, lsn) in loaded:
            continue
        in_batch = con.execute(
            f"""SELECT 1 FROM {rows} WHERE _kafka_partition = ? AND _kafka_offset < ? AND _lsn = ?
                AND _tx_id IS NOT DISTINCT FROM ? LIMIT 1""",
            [partition, offset, lsn, tx_id],
        ).fetchone()
        if in_batch is None:
            raise PositionFellError(
                f"topic {topic}[{partition}] offset {offset}: commit position {position} (LSN {lsn}, transaction "
                f"{tx_id}) is below {earlier}, which came before it, and the change was never delivered before: "
                f"PostgreSQL was restored or failed over to an earlier position. Nothing of this batch was loaded; "
                f"changes from here on would lose to older ones"
            )
