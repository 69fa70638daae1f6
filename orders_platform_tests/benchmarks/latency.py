"""`make latency`: from a commit in PostgreSQL to the dashboard's table, on a stack that `make dev SHOP=50` runs.

Once a second a customer in a region of his own places an order. The time runs from the answer of its COMMIT until a
query of ClickHouse sees that region. The shop, the daemon and the sensors work as ever meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import quantiles

import clickhouse_connect
import psycopg
from rich.progress import track

from orders_platform.settings import Settings, load
from orders_platform.stack.shop import require_own_postgres

PROBE_SECONDS = 1.0
LOOK_SECONDS = 0.2
LAST_WAIT_SECONDS = 180.0
FIRST_KEY = 10**12
"""Probes are above what a shop ever numbers, and are deleted at the end."""
PERCENTS = (50, 75, 90, 95, 99)


@dataclass
class Probes:
    """Orders on their way: when each was committed, and how long those took that have arrived (seconds)."""

    committed: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def seen(self, regions: Sequence[str], now: float) -> None:
        self.seconds += [now - self.committed.pop(region) for region in regions if region in self.committed]


def measure(settings: Settings, minutes: float) -> Probes:
    """Sends probes for so long, then waits for the last of them; those that never arrive stay in `committed`."""
    probes, name = Probes(), f"probe-{time.time_ns()}"
    client = clickhouse_connect.get_client(dsn=settings.clickhouse)
    with psycopg.connect(settings.postgres, autocommit=True) as connection:
        count = int(minutes * 60 / PROBE_SECONDS)
        for number in track(range(count), "measuring"):
            due = time.monotonic() + PROBE_SECONDS
            _order(connection, FIRST_KEY + time.time_ns() % FIRST_KEY, f"{name}-{number}")
            probes.committed[f"{name}-{number}"] = time.monotonic()
            while time.monotonic() < due:
                _look(client, name, probes)
        end = time.monotonic() + LAST_WAIT_SECONDS
        while probes.committed and time.monotonic() < end:
            _look(client, name, probes)
        _tidy(connection)
    client.close()
    return probes


def _order(connection: psycopg.Connection, key: int, region: str) -> None:
    with connection.transaction():
        connection.execute(
            "INSERT INTO customers VALUES (%s, 'probe@example.com', 'Probe', NULL, NULL, %s, now(), now())",
            (key, region),
        )
        connection.execute("INSERT INTO orders VALUES (%s, %s, 'placed', 'EUR', 1, 0, now(), now())", (key, key))


def _look(client: clickhouse_connect.driver.client.Client, name: str, probes: Probes) -> None:
    rows = client.query(f"SELECT DISTINCT region FROM daily_revenue WHERE startsWith(region, '{name}')").result_rows
    probes.seen([row[0] for row in rows], time.monotonic())
    time.sleep(LOOK_SECONDS)


def _tidy(connection: psycopg.Connection) -> None:
    connection.execute("DELETE FROM orders WHERE order_id >= %s", (FIRST_KEY,))
    connection.execute("DELETE FROM customers WHERE customer_id >= %s", (FIRST_KEY,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the distribution; exits 1 if a probe has not arrived."""
    parser = argparse.ArgumentParser(prog="make latency", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to send probes (default 10)")
    minutes, settings = parser.parse_args(arguments).minutes, load()
    require_own_postgres(settings)
    probes = measure(settings, minutes)
    if len(probes.seconds) > 1:
        cuts = quantiles(probes.seconds, n=100, method="inclusive")
        shown = "  ".join(f"{percent} %: {cuts[percent - 1]:.1f} s" for percent in PERCENTS)
        print(f"{len(probes.seconds)} orders from commit to dashboard  {shown}  longest: {max(probes.seconds):.1f} s")
    if probes.committed:
        print(f"{len(probes.committed)} orders had not arrived {LAST_WAIT_SECONDS:.0f} s after the last one")
    return 1 if probes.committed else 0


if __name__ == "__main__":
    sys.exit(main())
