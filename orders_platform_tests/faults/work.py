"""What a disturbed process of the platform does: a pass, what the sensors ask for, or what a person starts by hand."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from orders_platform_tests.faults.clock_faults import Midnight, let_it_be_midnight
from orders_platform_tests.faults.protections import Protection, take_out

if TYPE_CHECKING:
    import dagster as dg

    from orders_platform.settings import Settings


class Kind(StrEnum):
    """Who has started it."""

    SYNC = "sync"
    LAG_SENSOR = "lag-sensor"
    DATES_SENSOR = "dates-sensor"
    DAYS_BY_HAND = "days-by-hand"
    ORDER_DATE_BY_HAND = "order-date-by-hand"
    GAPS_ACCEPTED = "gaps-accepted"


class CatalogFault(StrEnum):
    """What goes wrong with commits at the catalog."""

    ANSWER_LOST = "answer-lost"
    ANSWERED_409 = "answered-409"
    ERROR_BEFORE = "error-before"
    UNREACHABLE_AFTER = "unreachable-after"


@dataclass(frozen=True)
class Work:
    """One process: what it does, and what is wrong with its surroundings.

    `days`: first and last of a range materialized by hand (of order dates: one day). `commit`: the number of the
    commit, from 1 on, that the fault of the catalog hits. `file_bytes`: no file may grow beyond it, as on a disk that
    is full. `freeze`: where it would die at a point it stops there instead, until it is told to go on. `midnight`: when
    its day ends. `without`: a protection that is taken out.
    """

    kind: Kind = Kind.SYNC
    days: tuple[date, date] | None = None
    catalog: CatalogFault | None = None
    commit: int = 1
    file_bytes: int | None = None
    freeze: bool = False
    midnight: Midnight | None = None
    without: Protection | None = None

    def run(self, settings: Settings) -> None:
        """Does it in this process. Raises whatever a run of it raises."""
        if self.without is not None:
            take_out(self.without)
        if self.file_bytes is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # what follows then is an error of `write`, not a death
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.file_bytes, resource.RLIM_INFINITY))
        if self.catalog is not None:
            from orders_platform_tests.faults.catalog_faults import disturb

            disturb(self.catalog, self.commit)
        if self.midnight is not None:
            let_it_be_midnight(self.midnight)
        if self.kind is Kind.GAPS_ACCEPTED:
            _accept_gaps(settings)
        elif self.kind is Kind.SYNC:
            from orders_platform.defs.sync import sync

            sync(settings)
        else:
            _run_requests(settings, self)


def _accept_gaps(settings: Settings) -> None:
    """What an operator decides about everything that stops a table: it is lost, or something new begins."""
    from orders_platform.contracts import load_contracts
    from orders_platform.ingest.gap_acceptance import accept, open_gap
    from orders_platform.lake.catalog import open_catalog

    catalog = open_catalog(settings)
    for contract in load_contracts():
        while (stopped := open_gap(settings, catalog, contract)) is not None:
            if stopped.gap is None:
                raise stopped
            accept(settings, catalog, contract, stopped.gap.name, reason="a history", by="the matrix")


class RunFailedError(Exception):
    """A Dagster run did not succeed."""


def _run_requests(settings: Settings, work: Work) -> None:
    """Executes what one tick of a sensor requests, or what a person materializes, as Dagster's daemon would."""
    import dagster as dg

    from orders_platform.defs.location import build_location
    from orders_platform.defs.resources.platform import Platform

    os.environ.pop("DAGSTER_HOME", None)
    platform = Platform(settings)
    location = build_location(platform)
    with dg.DagsterInstance.ephemeral() as instance:
        for job, request in _requests(work, platform, instance):
            done = location.resolve_job_def(job).execute_in_process(
                run_config=request.run_config,
                instance=instance,
                partition_key=request.partition_key,
                asset_selection=request.asset_selection,
                tags=dict(request.tags),
                raise_on_error=False,
            )
            if not done.success:
                raise RunFailedError(str([e.step_failure_data for e in done.all_events if e.is_step_failure]))


def _requests(work: Work, platform: Any, instance: dg.DagsterInstance) -> Iterable[tuple[str, dg.RunRequest]]:
    import dagster as dg

    import orders_platform.defs.automation.kafka_lag as kafka_lag_sensor
    import orders_platform.defs.automation.stale_dates as stale_dates_sensor
    from orders_platform.defs.automation.kafka_lag import RANGE_END_TAG, RANGE_START_TAG, kafka_lag
    from orders_platform.defs.automation.stale_dates import stale_order_dates
    from orders_platform.defs.jobs import INGEST, ORDER_DATES

    if work.days:
        first, last = (day.isoformat() for day in work.days)
        if work.kind is Kind.ORDER_DATE_BY_HAND:
            return [(ORDER_DATES.name, dg.RunRequest(partition_key=first))]
        tags = {} if first == last else {RANGE_START_TAG: first, RANGE_END_TAG: last}
        return [(INGEST.name, dg.RunRequest(partition_key=first if first == last else None, tags=tags))]
    # An error that may pass is a run that failed: a tick that asks for nothing has found nothing to do.
    kafka_lag_sensor.may_pass = stale_dates_sensor.may_pass = lambda _: False  # type: ignore[attr-defined]
    context = dg.build_sensor_context(instance=instance, resources={"platform": platform})
    if work.kind is Kind.LAG_SENSOR:
        asked = kafka_lag(context)
        return [(INGEST.name, each) for each in getattr(asked, "run_requests", None) or ()]
    dates = stale_order_dates(context)
    return [(ORDER_DATES.name, dates)] if isinstance(dates, dg.RunRequest) else []
