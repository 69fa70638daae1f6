"""What silver must not take from bronze, whichever run asks for it.

A check stops only what follows it in its own run, and it looks at what that run has loaded. The next run would publish
what the check refused; so each merge asks again, about all that has not been published yet.
"""

from __future__ import annotations

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError

from orders_platform.contracts import Contract
from orders_platform.ingest.dead_letter_limit import refuse_too_many
from orders_platform.ingest.errors import LedgerError
from orders_platform.ingest.ledger_check import check_files
from orders_platform.lake.audit import audited_snapshot
from orders_platform.lake.increments import increment
from orders_platform.lake.silver import merged_bronze
from orders_platform.settings import Settings


def refuse_unfit(settings: Settings, catalog: Catalog, contract: Contract) -> int | None:
    """Stops a merge of rows that bronze's checks refuse: of all that no audited snapshot of silver has.

    Only new files are read, and of them the columns that say which records their rows are. The rows that are published
    already were judged before, and the number of all rows is compared with the ledger's.

    Returns:
        Bronze's snapshot that was judged; null if there is none.

    Raises:
        LedgerError: if the ledger is missing, or rows are not what it says.
        TooManyDeadLettersError: if too large a part of a day could not be decoded.
    """
    try:
        bronze = catalog.load_table(contract.bronze_table)
    except NoSuchTableError:
        return None
    try:
        silver = catalog.load_table(contract.silver_table)
        published = merged_bronze(silver, audited_snapshot(silver))
    except NoSuchTableError:
        published = None
    found = increment(bronze, published)
    if found.snapshot_id == published:
        return published
    outcome = check_files(settings, contract, bronze, found.files)
    if not outcome.passed:
        raise LedgerError(
            f"{outcome.description}. Silver keeps what it has, in every run, until that is mended: "
            f"`orders-platform ledger show --table {contract.table}` says what was loaded; then roll the table back, "
            f"or `orders-platform ledger rebuild {contract.table}` if the rows are right"
        )
    refuse_too_many(settings, contract, bronze, found.files)
    return found.snapshot_id
