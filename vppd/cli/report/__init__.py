"""`vppd report`: documents made from the journal alone, as Markdown, HTML and CSV."""
