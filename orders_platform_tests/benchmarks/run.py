"""All measurements in their order, on one PostgreSQL, broker and ClickHouse that the caller has started."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from orders_platform.contracts import Contract, load_contracts
from orders_platform.ingest.topics import create_topics
from orders_platform.settings import Settings
from orders_platform_tests.benchmarks import floors, hops
from orders_platform_tests.benchmarks.events import BYTES_OF_WAL_PER_CHANGE, Changes, produce
from orders_platform_tests.benchmarks.measure import Measurement, Sample, in_own_process
from orders_platform_tests.benchmarks.sizes import Sizes

Report = Callable[[str], None]


class Benchmark:
    """A shop's orders through every hop. `report` hears what is being done."""

    def __init__(self, settings: Settings, sizes: Sizes, report: Report) -> None:
        self.settings, self.sizes, self.report = settings, sizes, report
        self.contracts: dict[str, Contract] = {contract.table: contract for contract in load_contracts()}
        self.orders = self.contracts["orders"]
        self.since = datetime.now(UTC).date()
        self.position = 1
        self.scratch = settings.home / "floor.parquet"

    def run(self) -> list[Measurement]:
        """Takes some minutes at full size. Measurements come in the order in which a change travels."""
        create_topics(self.settings, self.contracts.values())
        return [
            self.bronze(),
            self.silver_from_nothing(),
            self.silver_upserts(),
            self.silver_small_batches("recent orders", recent=True),
            self.silver_small_batches("any orders", recent=False),
            self.reconciliation(),
            self.gold(),
            self.clickhouse(),
            self.commits(),
        ]

    def bronze(self) -> Measurement:
        keys, updates = self.sizes.keys, self.sizes.first_updates
        self._produce(self.orders, keys)
        self._produce(self.orders, updates, keys=f"1 + hash(i) % {keys}", op="u", revision=1)
        self.report("topic to bronze")
        sample = self._bronze(self.orders)
        floor = in_own_process(floors.bronze_floor, self.settings, self.orders, self.scratch)
        return _measurement(
            "topic to bronze", keys + updates, "events", sample, floor, "100,000 a second, peak below 2,000 MB"
        )

    def silver_from_nothing(self) -> Measurement:
        self.report("bronze to an empty silver")
        floor = in_own_process(floors.silver_floor, self.settings, self.orders, None, self.scratch)
        sample = in_own_process(hops.to_silver, self.settings, self.orders)
        amount = self.sizes.keys + self.sizes.first_updates
        return _measurement("bronze to silver, first", amount, "events", sample, floor, "peak below 2,000 MB")

    def silver_upserts(self) -> Measurement:
        changed_since = self.position * BYTES_OF_WAL_PER_CHANGE
        updates = self.sizes.updates
        self._produce(self.orders, updates, keys=f"1 + hash(i + 1) % {self.sizes.keys}", op="u", revision=2)
        self._bronze(self.orders)
        self.report("upserts into silver")
        floor = in_own_process(floors.silver_floor, self.settings, self.orders, changed_since, self.scratch)
        sample = in_own_process(hops.to_silver, self.settings, self.orders)
        name = f"upserts into {self.sizes.keys:,} keys"
        return _measurement(name, updates, "events", sample, floor, "50,000 a second")

    def silver_small_batches(self, which: str, *, recent: bool) -> Measurement:
        """Small merges: `recent` changes fall on the newest twentieth of the orders, the others on any."""
        self.report(f"small merges, {which}")
        rows, total = self.sizes.small_batch_rows, self.sizes.keys
        samples, loads = [], []
        for number in range(self.sizes.small_batches):
            span = total // 20 if recent else total
            keys = f"{total} - hash(i + {number * rows}) % {span}"
            self._produce(self.orders, rows, keys=keys, op="u", revision=3 + number)
            loads.append(self._bronze(self.orders))
            samples.append(in_own_process(hops.to_silver, self.settings, self.orders))
        changed = sum(sample.figures["rows_changed"] for sample in samples)
        rewritten = sum(sample.figures["bytes_rewritten"] for sample in samples)
        return Measurement(
            f"{rows:,} changes of {which}",
            rows * len(samples),
            "events",
            sum(sample.seconds for sample in samples),
            peak_memory_bytes=max(sample.peak_memory_bytes for sample in samples),
            figures={
                "bytes_rewritten_per_changed_row": rewritten / changed,
                "bronze_seconds_per_batch": sum(load.seconds for load in loads) / len(loads),
                "silver_seconds_per_batch": sum(sample.seconds for sample in samples) / len(samples),
                "files_rewritten_per_merge": sum(s.figures["files_rewritten"] for s in samples) / len(samples),
            },
        )

    def reconciliation(self) -> Measurement:
        """PostgreSQL gets the rows that silver has; then one cell of one row is another."""
        self.report("silver beside PostgreSQL")
        in_own_process(hops.fill_shop, self.settings, self.orders)
        floor = in_own_process(floors.reconciliation_floor, self.settings, self.orders)
        sample = in_own_process(hops.reconcile, self.settings, self.orders, 0)
        wrong = in_own_process(hops.reconcile, self.settings, self.orders, 1)
        return Measurement(
            "silver beside PostgreSQL",
            self.sizes.keys,
            "rows",
            sample.seconds,
            floor.seconds,
            sample.peak_memory_bytes,
            {**sample.figures, "seconds_to_name_one_wrong_cell": wrong.seconds},
            "1,000,000 rows in 30 seconds",
        )

    def gold(self) -> Measurement:
        customers, lines = self.contracts["customers"], self.contracts["line_items"]
        self._produce(customers, self.sizes.customers)
        self._produce(lines, self.sizes.line_items)
        for contract in (customers, lines):
            self._bronze(contract)
            in_own_process(hops.to_silver, self.settings, contract)
        in_own_process(hops.audit_silver, self.settings, (customers, lines, self.orders))
        self.report("one order date of gold")
        order_date = self.sizes.shape.order_date(1)
        sample = in_own_process(hops.to_gold, self.settings, order_date)
        floor = in_own_process(floors.gold_floor, self.settings, order_date, self.scratch)
        return _measurement("one order date of gold", self.sizes.shape.orders_per_day, "orders", sample, floor, "")

    def clickhouse(self) -> Measurement:
        self.report("one order date into ClickHouse")
        order_date = self.sizes.shape.order_date(1)
        sample = in_own_process(hops.to_clickhouse, self.settings, order_date)
        floor = in_own_process(floors.clickhouse_floor, self.settings, order_date, self.scratch)
        return _measurement("ClickHouse swap", int(sample.figures["rows"]), "rows", sample, floor, "")

    def commits(self) -> Measurement:
        """Small commits one after the other into a table of their own."""
        self.report(f"{self.sizes.commits:,} commits of {self.sizes.commit_rows} rows")
        settings = Settings(home=self.settings.home / "commits", topic_prefix="commits", ports=self.settings.ports)
        create_topics(settings, [self.orders])
        sample = in_own_process(
            hops.many_commits, settings, self.orders, self.sizes.commits, self.sizes.commit_rows, self.sizes.shape
        )
        growth = sample.figures["late_seconds"] / sample.figures["early_seconds"]
        return Measurement(
            "small commits to bronze",
            self.sizes.commits,
            "commits",
            sample.seconds,
            peak_memory_bytes=sample.peak_memory_bytes,
            figures={**sample.figures, "late_to_early": growth},
            goal="the last costs what the 10th costs",
        )

    def _produce(self, contract: Contract, count: int, **what: str | int) -> None:
        self.report(f"{count:,} changes of {contract.table} to Kafka")
        changes = Changes(contract, count, self.position, **what)  # type: ignore[arg-type]
        produce(self.settings, changes, self.sizes.shape)
        self.position = changes.next_position

    def _bronze(self, contract: Contract) -> Sample:
        return in_own_process(hops.to_bronze, self.settings, contract, self.since)


def _measurement(name: str, amount: int, unit: str, sample: Sample, floor: Sample, goal: str) -> Measurement:
    return Measurement(
        name, amount, unit, sample.seconds, floor.seconds, sample.peak_memory_bytes, sample.figures, goal
    )
