"""What can go wrong at the bench. Each message says what was found and what to do about it."""


class FlashToolError(Exception):
    """Base of everything this folder raises on purpose."""

    exit_code = 1


class ImageError(FlashToolError):
    """A partition image can not be built."""


class MintError(FlashToolError):
    """A node can not be minted as asked; no key was made or replaced."""


class AcceptanceError(FlashToolError):
    """A node can not be looked at: no verdict about it was reached."""


class InspectError(FlashToolError):
    """There is nothing that could be looked at."""


class ReleaseError(FlashToolError):
    """A release can not be built, signed or trusted as asked; nothing was signed."""


class ProvisionError(FlashToolError):
    """A unit can not be provisioned as asked."""


class KeyStoreError(ProvisionError):
    """The bench's keys can not be opened or made."""


class AddressError(ProvisionError):
    """There is no address for a unit, or two stations could give out the same one."""


class BatchError(ProvisionError):
    """A table of units has mistakes; each is named with its place."""


class RegistryError(ProvisionError):
    """The gateway's registry can not be reached, or does not take a unit."""
