"""Why there is no node: a start lets go of these once there is one (assembly.py)."""

from firmware.errors import NodeError


class NoIdentity(NodeError):
    """The state partition holds no identity: the node has no keys and can neither send nor be spoken to."""


class WrongFirmware(NodeError):
    """This image, or this MicroPython, is not for the board that the identity names: flash the right one."""


class StartFailed(NodeError):
    """This start came to nothing; it is counted, and after a pause the next one is due."""
