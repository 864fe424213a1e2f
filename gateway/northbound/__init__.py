"""Each northbound reads the store from its own cursor, which moves when the far side has confirmed."""
