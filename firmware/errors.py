"""The error tree of the node. One parent each: MicroPython cannot inherit from two exceptions."""


class NodeError(Exception):
    """Anything that firmware raises on purpose."""


class SettingsError(NodeError):
    """A settings document that was refused as a whole; the old one stays."""


class SensorError(NodeError):
    """A sensor did not do what it was asked to do."""


class StorageError(NodeError):
    """The state partition could not take or give what it must; nothing that was kept before is lost by it."""
