"""Parts that do not come up, and parts that are up and do not answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orders_platform.settings import Settings
from orders_platform.stack import supervise
from orders_platform.stack.clickhouse import clickhouse
from orders_platform.stack.errors import StackError
from orders_platform.stack.part import Part, Report, UnhealthyError
from orders_platform.stack.processes import Command
from orders_platform.stack.supervise import ensure, ensure_all, running, take_down


def _part(settings: Settings, program: str, **changes: object) -> Part:
    """The front's part with another program in its place."""
    part = replace(clickhouse(settings), **changes)  # type: ignore[arg-type]

    def prepare(_: Report) -> Command:
        part.folder.mkdir(parents=True, exist_ok=True)
        return Command((sys.executable, "-c", program, part.mark), part.mark, part.log_file, part.pid_file)

    return replace(part, prepare=prepare)


def test_a_part_that_dies_at_once_is_an_error_with_the_end_of_its_log(settings: Settings) -> None:
    part = _part(settings, "raise SystemExit('no such data')")
    with pytest.raises(StackError, match=r"ended right after its start(.|\n)*clickhouse\.log:\nno such data"):
        ensure(part, print)


def test_a_part_that_never_answers_is_an_error_after_its_time(settings: Settings) -> None:
    part = _part(settings, "import time; time.sleep(60)", start_seconds=0.5)
    with pytest.raises(StackError, match=r"does not answer after 0\.5 s \(it does not listen\)"):
        ensure(part, print)
    take_down(part, print)


def test_all_problems_are_told_at_once(settings: Settings) -> None:
    first = _part(settings, "raise SystemExit('first problem')")
    files = {"log_file": first.log_file.with_name("2.log"), "pid_file": first.pid_file.with_name("2.pid")}
    second = _part(settings, "raise SystemExit(2)", title="Other", ports={}, mark=first.mark + "2", **files)
    with pytest.raises(StackError, match=r"ClickHouse(.|\n)*\nOther"):
        ensure_all([first, second], print)


def test_a_part_that_runs_and_does_not_answer_is_started_anew(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "HEAL_SECONDS", 0.3)
    stuck = _part(settings, "import time; time.sleep(60)")
    said: list[str] = []
    with pytest.raises(StackError):
        ensure(replace(stuck, start_seconds=0.2), print)
    before = stuck.process()
    assert before is not None
    with running(clickhouse(settings), said.append) as part:
        now = part.process()
        assert now is not None
        assert now.pid != before.pid
    assert "does not answer: it is started anew" in said[0]


def test_a_part_that_is_well_is_left_alone(clickhouse: Settings) -> None:
    from orders_platform.stack.clickhouse import clickhouse as make

    before = make(clickhouse).process()
    said: list[str] = []
    ensure(make(clickhouse), said.append)
    assert make(clickhouse).process() == before
    assert said == []


def test_someone_else_on_the_port_is_not_taken_for_the_part(clickhouse: Settings, tmp_path: Path) -> None:
    from orders_platform.stack.clickhouse import clickhouse as make

    other = make(clickhouse.model_copy(update={"home": tmp_path / "other"}))
    with pytest.raises(StackError, match=r"port \d+ of ClickHouse .* is used by pid \d+ .*clickhouse_front"):
        ensure(other, print)
    with pytest.raises(UnhealthyError, match="another ClickHouse answers"):
        other.answer()


def test_a_log_that_has_grown_large_makes_room(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LOG_LIMIT_BYTES", 10)
    part = _part(settings, "raise SystemExit(1)")
    part.log_file.parent.mkdir(parents=True)
    part.log_file.write_text("much from earlier days\n", encoding="utf-8")
    with pytest.raises(StackError, match="its log is empty"):
        ensure(part, print)
    assert part.log_file.with_suffix(".log.1").read_text(encoding="utf-8") == "much from earlier days\n"
