"""The error tree of the node. One parent each: MicroPython cannot inherit from two exceptions."""


class NodeError(Exception):
    """Anything that firmware raises on purpose."""


class NoIdentity(NodeError):
    """The state partition holds no identity: the node has no keys and can neither send nor be spoken to."""


class WrongFirmware(NodeError):
    """This image, or this MicroPython, is not for the board that the identity names: flash the right one."""


class SettingsError(NodeError):
    """A settings document that was refused as a whole; the old one stays."""


class SensorError(NodeError):
    """A sensor did not do what it was asked to do."""


class StorageError(NodeError):
    """The state partition could not take or give what it must; nothing that was kept before is lost by it."""


class StartFailed(NodeError):
    """This start came to nothing; it is counted, and after a pause the next one is due."""
