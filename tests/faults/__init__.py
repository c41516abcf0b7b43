"""The fault campaign of `scripts/faults`: kinds, promises, gateway, far side, judge."""
