"""`python -m orders_platform_tests.benchmarks [--quick]`: starts its own PostgreSQL, Kafka and ClickHouse,
measures, and stops them.

Imports stand inside: the processes that run the hops import this module too, and are measured.
"""

from __future__ import annotations

import argparse
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path

from orders_platform.settings import Ports, Settings, load
from orders_platform_tests.isolation import forget_the_callers_settings


def main() -> None:
    from rich.console import Console

    from orders_platform.stack.clickhouse import clickhouse
    from orders_platform.stack.kafka import kafka
    from orders_platform.stack.postgres import postgres
    from orders_platform.stack.supervise import running
    from orders_platform_tests.benchmarks.report import print_table, write_json
    from orders_platform_tests.benchmarks.run import Benchmark
    from orders_platform_tests.benchmarks.sizes import FULL, QUICK

    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it works, not how quick it is")
    quick = parser.parse_args().quick
    sizes = QUICK if quick else FULL
    results = load().home / "benchmarks"
    forget_the_callers_settings()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="orders-platform-bench-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user where this one is root
        settings = Settings(home=Path(folder), ports=_free_ports())
        for part in (postgres(settings), kafka(settings), clickhouse(settings)):
            stack.enter_context(running(part, console.log))
        measurements = Benchmark(settings, sizes, console.log).run()
    print_table(measurements, console)
    console.print(f"Written to {write_json(measurements, sizes, results)}", soft_wrap=True)


def _free_ports() -> Ports:
    """Ports that nothing listens on now, so that the benchmark runs beside a live stack."""
    names = list(Ports.model_fields)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in names]
        return Ports(**{name: bound.getsockname()[1] for name, bound in zip(names, sockets, strict=True)})


if __name__ == "__main__":
    main()
