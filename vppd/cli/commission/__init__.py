"""`vppd commission`: the bump test of one unit and its report."""
