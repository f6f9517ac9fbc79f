"""What may be concluded from aggregates, and how: arrays in, arrays out, no clock and no chance."""
