"""The simulated SunSpec inverter, typed from the published models."""
