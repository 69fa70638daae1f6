"""What can go wrong between Kafka and bronze, by name; each message says where, what is not lost, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orders_platform.errors import PlatformError

if TYPE_CHECKING:
    from orders_platform.ingest.gaps import Gap


class IngestError(PlatformError):
    """Base of everything that stops a load of one topic."""


class BrokerUnavailableError(IngestError):
    """The broker does not answer in time. Passes by itself: worth a retry."""


class TopicMissingError(IngestError):
    """The topic of a contract does not exist."""


class UnboundedTimestampsError(IngestError):
    """Producers set the timestamps of a topic and may set any: one record from the future would move all later ones."""


class BeforeFirstDayError(IngestError):
    """Records are older than the first ingest day that there is."""


class GapError(IngestError):
    """A topic does not go on as it was loaded. Continuing needs a decision about exactly this `gap`.

    Without a gap, what is lost is not known yet: the next run finds out.
    """

    def __init__(self, problem: str, gap: Gap | None = None) -> None:
        remedy = f". To go on all the same: `orders-platform gaps accept TABLE {gap.name} --reason …`" if gap else ""
        super().__init__(f"{problem}{remedy}")
        self.gap = gap


class LostRecordsError(GapError):
    """Offsets that were never loaded are gone, or mean other records."""


class RecordsExpiredError(LostRecordsError):
    """The log now starts behind offsets that neither bronze nor staging has."""


class OffsetsResetError(LostRecordsError):
    """The log ends before offsets that bronze already has: it was truncated or replaced."""


class TopicRecreatedError(LostRecordsError):
    """The topic has another id, or lives in another cluster, than the one that was loaded so far."""


class PositionFellError(GapError):
    """A commit position below an earlier one of its partition that is no redelivery: PostgreSQL went back in time."""


class TooManyDeadLettersError(IngestError):
    """Too large a part of a day could not be decoded: what would be built on the rest would be wrong."""


class SchemaDriftError(IngestError):
    """The shop's table has another key or other columns than its contract, and it is not certain what that means.

    `change` is the name by which it is accepted.
    """

    def __init__(self, message: str, change: str) -> None:
        super().__init__(message)
        self.change = change


class StagedFileError(IngestError):
    """A staged file, `name`, is not what its name says: cut, altered or of another topic."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"staged file {name}: {problem}")
        self.name = name


class LedgerError(IngestError):
    """The ledger of a table cannot be believed: missing, unreadable or contradicted by the rows."""


class LedgerMissingError(LedgerError):
    """A table has snapshots but none that is reachable carries a ledger."""


class CommitRefusedError(IngestError):
    """A commit of bronze did not succeed within its attempts. Nothing is lost: the next run takes the same records."""
