"""`make faults SEEDS=1000`: plays that many histories, a few at a time, and says what became of each.

A history that fails keeps its folder (tables, staged files, logs) and prints the command that plays it again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import closing, nullcontext
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

import psycopg

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack import down, up, wait_until_captured
from orders_platform.stack.connector import request_snapshot
from orders_platform.stack.shop import run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.history import history
from orders_platform_tests.faults.live_history import live_history
from orders_platform_tests.faults.live_player import LiveOutcome, play_live
from orders_platform_tests.faults.player import Outcome, noted, play
from orders_platform_tests.faults.recording import Recording, record
from orders_platform_tests.faults.remote_store import server

RECORDED_SEED = 7
CHANGES = 400
HISTORY_DAYS = 3
SNAPSHOT_SECONDS = 60.0
RECORDING = "recording.pickle"
T = TypeVar("T")
OfHistory = TypeVar("OfHistory", Outcome, LiveOutcome)


def take_recording(settings: Settings, seed: int) -> Recording:
    """Lets a shop of that seed run on the live stack until it has made its changes, and records what came of them."""
    run_shop(settings.postgres, rate=400, minutes=2, seed=seed, history_days=HISTORY_DAYS, max_changes=CHANGES)
    _snapshot_while_rows_change(settings)
    return record(settings, load_contracts())


def _snapshot_while_rows_change(settings: Settings) -> None:
    """All tables are read anew while a transaction has changed rows, and will say so later than the reads do."""
    contracts = load_contracts()
    wait_until_captured(settings)
    with psycopg.connect(settings.postgres) as in_flight, psycopg.connect(settings.postgres, autocommit=True) as other:
        in_flight.execute("UPDATE customers SET full_name = full_name || '?' WHERE customer_id % 5 = 0")
        in_flight.execute("DELETE FROM inventory WHERE product_id = (SELECT max(product_id) FROM inventory)")
        closed = "SELECT count(*) FROM debezium_signal WHERE type = 'snapshot-window-close'"
        wanted = other.execute(closed).fetchall()[0][0] + len(contracts)
        request_snapshot(settings.postgres, [f"{contract.schema}.{contract.table}" for contract in contracts])
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        while other.execute(closed).fetchall()[0][0] < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"an incremental snapshot was not done within {SNAPSHOT_SECONDS:g} s")
            time.sleep(0.1)
    wait_until_captured(settings)


def matrix(
    seeds: Sequence[int], recording: Recording, shared: Settings, evidence: Path, jobs: int = 1
) -> Iterator[Outcome]:
    """Plays the histories of the seeds, `jobs` at a time; the folders of those that fail stay in `evidence`."""

    def one(seed: int) -> Outcome:
        folder = evidence / f"seed {seed}"
        folder.mkdir(parents=True)
        played = history(seed)
        found: list[str] = []
        outcome = Outcome(played, found, 0.0, folder / "passes.log")
        with noted(found):
            outcome = play(played, recording, shared, load_contracts(), folder, variables if played.on_s3 else None)
        return _kept_if_wrong(outcome, folder)

    pool = ThreadPoolExecutor(jobs)
    with server() if any(history(seed).on_s3 for seed in seeds) else nullcontext() as variables:
        try:
            yield from (done.result() for done in as_completed([pool.submit(one, seed) for seed in seeds]))
        finally:
            pool.shutdown(cancel_futures=True)


def live_matrix(seeds: Iterable[int], evidence: Path) -> Generator[LiveOutcome]:
    """Plays live histories, one at a time: each has a stack of its own."""
    for seed in seeds:
        folder = evidence / f"live seed {seed}"
        folder.mkdir(parents=True)
        found: list[str] = []
        outcome = LiveOutcome(live_history(seed), found, 0.0, folder / "passes.log")
        with noted(found):
            outcome = play_live(live_history(seed), new_settings(folder / "home"), load_contracts(), folder)
        yield _kept_if_wrong(outcome, folder)


def _kept_if_wrong(outcome: OfHistory, folder: Path) -> OfHistory:
    if not outcome.differences:
        shutil.rmtree(folder, ignore_errors=True)  # what a killed run has left behind may still write there
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Exits 0 when every history ended in the right tables, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=25, help="how many histories (default 25)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--live", type=int, help="how many of them on live stacks (default: one in ten)")
    parser.add_argument(
        "--recording", type=Path, help="one that an earlier call has kept (default: a new one is taken)"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="how many recorded ones at a time, beside a live one (default 2)"
    )
    chosen = parser.parse_args(arguments)
    live = chosen.seeds // 10 if chosen.live is None else chosen.live
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    home = Path(tempfile.mkdtemp(prefix="orders platform faults "))
    home.chmod(0o755)
    started, kinds, ends, failed = time.monotonic(), Counter[str](), Counter[tuple[str, str]](), list[str]()
    for outcome in _outcomes(home, seeds, live, chosen.jobs, chosen.recording):
        kinds.update(outcome.history.kinds)
        ended = [_end(each) for each in outcome.ends]
        ends.update(ended)
        word, codes = "FAILED" if outcome.differences else "ok", " ".join(code for _, code in ended)
        print(f"{word} {outcome.seconds} s {outcome.history} | ended with {codes}", flush=True)
        for note in outcome.notes:
            print(f"  {note}", flush=True)
        if outcome.differences:
            seed, of_live = outcome.history.seed, isinstance(outcome, LiveOutcome)
            failed.append(f"{'live ' if of_live else ''}{seed}")
            print("  " + "\n  ".join([*outcome.ends, *outcome.differences]))
            print(f"  evidence: {outcome.log.parent}")
            of_what = "--live=1" if of_live else f"--live=0 --recording='{home / RECORDING}'"
            print(f'  again: make faults SEEDS=1 FIRST={seed} ARGS="{of_what}"', flush=True)
    print(f"\n{chosen.seeds} histories, {len(failed)} failed {failed}, {time.monotonic() - started:.0f} s")
    for kind, count in sorted(kinds.items()):
        codes = ", ".join(f"{code}: {n}" for (of, code), n in sorted(ends.items()) if of == kind)
        print(f"  {count:5} {kind}; its runs ended with {codes}")
    if not failed:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if failed else 0


def _end(said: str) -> tuple[str, str]:
    """The fault, and the exit code of the run that it happened to: -9 is a death, 1 a run that failed."""
    return said.split(" ")[0].split(":")[0].rstrip(","), said.rpartition(": ")[2].split(" ")[0]


def _outcomes(
    home: Path, seeds: range, live: int, jobs: int, recording: Path | None = None
) -> Iterator[Outcome | LiveOutcome]:
    """The last `live` of the seeds on live stacks, beside the others on a recording and a stack that they share."""
    recorded = len(seeds) - live
    evidence = home / "evidence"
    return _as_they_end(
        _on_a_recording(seeds[:recorded], home, recording, jobs),
        live_matrix(seeds[recorded:], evidence),
    )


def _on_a_recording(seeds: Sequence[int], home: Path, kept: Path | None, jobs: int) -> Generator[Outcome]:
    if not seeds:
        return
    settings = new_settings(home / "stack")
    try:
        up(settings, print)
        recording = Recording.load(kept) if kept else take_recording(settings, RECORDED_SEED)
        recording.save(home / RECORDING)
        down(settings, print, keep=("kafka", "clickhouse"))  # nobody changes a row any more
        yield from matrix(seeds, recording, settings, home / "evidence", jobs)
    finally:
        down(settings, print)


def _as_they_end(*sources: Generator[T]) -> Generator[T]:
    """What the sources bring, each in a thread of its own. Raises what one of them raises.

    Who stops listening, or is stopped, closes them: each ends what it has begun, begins nothing more and cleans up.
    """
    brought: SimpleQueue[T | Future[None]] = SimpleQueue()
    stopped = threading.Event()

    def bring(source: Generator[T]) -> None:
        with closing(source):
            for each in source:
                brought.put(each)
                if stopped.is_set():
                    return

    with ThreadPoolExecutor(len(sources)) as pool:
        try:
            for source in sources:
                pool.submit(bring, source).add_done_callback(brought.put)
            left = len(sources)
            while left:
                each = brought.get()
                if isinstance(each, Future):
                    each.result()
                    left -= 1
                else:
                    yield each
        finally:
            stopped.set()
