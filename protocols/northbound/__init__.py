"""Pure formatters of what leaves the gateway: records in, bytes out. One file per format."""
