"""What each fault does to a portion of recorded changes, by what it hits: the run, the catalog, the tables, …"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from orders_platform_tests.faults import kafka_faults, storage_faults, table_faults
from orders_platform_tests.faults.history import Fault, Step
from orders_platform_tests.faults.player import Action, Player
from orders_platform_tests.faults.recording import Record
from orders_platform_tests.faults.store_proxy import StoreFault
from orders_platform_tests.faults.work import CatalogFault, Kind, Work

LAG = Work(Kind.LAG_SENSOR)
DATES = Work(Kind.DATES_SENSOR)
OVERTAKING_SECONDS = 20.0
COMMITS = 14
"""About as many commits as a pass over five tables makes."""
BEYOND_SILVER = ("gold-", "clickhouse-")


def written_first(act: Callable[[Player, Step], None]) -> Action:
    """The portion is in Kafka before the fault happens."""

    def action(player: Player, step: Step, portion: Sequence[Record]) -> None:
        player.write(portion)
        act(player, step)

    return action


def _undisturbed(player: Player, step: Step) -> None:
    player.run(step, LAG)
    player.run(step, DATES)


def _killed_at_point(player: Player, step: Step) -> None:
    player.ended(step, player.start(_way_to(step), step.point, step.times).wait())


def _killed_at_random(player: Player, step: Step) -> None:
    player.ended(step, player.start(_chosen(step, LAG, Work()), None).kill_after(step.seconds))


def _two_at_once(player: Player, step: Step) -> None:
    first, second = player.start(LAG), player.start(_chosen(step, LAG, Work()))
    player.ended(step, first.wait())
    player.ended(step, second.wait())


def _frozen_at_point(player: Player, step: Step) -> None:
    """A zombie: it was about to do its next durable step when another took over."""
    frozen = player.start(replace(_way_to(step), freeze=True), step.point, step.times)
    if frozen.wait_until_frozen():
        player.ended(step, player.start(_way_to(step)).wait(OVERTAKING_SECONDS * 6))
        frozen.thaw()
    player.ended(step, frozen.wait())


def _frozen_and_overtaken(player: Player, step: Step) -> None:
    frozen = player.start(LAG)
    frozen.freeze_after(step.seconds)
    overtaking = player.start(LAG)
    try:
        # A frozen run may hold the lock of a local catalog; the one that overtakes it must not wait for ever.
        with suppress(TimeoutError):
            player.ended(step, overtaking.wait(OVERTAKING_SECONDS))
    finally:
        frozen.thaw()
    player.ended(step, frozen.wait())


def _range_backfill_while_live(player: Player, step: Step) -> None:
    backfill = player.start(Work(Kind.DAYS_BY_HAND, days=player.days))
    live = player.start(LAG)
    player.ended(step, backfill.wait())
    player.ended(step, live.wait())


def _two_publications_at_once(player: Player, step: Step) -> None:
    player.run(step, LAG)
    first, second = player.start(DATES), player.start(DATES)
    player.ended(step, first.wait())
    player.ended(step, second.wait())


def _past_day_again(player: Player, step: Step) -> None:
    """Now, and once more after everything: then with an order date, and with nothing behind it."""
    player.run(step, LAG)
    day, placed = player.first_day.date(), player.first_order_date
    again = Work(Kind.DAYS_BY_HAND, days=(day, day))
    player.run(step, again)
    player.after_everything = [again, Work(Kind.ORDER_DATE_BY_HAND, days=(placed, placed))]


def _catalog(fault: CatalogFault) -> Callable[[Player, Step], None]:
    def act(player: Player, step: Step) -> None:
        kind = Kind.SYNC if step.chance % 3 == 0 else Kind.LAG_SENSOR
        player.run(step, Work(kind, catalog=fault, commit=1 + step.chance % COMMITS))

    return act


def _way_to(step: Step) -> Work:
    """The cheapest work that passes the step's point."""
    return Work() if step.point is not None and step.point.startswith(BEYOND_SILVER) else LAG


def _chosen(step: Step, *works: Work) -> Work:
    return works[step.chance % len(works)]


ACTIONS: Mapping[Fault, Action] = {
    Fault.NONE: written_first(_undisturbed),
    Fault.KILLED_AT_POINT: written_first(_killed_at_point),
    Fault.KILLED_AT_RANDOM: written_first(_killed_at_random),
    Fault.TWO_AT_ONCE: written_first(_two_at_once),
    Fault.FROZEN_AT_POINT: written_first(_frozen_at_point),
    Fault.FROZEN_AND_OVERTAKEN: written_first(_frozen_and_overtaken),
    Fault.RANGE_BACKFILL_WHILE_LIVE: written_first(_range_backfill_while_live),
    Fault.TWO_PUBLICATIONS_AT_ONCE: written_first(_two_publications_at_once),
    Fault.PAST_DAY_AGAIN: written_first(_past_day_again),
    Fault.COMMIT_ANSWER_LOST: written_first(_catalog(CatalogFault.ANSWER_LOST)),
    Fault.COMMIT_ANSWERED_409: written_first(_catalog(CatalogFault.ANSWERED_409)),
    Fault.CATALOG_ERROR_BEFORE: written_first(_catalog(CatalogFault.ERROR_BEFORE)),
    Fault.CATALOG_UNREACHABLE_AFTER: written_first(_catalog(CatalogFault.UNREACHABLE_AFTER)),
    Fault.BRONZE_ROLLED_BACK: written_first(table_faults.bronze_rolled_back),
    Fault.SNAPSHOTS_EXPIRED: written_first(table_faults.snapshots_expired),
    Fault.FOREIGN_COMPACTION: written_first(table_faults.foreign_compaction),
    Fault.COMPACTED_EXPIRED_ROLLED_BACK: written_first(table_faults.compacted_expired_rolled_back),
    Fault.DASHBOARD_LOST: written_first(table_faults.dashboard_lost),
    Fault.STAGED_FILE_DELETED: written_first(storage_faults.staged_file(storage_faults.delete)),
    Fault.STAGED_FILE_TRUNCATED: written_first(storage_faults.staged_file(storage_faults.truncate)),
    Fault.STAGED_FILE_CORRUPTED: written_first(storage_faults.staged_file(storage_faults.flip_a_byte)),
    Fault.DISK_FULL: written_first(storage_faults.disk_full),
    Fault.STORE_503: written_first(storage_faults.store(StoreFault.ANSWER_503)),
    Fault.STORE_SLOW: written_first(storage_faults.store(StoreFault.LATE_ANSWER, storage_faults.LATE_SECONDS)),
    Fault.UPLOAD_CUT: written_first(storage_faults.store(StoreFault.UPLOAD_CUT)),
    Fault.DELIVERED_TWICE: kafka_faults.delivered_twice,
    Fault.ABORTED_TRANSACTION: kafka_faults.aborted_transaction,
    Fault.TRANSACTION_OVER_MIDNIGHT: kafka_faults.transaction_over_midnight,
    Fault.PARTITIONS_INCREASED: kafka_faults.partitions_increased,
    Fault.TOPIC_RECREATED: kafka_faults.topic_recreated,
    Fault.RECORDS_DELETED: kafka_faults.records_deleted,
    Fault.RECORDS_EXPIRED: kafka_faults.records_expired,
    Fault.MIDNIGHT_IN_A_RUN: kafka_faults.midnight_in_a_run,
}
