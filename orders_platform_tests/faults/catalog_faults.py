"""A catalog that fails as catalogs over a network do, put around the real one in a process of its own.

The commits are real; what is altered is what their caller learns. 409 after a landed commit is what PyIceberg's REST
client sees when an answer was lost and its own retry sent the same commit again.
"""

from __future__ import annotations

from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, ServiceUnavailableError

from orders_platform_tests.faults.work import CatalogFault


def disturb(fault: CatalogFault, number: int) -> None:
    """From now on, in this process, the commit of that number fails so; the catalog is as it was otherwise."""
    real_commit, real_load = SqlCatalog.commit_table, SqlCatalog.load_table
    commits, unreachable = 0, False

    def commit_table(self: SqlCatalog, *arguments: Any) -> Any:
        nonlocal commits, unreachable
        commits += 1
        if unreachable or (commits == number and fault is CatalogFault.ERROR_BEFORE):
            raise ServiceUnavailableError("503 before the commit")
        answer = real_commit(self, *arguments)
        if commits != number:
            return answer
        if fault is CatalogFault.ANSWERED_409:
            raise CommitFailedException("409: the table has changed since")
        unreachable = fault is CatalogFault.UNREACHABLE_AFTER
        raise ConnectionError("the answer was lost")

    def load_table(self: SqlCatalog, *arguments: Any) -> Any:
        if unreachable:
            raise ConnectionError("the catalog does not answer")
        return real_load(self, *arguments)

    SqlCatalog.commit_table = commit_table  # type: ignore[method-assign]
    SqlCatalog.load_table = load_table  # type: ignore[method-assign]
