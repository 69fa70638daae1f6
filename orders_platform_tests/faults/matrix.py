"""`make faults SEEDS=1000`: plays that many histories, a few at a time, and says what became of each.

A history that fails keeps its folder (tables, staged files, logs) and prints the command that plays it again.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform.stack import down, up, wait_until_captured
from orders_platform.stack.shop import run_shop
from orders_platform_tests.conftest import new_settings
from orders_platform_tests.faults.history import history
from orders_platform_tests.faults.player import Outcome, play
from orders_platform_tests.faults.recording import Recording, record

RECORDED_SEED = 7
CHANGES = 400
HISTORY_DAYS = 3


def take_recording(settings: Settings, seed: int) -> Recording:
    """Lets a shop of that seed run on the live stack until it has made its changes, and records what came of them."""
    run_shop(settings.postgres, rate=400, minutes=2, seed=seed, history_days=HISTORY_DAYS, max_changes=CHANGES)
    wait_until_captured(settings)
    return record(settings, load_contracts())


def matrix(
    seeds: Iterable[int], recording: Recording, shared: Settings, evidence: Path, jobs: int = 1
) -> Iterator[Outcome]:
    """Plays the histories of the seeds, `jobs` at a time; the folders of those that fail stay in `evidence`."""

    def one(seed: int) -> Outcome:
        folder = evidence / f"seed {seed}"
        folder.mkdir(parents=True)
        outcome = play(history(seed), recording, shared, load_contracts(), folder)
        if not outcome.differences:
            shutil.rmtree(folder)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        yield from (done.result() for done in as_completed(pool.submit(one, seed) for seed in seeds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exits 0 when every history ended in the right tables, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=25, help="how many histories (default 25)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (default 2)")
    chosen = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="orders platform faults "))
    settings = new_settings(home / "stack")
    started, kinds, failed = time.monotonic(), Counter[str](), list[int]()
    try:
        up(settings, print)
        recording = take_recording(settings, seed=RECORDED_SEED)
        seeds = range(chosen.first, chosen.first + chosen.seeds)
        for outcome in matrix(seeds, recording, settings, home / "evidence", chosen.jobs):
            kinds.update(step.fault for step in outcome.history.steps)
            print(f"{'FAILED' if outcome.differences else 'ok'} {outcome.seconds} s {outcome.history}", flush=True)
            if outcome.differences:
                failed.append(outcome.history.seed)
                print("  " + "\n  ".join(outcome.differences))
                print(f"  evidence: {outcome.log.parent}")
                print(f"  again: make faults SEEDS=1 FIRST={outcome.history.seed}", flush=True)
    finally:
        down(settings, print)
    print(f"\n{chosen.seeds} histories, {len(failed)} failed {failed}, {time.monotonic() - started:.0f} s")
    for kind, count in sorted(kinds.items()):
        print(f"  {count:5} {kind}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
