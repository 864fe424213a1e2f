"""The error tree of the gateway: messages say what was found, what is allowed and what to do next.

`exit_code` is what a command ends with; 2 is kept for "you asked for something that is not allowed".
"""

from __future__ import annotations


class GatewayError(Exception):
    """Anything the gateway tells a person instead of showing a traceback."""

    exit_code = 1


class ConfigError(GatewayError):
    """gateway.toml is not usable. `problems` holds every one that was found, each a whole line to print."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class KeyFileError(GatewayError):
    """The master key is missing, open to others, malformed, or not the one that sealed the node keys."""

    exit_code = 2


class RegistryError(GatewayError):
    """A node, site or assignment that cannot be as asked."""

    exit_code = 2


class AirError(GatewayError):
    """A packet or a region that there is no such thing as."""

    exit_code = 2


class CommandError(GatewayError):
    """A command to a node that is not allowed or can never be carried out."""

    exit_code = 2


class FrameError(GatewayError):
    """What was given to look at is no frame at all, nor a file with one."""

    exit_code = 1


class ControlError(GatewayError):
    """The running daemon could not be asked, or refused."""


class LinkError(GatewayError):
    """A link cannot be opened; the message names the port, the cause and the remedy."""


class BusError(GatewayError):
    """A bus that cannot be asked as wanted."""

    exit_code = 2


class AlreadyRunning(GatewayError):
    """Another process holds this data directory."""


class StoreError(GatewayError):
    """The database cannot be opened or written; nothing that was not committed has been acknowledged."""


class DiskError(StoreError):
    """The disk refuses for a reason that may pass: it is full, read-only, or broken. Worth waiting for."""


class NorthboundError(GatewayError):
    """The far side cannot be reached, refused us, or is gone. What is owed stays owed; the runner tries again."""
