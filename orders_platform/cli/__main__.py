"""`python -m orders_platform.cli`."""

from orders_platform.cli import main

main()
