"""Tests read like the behaviour they prove."""
