"""The last minutes of the site, a line a second, for the moving plots of `vppctl top` and the page.

Kept in memory alone: whoever opens a plot sees at once where it came from.
"""

from collections import deque

from vppd.core.decision import Decision

LINES_MAX = 300
COLUMNS = ("age_s", "frequency_hz", "owed_kw", "cleared_kw", "measured_kw")

Line = tuple[float, float | None, float, float, float | None]


class Trail:
    """Times are the site clock's seconds."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=LINES_MAX)

    def note(self, decision: Decision, measured_kw: float | None) -> None:
        """One line of now."""
        self._lines.append(
            (
                decision.now_s,
                decision.frequency_hz,
                decision.owed_kw,
                decision.cleared_kw,
                measured_kw,
            )
        )

    def view(self, now_s: float) -> dict[str, object]:
        """Every line with its age in place of its time, oldest first."""
        lines = [[now_s - at_s, *values] for at_s, *values in self._lines]
        return {"columns": COLUMNS, "lines": lines}
