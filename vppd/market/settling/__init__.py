"""From what was sold to money: what was given, why it differs, what it is worth."""
