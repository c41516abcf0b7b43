"""Sites for units: what makes the daemon an aggregator.

A site is a unit like any other: what its telemetry says goes on the bus, the tick shares over what
it says it can do, the gate clears, and an actuator turns what was cleared into orders that end by
themselves. Pure are `roster` (which samples are believed), `tenure` (who commands which site) and
`rounds` (which order is due); `link` is the broker, `house` puts it together.
"""
