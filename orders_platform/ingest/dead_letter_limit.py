"""How many dead letters a table bears: a few are a warning, many stop it before anything is built on the rest.

A day has too many when they are more than the contract's count and more than its share of the day's rows. Discarded
ones do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from pyiceberg.catalog import Catalog
from pyiceberg.expressions.parser import parse
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from orders_platform.contracts import Contract
from orders_platform.ingest.dead_letters import Selection, dead_letter_files
from orders_platform.ingest.errors import TooManyDeadLettersError
from orders_platform.lake.duckdb_engine import connect, scan_files_sql
from orders_platform.lake.outcome import CheckOutcome
from orders_platform.settings import Settings


@dataclass(frozen=True)
class DayOfRecords:
    """A day of bronze: `rows` of any kind, and the dead letters among them that nobody has discarded."""

    day: date
    rows: int
    dead: int

    @property
    def share(self) -> float:
        return self.dead / self.rows if self.rows else 0.0

    def too_many(self, contract: Contract) -> bool:
        """Whether nothing must be built on this day."""
        return self.dead > contract.dead_letter_count and self.share > contract.dead_letter_share

    def describe(self, contract: Contract) -> str:
        return (
            f"{self.dead} dead letters among {self.rows} records of {self.day} ({self.share:.2%}; it stops above "
            f"{contract.dead_letter_count} and {contract.dead_letter_share:.2%})"
        )


def check_dead_letters(settings: Settings, catalog: Catalog, contract: Contract, day: date) -> CheckOutcome:
    """Whether a day has no dead letters (a few only warn)."""
    (found,) = _count(settings, catalog.load_table(contract.bronze_table), [day])
    figures: dict[str, int | float | str] = {
        "dead_letters": found.dead, "dead_letter_share": found.share, "rows": found.rows
    }  # fmt: skip
    if not found.dead:
        return CheckOutcome(True, f"{contract.bronze_table}: no dead letters on {day}", figures)
    many = found.too_many(contract)
    consequence = "silver takes nothing of the table until they are" if many else "the rest goes on; they can be"
    return CheckOutcome(
        passed=False,
        description=f"{contract.bronze_table}: {found.describe(contract)}; {consequence} {_remedy(contract)}",
        metadata=figures,
        warns_only=not many,
    )


def refuse_too_many(settings: Settings, contract: Contract, bronze: Table, files: Iterable[DataFile]) -> None:
    """Refuses these files of bronze if one of their days has too many dead letters.

    Raises:
        TooManyDeadLettersError: naming the days.
    """
    days = {_day(file.partition[0]) for file in files}
    bad = [found for found in _count(settings, bronze, days) if found.too_many(contract)]
    if bad:
        raise TooManyDeadLettersError(
            f"{contract.bronze_table}: {'; '.join(found.describe(contract) for found in bad)}. Silver keeps what it "
            f"has, and bronze goes on loading; silver follows when they are {_remedy(contract)}"
        )


def _remedy(contract: Contract) -> str:
    table = contract.table
    return (
        f"replayed or discarded: `orders-platform dead-letters list --table {table}` says why they failed; then mend "
        f"the cause and `dead-letters replay {table}`, or `dead-letters discard {table} --reason …`"
    )


def _count(settings: Settings, table: Table, days: Collection[date]) -> list[DayOfRecords]:
    """Counts by day. Manifests say how many rows there are and which files hold dead letters; only those are read."""
    if not days:
        return []
    of_days = parse(f"_ingest_day IN ({', '.join(repr(day.isoformat()) for day in days)})")
    files = [task.file for task in table.scan(of_days).plan_files()]
    rows = dict.fromkeys(sorted(days), 0)
    for file in files:
        rows[_day(file.partition[0])] += file.record_count
    where, _ = Selection(discarded=False).where()
    with connect(settings) as con:
        dead = dict(
            con.execute(
                f"SELECT _ingest_day, count(*) FROM {scan_files_sql(table, dead_letter_files(table, files))} "
                f"WHERE {where} GROUP BY 1"
            ).fetchall()
        )
    return [DayOfRecords(day, count, dead.get(day, 0)) for day, count in rows.items()]


def _day(stored: int | date) -> date:
    """A partition's value as manifests hold it: days since 1970."""
    return stored if isinstance(stored, date) else date(1970, 1, 1) + timedelta(days=stored)
