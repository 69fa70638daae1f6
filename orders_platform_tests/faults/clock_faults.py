"""Midnight while a run is under way: its clock goes on to the next day between two of its calls to Kafka."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from functools import wraps
from typing import Any

MARGIN = timedelta(milliseconds=100)


@dataclass(frozen=True)
class Midnight:
    """After which call the day ends: so many lookups of moments after that description of a topic, from 1 on."""

    day: date
    description: int
    lookups: int

    def __str__(self) -> str:
        return f"midnight after {self.lookups} lookups behind description {self.description}"


def let_it_be_midnight(midnight: Midnight) -> None:
    """The process stops itself after that call, so that somebody can write; when it goes on it is the next day."""
    from orders_platform.defs import sync
    from orders_platform.defs.automation import kafka_lag, stale_dates
    from orders_platform.ingest import backlog
    from orders_platform.ingest.kafka_admin import KafkaAdmin

    end_of_day = datetime.combine(midnight.day + timedelta(days=1), time())
    descriptions = lookups = 0
    is_over = False

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return (end_of_day + (MARGIN if is_over else -MARGIN)).replace(tzinfo=tz)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def counting(*arguments: Any) -> Any:
            nonlocal descriptions, lookups, is_over
            answer = call(*arguments)
            if call.__name__ == "topic":
                descriptions, lookups = descriptions + 1, 0
            else:
                lookups += 1
            if not is_over and (descriptions, lookups) == (midnight.description, midnight.lookups):
                os.kill(os.getpid(), signal.SIGSTOP)
                is_over = True
            return answer

        return counting

    for module in (sync, kafka_lag, stale_dates, backlog):
        module.datetime = Clock  # type: ignore[attr-defined]
    KafkaAdmin.topic = counted(KafkaAdmin.topic)  # type: ignore[method-assign]
    KafkaAdmin.first_at = counted(KafkaAdmin.first_at)  # type: ignore[method-assign]
