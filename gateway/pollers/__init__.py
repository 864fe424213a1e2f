"""What asks other people's devices: each poller hands readings to the gateway and knows no link and no northbound."""
