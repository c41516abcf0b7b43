"""Price forecasts: models, how they are combined, scenarios, and the ladder of what to fall to.

What adds value and what does not, measured with `vppd backtest` on Indian day-ahead prices of 2024
(1 MW, 2 MWh, 85 % round trip, 1.5 cycles a day, wear 1,000 and fee 20 Rs/MWh, share of perfect
foresight over 310 days). Every choice was made by the first 144 of them; the last column is the
rest, looked at afterwards: before the last row was chosen it had been seen once, for the row above.

=====================================================  ======  ==========  =======
strategy                                               all     first 144   the rest
=====================================================  ======  ==========  =======
yesterday, plan                                        89.8
14-day exponential mean (0.8), plan                    94.7    92.2        96.5
the same smoothed over 3 blocks                                92.9
28 days, decay 0.70, Sundays apart, smoothed, plan     95.5    93.9        96.7
with a tenth each of naive and regression, plan        95.5    94.0        96.7
the same, bid as curves (24 paths, half their spread)  95.6    94.4        96.5
defaults: decay 0.75, 16 paths, curves                 95.7    94.5        96.5
=====================================================  ======  ==========  =======

*Helped:* a slower window, smoothing over the neighbours, Sundays apart (0.3 each). *Within chance:*
the mix with naive and regression (0.1; it lowers the error from 1.0 to 0.95 of the naive's), curves
(+0.5 on the first part, -0.2 on the rest: they buy safety). *Did not help, on the first part:* the
regression alone (93.2; per block with all of yesterday's prices 88 to 91), weights by recent
success (93.1 to 93.5), weekdays one by one (91 to 92.6), principal components (91 to 93), scaling
to yesterday's level (92), Gaussian processes over days (91 to 92), three days ahead. Curves from
whole residuals lost 0.3 against half of them. For measure: who knows the coming day exactly and
forecasts only the day behind it gets 98.3 on that part. Steps of 0.1 MW instead of 0.001 cost this
battery 1.0.

All differences below about 0.3 are within chance: one part of one year decides little.
"""
