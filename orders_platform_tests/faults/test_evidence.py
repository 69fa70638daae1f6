"""A history that fails leaves what is needed to understand it, and ends no other."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from orders_platform.contracts import load_contracts
from orders_platform.settings import Settings
from orders_platform_tests.faults import matrix as matrix_module
from orders_platform_tests.faults import player as player_module
from orders_platform_tests.faults.history import Fault, History, Step
from orders_platform_tests.faults.matrix import _as_they_end, main, matrix
from orders_platform_tests.faults.player import Outcome, Player, play
from orders_platform_tests.faults.recording import Recording

pytestmark = pytest.mark.timeout(300)


def test_wrong_tables_leave_topics_tables_logs_and_the_dashboard(
    recording: Recording, live_stack: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(player_module, "differences", lambda *_, **__: ["silver.orders: a value differs"])
    outcome = play(History(1, (), (Step(Fault.NONE),)), recording, live_stack, load_contracts(), tmp_path)
    assert outcome.differences == ["silver.orders: a value differs"]
    lines = (tmp_path / "topics.jsonl").read_text().splitlines()
    assert len(lines) == len(recording.records)
    assert (tmp_path / "daily_revenue.tsv").read_text().startswith("order_date\t")
    assert outcome.log.stat().st_size > 0
    assert list((tmp_path / "home" / "warehouse").rglob("*.parquet"))


def test_what_nobody_expected_is_a_failure_of_that_history_alone(
    recording: Recording, live_stack: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Player) -> None:
        raise RuntimeError("the broker is on fire")

    monkeypatch.setattr(Player, "prepare", fails)
    outcomes = list(matrix([1, 2], recording, live_stack, tmp_path))
    assert [outcome.history.seed for outcome in outcomes] == [1, 2]
    assert all("the broker is on fire" in outcome.differences[0] for outcome in outcomes)


def test_a_failure_prints_the_command_that_plays_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    failed = Outcome(History(17, (), (Step(Fault.NONE),)), ["gold: wrong"], 1.0, tmp_path / "log", ["none: 1"])
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(matrix_module, "_outcomes", lambda *_: iter([failed]))
    assert main(["--seeds", "1", "--first", "17", "--live", "0"]) == 1
    said = capsys.readouterr().out
    assert "FAILED 1.0 s seed 17: none | ended with 1" in said
    assert 'again: make faults SEEDS=1 FIRST=17 ARGS="--live=0 --recording=' in said


def test_a_recording_that_was_kept_is_the_same(recording: Recording, tmp_path: Path) -> None:
    recording.save(tmp_path / "kept")
    assert Recording.load(tmp_path / "kept") == recording


def test_who_stops_the_matrix_ends_what_has_begun_and_begins_nothing_more() -> None:
    begun, cleaned = list[int](), list[str]()

    def histories(name: str) -> Generator[int]:
        try:
            for number in range(1000):
                begun.append(number)
                yield number
                time.sleep(0.01)
        finally:
            cleaned.append(name)

    def failing() -> Generator[int]:
        yield -1
        raise RuntimeError("no stack")

    outcomes = _as_they_end(histories("recorded"), histories("live"))
    assert next(outcomes) == 0
    outcomes.close()
    assert sorted(cleaned) == ["live", "recorded"]
    with pytest.raises(RuntimeError, match="no stack"):
        list(_as_they_end(histories("beside it"), failing()))
    assert cleaned[2:] == ["beside it"]
    assert len(begun) < 1000
