"""The error tree of the node. One parent each: MicroPython cannot inherit from two exceptions."""


class NodeError(Exception):
    """Anything that firmware raises on purpose."""


class NoIdentity(NodeError):
    """The state partition holds no identity: the node has no keys and can neither send nor be spoken to."""


class SettingsError(NodeError):
    """A settings document that was refused as a whole; the old one stays."""


class SensorError(NodeError):
    """A sensor did not do what it was asked to do."""


class ModbusTimeout(SensorError):
    """Nothing, or not enough, was heard before the time-out."""


class ModbusGarbled(SensorError):
    """Bytes came that are no valid reply: CRC, length, or not the reply to what was asked."""


class ModbusRefused(SensorError):
    """The device answered with a Modbus exception: ``code`` says which."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StorageError(NodeError):
    """The state partition could not take or give what it must; nothing that was kept before is lost by it."""
