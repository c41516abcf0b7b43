"""Layer 4, market: what is sold."""
