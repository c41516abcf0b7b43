"""Looking at real equipment, read-only: `vppd check --live` and `vppd discover`."""
