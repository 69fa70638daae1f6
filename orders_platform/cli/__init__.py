"""`orders-platform …`: the platform from a terminal. Heavy parts are imported by the commands that use them."""

from orders_platform.cli import changes, dead_letters, drift, gaps, ledger, stack
from orders_platform.cli.app import app

__all__ = ["app", "changes", "dead_letters", "drift", "gaps", "ledger", "main", "stack"]


def main() -> None:
    """Entry point of the command."""
    app(prog_name="orders-platform")
