"""The whole system under test, on simulated, virtual or real hardware. Imports everything; nothing imports it."""
