"""What a check found: the same shape for every hop."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CheckOutcome:
    """Whether a table may be built upon, in one sentence, with the figures behind it (numbers become time series).

    Args:
        warns_only: somebody should look at what did not pass, but it may be built upon.
    """

    passed: bool
    description: str
    metadata: dict[str, int | float | str] = field(default_factory=dict)
    warns_only: bool = False
