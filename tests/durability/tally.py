"""What came of trying a kind of fault again and again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Trials of one kind of fault.

    Attributes:
        fault: What was tried.
        ends: How many trials ended in each way.
        losses: One line for each trial that lost something; there should be none.
    """

    fault: str
    ends: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)

    def count(self, end: str, trials: int = 1) -> None:
        """Count trials that ended well."""
        self.ends[end] += trials

    def lose(self, how: str) -> None:
        """Count a trial that lost something."""
        self.ends["lost"] += 1
        self.losses.append(how)

    @property
    def tried(self) -> int:
        """How many trials there were."""
        return self.ends.total()

    def row(self) -> str:
        """Return the tally as a row of a Markdown table."""
        ends = ", ".join(f"{end}: {count:,}" for end, count in sorted(self.ends.items()) if count)
        return f"| {self.fault} | {self.tried:,} | {ends} | {len(self.losses)} |"
