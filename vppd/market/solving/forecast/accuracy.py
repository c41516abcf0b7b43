"""How good forecasts were: error, error against the naive, and rank. Pure.

Mean absolute error says little about money: the profile has nearly the worst and earns nearly the
most. Kendall's rank correlation within the day says more, for a battery sells order, not level.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vppd.market.solving.lp import Numbers


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Over so many days: mean absolute error, the same relative to the seasonal naive's (below 1 is
    better than it), and mean Kendall tau-b within the day. None where it is not defined."""

    days: int
    error_rs_per_mwh: float | None
    naive_ratio: float | None
    kendall_ratio: float | None


def accuracy(days: Iterable[tuple[Numbers, Numbers, Numbers]]) -> Accuracy:
    """From (forecast, naive, actual) of each day, Rs/MWh; unknown actual blocks are left out."""
    errors: list[float] = []
    naive_errors: list[float] = []
    ranks: list[float] = []
    for forecast, naive, actual in days:
        known = np.isfinite(actual)
        if not known.any():
            continue
        errors.append(float(np.abs(forecast - actual)[known].mean()))
        naive_errors.append(float(np.abs(naive - actual)[known].mean()))
        rank = kendall(forecast[known], actual[known])
        if rank is not None:
            ranks.append(rank)
    if not errors:
        return Accuracy(0, None, None, None)
    error, naive_error = float(np.mean(errors)), float(np.mean(naive_errors))
    return Accuracy(
        len(errors),
        error,
        error / naive_error if naive_error > 0.0 else None,
        float(np.mean(ranks)) if ranks else None,
    )


def kendall(one: Numbers, other: Numbers) -> float | None:
    """Kendall's tau-b of two series; None when either is constant."""
    upper = np.triu_indices(len(one), 1)
    signs = [np.sign(each[:, None] - each[None, :])[upper] for each in (one, other)]
    both = float(np.sqrt(np.square(signs[0]).sum() * np.square(signs[1]).sum()))
    return float((signs[0] * signs[1]).sum()) / both if both > 0.0 else None
