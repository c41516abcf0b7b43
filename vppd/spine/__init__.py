"""What all layers stand on at run time: clock, bus, journal, supervision. Imports core only."""
