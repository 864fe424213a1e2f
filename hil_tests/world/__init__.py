"""The simulated world the system is tested in: water, flash, line, clock."""
