"""Layer 2, campus: who does how much."""
