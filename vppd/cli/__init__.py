"""The two commands: vppd runs and checks, vppctl asks the running daemon."""
