"""vppd: the edge controller of a battery site. Safe, then obedient to the grid, then profitable,
and always able to say why. Read `vppd/tick.py` first."""
