"""`python -m orders_platform_tests.faults`: what `make faults` calls."""

import sys

from orders_platform_tests.faults.matrix import main

if __name__ == "__main__":  # not in the processes that are forked for a pass
    sys.exit(main())
