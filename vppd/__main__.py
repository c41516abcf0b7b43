"""`python -m vppd` is `vppd`."""

from vppd.cli.vppd import main

main()
