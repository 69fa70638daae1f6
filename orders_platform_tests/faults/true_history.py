"""Every change of a live history as PostgreSQL's own triggers saw it: what the versions are compared with.

The topics cannot say what was never captured. Triggers see each change, those of a time without a replication slot
included; a transaction that is rolled back takes its lines with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from orders_platform.contracts import Contract
from orders_platform.settings import Settings
from orders_platform_tests.faults.differing import named
from orders_platform_tests.faults.oracle_ingest import masked

_DDL = """
CREATE SCHEMA watched;
CREATE TABLE watched.changes (id bigserial PRIMARY KEY, of_table text, op text, image jsonb);
CREATE FUNCTION watched.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'UPDATE' AND to_jsonb(OLD) -> TG_ARGV[0] <> to_jsonb(NEW) -> TG_ARGV[0] THEN
        INSERT INTO watched.changes (of_table, op, image) VALUES (TG_TABLE_NAME, 'd', to_jsonb(OLD));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO watched.changes (of_table, op, image) VALUES (TG_TABLE_NAME, 'u', to_jsonb(NEW));
    END IF;
    RETURN NULL;
END $$;
"""


@dataclass(frozen=True)
class Seen:
    """A change: its number in PostgreSQL, and the row as it was left, or as it was before it was deleted."""

    number: int
    deleted: bool
    row: Mapping[str, Any]


@dataclass
class TrueHistory:
    """The changes of the tables with versions; `blind` are the numbers between which nobody captured anything."""

    settings: Settings
    contracts: Sequence[Contract]
    blind: list[tuple[int, int]] = field(default_factory=list)

    def watch(self) -> None:
        """From now on each change is noted."""
        with psycopg.connect(self.settings.postgres, autocommit=True) as connection:
            connection.execute(_DDL)
            for contract in self.contracts:
                connection.execute(
                    f"CREATE TRIGGER watched AFTER INSERT OR UPDATE OR DELETE ON {contract.schema}.{contract.table} "  # type: ignore[arg-type]
                    f"FOR EACH ROW EXECUTE FUNCTION watched.note('{contract.key[0]}')"
                )

    @contextmanager
    def blindfold(self) -> Iterator[None]:
        """Changes in here may be among the versions or not."""
        first = self._last()
        yield
        self.blind.append((first, self._last()))

    def _last(self) -> int:
        with psycopg.connect(self.settings.postgres) as connection:
            return int(connection.execute("SELECT coalesce(max(id), 0) FROM watched.changes").fetchall()[0][0])

    def seen(self, contract: Contract) -> list[Seen]:
        """The changes of a table, in order."""
        kind = f"{contract.schema}.{contract.table}"
        with psycopg.connect(self.settings.postgres, row_factory=dict_row) as connection:
            rows = connection.execute(
                f'SELECT c.id AS "#", c.op, r.* FROM watched.changes c, jsonb_populate_record(NULL::{kind}, c.image) r '  # type: ignore[arg-type]
                "WHERE c.of_table = %s ORDER BY c.id",
                [contract.table],
            ).fetchall()
        return [Seen(row.pop("#"), row.pop("op") == "d", masked(self.settings, contract, row)) for row in rows]

    def compare(self, contract: Contract, versions: Iterable[Mapping[str, Any]]) -> tuple[list[str], str]:
        """Changes without a version; and a line that says how many there were, and how many nobody captured."""
        seen = self.seen(contract)
        missing = without_version(contract, seen, versions)
        unseen = [each for each in missing if any(first < each.number <= last for first, last in self.blind)]
        wrong = [f"{each.number}: {dict(each.row)}" for each in missing if each not in unseen]
        said = f"{contract.table}: {len(seen)} changes in PostgreSQL, {len(unseen)} of them captured by nobody"
        return named(str(contract.versions_table), "changes of PostgreSQL have no version", wrong), said


def without_version(contract: Contract, seen: Iterable[Seen], versions: Iterable[Mapping[str, Any]]) -> list[Seen]:
    """The changes that no version of their key tells of, by all its values that travelled."""
    of_key: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for version in versions:
        of_key.setdefault(tuple(version[name] for name in contract.key), []).append(version)

    def tells(version: Mapping[str, Any], change: Seen) -> bool:
        if change.deleted or version["_deleted"]:
            return change.deleted == version["_deleted"]
        left_out = version["_unavailable"] or ()
        return all(version[name] == value for name, value in change.row.items() if name not in left_out)

    return [
        change
        for change in seen
        if not any(tells(version, change) for version in of_key.get(tuple(change.row[k] for k in contract.key), ()))
    ]
