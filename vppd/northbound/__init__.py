"""What the world sees and may ask: HTTP on the Unix socket."""
