"""Where a device is heard that is to take the place of another: what it says is kept apart until it
is let in, for the other one still counts."""

from vppd.core.model import Cells, DeviceReport, Plan, Point, Reading, Snapshot, Synchro, UnitId
from vppd.core.ports import Board, Clock, Report


class Apart:
    """A board, and an ear for reports. Let in, both pass on what comes."""

    def __init__(self, board: Board, report: Report, clock: Clock) -> None:
        self._board, self._report, self._clock = board, report, clock
        self._in = False
        self._readings: dict[tuple[UnitId, Point], Reading] = {}
        self._reports: list[DeviceReport] = []

    def publish(self, message: Reading | Synchro | Plan | Cells) -> None:
        """As a board does."""
        if self._in:
            self._board.publish(message)
        elif isinstance(message, Reading):
            self._readings[message.unit, message.point] = message

    def report(self, report: DeviceReport) -> None:
        """What the device says of itself."""
        if self._in:
            self._report(report)
        else:
            self._reports.append(report)

    def snapshot(self) -> Snapshot:
        """What is known of it so far."""
        return Snapshot(self._clock.now_s(), self._clock.utc(), dict(self._readings), {}, {})

    def let_in(self) -> None:
        """From now on it counts, and so does what it said last."""
        self._in = True
        for report in self._reports:
            self._report(report)
        for reading in self._readings.values():
            self._board.publish(reading)
        self._reports, self._readings = [], {}
