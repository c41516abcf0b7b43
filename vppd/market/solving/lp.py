"""A linear program as arrays, and HiGHS, which solves it. Pure: no clock, no output, one thread.

Imported only where the market layer solves, in a process that ends: numpy and HiGHS weigh more
than the daemon that asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]

FREE = highspy.kHighsInf
TIME_LIMIT_S = 5.0
_BY_ROW, _MAXIMISE = 2, -1
_SOLVED = highspy.HighsModelStatus.kOptimal
_OUT_OF_TIME = highspy.HighsModelStatus.kTimeLimit


class NotSolved(RuntimeError):  # noqa: N818 - it says what came of it
    """HiGHS found no solution; `reason` is its word for why (infeasible, time limit …)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"no solution: {reason}")


@dataclass(frozen=True, slots=True)
class Solution:
    """What HiGHS found: `values` of the columns, `duals` of the rows (0 of a mixed program)."""

    values: Numbers
    duals: Numbers
    objective_rs: float
    solve_s: float  # as HiGHS measured it
    whole: bool  # proven best; False: the time limit came first


class Program:
    """Columns and rows as they are added; maximises gain. `solved` may be asked again and again."""

    def __init__(self) -> None:
        self._gain: list[Numbers] = []
        self._column_bounds: list[tuple[Numbers, Numbers]] = []
        self._row_bounds: list[tuple[Numbers, Numbers]] = []
        self._entries: list[tuple[Places, Places, Numbers]] = []
        self._binary: list[Places] = []
        self._columns = self._rows = 0

    def columns(
        self, count: int, gain: Any = 0.0, low: Any = 0.0, high: Any = FREE, *, binary: bool = False
    ) -> Places:
        """New columns between `low` and `high`, each worth `gain` a unit; their places."""
        places = np.arange(self._columns, self._columns + count)
        self._gain.append(_spread(gain, count))
        self._column_bounds.append((_spread(low, count), _spread(high, count)))
        if binary:
            self._binary.append(places)
        self._columns += count
        return places

    def rows(
        self, low: Any, high: Any, terms: Sequence[tuple[Places, Any]], count: int | None = None
    ) -> Places:
        """New rows `low` <= sum of column x factor <= `high`, one for each place of the terms;
        their places. `entries` adds to some of them."""
        count = len(terms[0][0]) if count is None else count
        places = np.arange(self._rows, self._rows + count)
        self._row_bounds.append((_spread(low, count), _spread(high, count)))
        self._rows += count
        for columns, factor in terms:
            self.entries(places, columns, factor)
        return places

    def entries(self, rows: Places, columns: Places, factor: Any) -> None:
        """Add column x factor to each of these rows."""
        self._entries.append((rows, columns, _spread(factor, len(columns))))

    def total(self, low: float, high: float, terms: Sequence[tuple[Places, Any]]) -> Places:
        """One row over the sum of all these columns; its place."""
        place = self.rows(low, high, (), 1)
        for columns, factor in terms:
            self.entries(np.repeat(place, len(columns)), columns, factor)
        return place

    def solved(self, time_limit_s: float = TIME_LIMIT_S) -> Solution:
        """The best solution. Raises NotSolved."""
        highs = self._highs(time_limit_s)
        highs.run()
        status = highs.getModelStatus()
        found = highs.getSolution()
        usable = status == _SOLVED or (
            status == _OUT_OF_TIME and found.value_valid and self._binary
        )
        if not usable:
            raise NotSolved(highs.modelStatusToString(status))
        duals = np.array(found.row_dual) if found.dual_valid else np.zeros(self._rows)
        return Solution(
            np.array(found.col_value),
            duals,
            highs.getObjectiveValue(),
            highs.getRunTime(),
            status == _SOLVED,
        )

    def objectives_along(self, row: int, values: Sequence[float]) -> list[float]:
        """The best objective with this row held at each value, each solved from the one before.
        Raises NotSolved."""
        highs = self._highs(TIME_LIMIT_S)
        found = []
        for value in values:
            highs.changeRowBounds(row, value, value)
            highs.run()
            if highs.getModelStatus() != _SOLVED:
                raise NotSolved(highs.modelStatusToString(highs.getModelStatus()))
            found.append(highs.getObjectiveValue())
        return found

    def _highs(self, time_limit_s: float) -> Any:
        highs: Any = highspy.Highs()  # type: ignore[no-untyped-call]
        highs.silent()
        highs.setOptionValue("threads", 1)
        highs.setOptionValue("time_limit", time_limit_s)
        self._pass(highs)
        return highs

    def _pass(self, highs: Any) -> None:
        rows, columns, factors = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        order = np.argsort(rows, kind="stable")
        starts = np.searchsorted(rows[order], np.arange(self._rows))
        kinds = np.zeros(self._columns, np.int32)
        for places in self._binary:
            kinds[places] = 1
        highs.passModel(
            self._columns,
            self._rows,
            len(order),
            _BY_ROW,
            _MAXIMISE,
            0.0,
            np.concatenate(self._gain),
            *(np.concatenate(side) for side in zip(*self._column_bounds, strict=True)),
            *(np.concatenate(side) for side in zip(*self._row_bounds, strict=True)),
            starts.astype(np.int32),
            columns[order].astype(np.int32),
            factors[order],
            kinds,
        )


def _spread(value: Any, count: int) -> Numbers:
    """One value or `count` of them, as `count` floats."""
    return np.broadcast_to(np.asarray(value, float), (count,)).copy()
