"""The plant that is not there: battery, inverter, PMU and grid behind the real protocols."""
