"""What can go wrong in the plant, and how it is told to."""
