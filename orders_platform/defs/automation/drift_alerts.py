"""Says in one structured line that the shop has altered a table, beside the lines of failed runs."""

from __future__ import annotations

import json

from orders_platform.contracts import Contract
from orders_platform.defs.automation.failure_alerts import ALERTS


def tell_of_drift(contract: Contract, changes: str) -> None:
    """Logs the alert: a warning when something differs from the contract, information when nothing does any more."""
    alert = {
        "alert": "schema_drift",
        "table": contract.table,
        "source": contract.source,
        "changes": changes or "none any more",
        "remedy": "the tables have taken up what is added and widened; bring the contract up to date, then, for the"
        f" rows that did not change since: orders-platform gaps repair {contract.table}",
    }
    (ALERTS.warning if changes else ALERTS.info)(json.dumps(alert, sort_keys=True))
