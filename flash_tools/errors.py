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


class FlashError(FlashToolError):
    """A board can not be flashed as asked. Says where, what was found, what was expected, and what to do."""

    def __init__(self, where: str, found: str, expected: str, advice: str) -> None:
        super().__init__(f"{where}: found {found}; expected {expected}. {advice}")
        self.where = where
        self.found = found
        self.expected = expected
        self.advice = advice


class PortMissing(FlashError):
    """Nothing is at this name, or nothing at all is plugged in."""


class PortForbidden(FlashError):
    """This user may not open the port."""


class PortHeld(FlashError):
    """Another program has the port."""


class PortAmbiguous(FlashError):
    """Several boards, and none was named."""


class ChipSilent(FlashError):
    """The port opens, but no loader answers."""


class ChipLoops(FlashError):
    """The chip starts again and again, and its loader can not be reached."""


class WrongChip(FlashError):
    """The board has another chip than its board file says."""


class WrongMac(FlashError):
    """Another board than the one that this label was made for."""


class ChipProtected(FlashError):
    """Flash encryption or secure boot: what we would write could never run there."""


class DownloadLocked(FlashError):
    """Secure download mode: the chip lets nobody read or check its flash."""


class FlashTooSmall(FlashError):
    """The flash is smaller than the board file says."""


class WrongImage(FlashError):
    """An image that is none, is damaged, or is for another chip."""


class WrongOffset(FlashError):
    """An image made for another place of the flash."""


class DoesNotFit(FlashError):
    """An image is larger than its partition."""


class NotMicroPython(FlashError):
    """An image of a chip, but not of MicroPython."""


class WrongVersion(FlashError):
    """An image newer or older than asked, or older than the board can use."""


class TableDiffers(FlashError):
    """The partition table on the chip is another one."""


class StateInUse(FlashError):
    """The board has an identity already: its `state` is only replaced by a new key, and when that is asked."""


class NewerOnNode(FlashError):
    """The node runs a newer release than the one that is to be flashed."""


class LineLost(FlashError):
    """The board went away in the middle: power, cable, reset."""


class VerifyFailed(FlashError):
    """What was read back is not what was sent."""


class BootFailed(FlashError):
    """All is written and verified, but the node does not say hello as it should."""


class BenchError(FlashToolError):
    """A node at this bench did not do, or could not be asked, what a person wanted."""
