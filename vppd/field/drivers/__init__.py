"""One file a transport. A driver reads devices, and writes only what the gate hands it."""
