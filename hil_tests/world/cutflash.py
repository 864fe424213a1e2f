"""Flash whose power can be cut inside any operation. Runs unchanged on MicroPython and CPython.

A `CutFlash` is a block device that logs what is done to it and can die in the middle: operation number `cut_at` is
left half done as its variant says, and from then on every call raises `PowerCut`. What such a chip then holds is
`image`, and `unstable`: bits that read differently each time, until their block is erased or they are programmed to 0.

The variants are those of NOR flash whose supply collapses, each for programming and for erasing:

    NOTHING          the operation was never begun
    TORN_1, 2, 3     a prefix is done: a random cut within the first, second and last third
    ALL              all done, and the caller never heard
    BITS             a random subset of the bits that were to change did
    UNSTABLE         a random half of the bits changed; all that were to change now read differently each time
    WEAK             all changed, but one to four of them were caught half-way and read differently each time
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOTHING, TORN_1, TORN_2, TORN_3, ALL, BITS, UNSTABLE, WEAK = range(8)
VARIANTS = ("nothing", "torn_1", "torn_2", "torn_3", "all", "bits", "unstable", "weak")
BLOCK_BYTES = 4096


class PowerCut(Exception):
    """The supply is gone: nothing of ours runs on."""


_CUT = PowerCut()
_ERASED = b"\xff" * BLOCK_BYTES
_STABLE = bytes(BLOCK_BYTES)


class Rng:
    """xorshift32: the same numbers on both interpreters."""

    def __init__(self, seed: int) -> None:
        self._state = (seed * 2654435761 + 0x9E3779B9) & 0xFFFFFFFF or 1
        for _ in range(8):
            self.bits()

    def bits(self) -> int:
        """32 random bits."""
        x = self._state
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        self._state = x
        return x

    def below(self, bound: int) -> int:
        return self.bits() % bound

    def bytes(self, size: int) -> bytearray:
        out = bytearray(size)
        for at in range(0, size, 4):
            word = self.bits()
            for k in range(at, min(at + 4, size)):
                out[k] = word & 0xFF
                word >>= 8
        return out


class CutFlash:
    """`log` holds (block, offset, data) per programming and (block, None, None) per erase, when asked to record."""

    def __init__(
        self,
        image: bytearray,
        unstable: "dict[int, bytearray] | None" = None,
        seed: int = 1,
        record: bool = False,
    ) -> None:
        self.image: Any = image
        self._view: Any = memoryview(image)
        self.unstable = unstable or {}  # block -> a mask of its unstable bits
        self.rng = Rng(seed)
        self.log: list[tuple[int, Any, Any]] | None = [] if record else None
        self.ops = 0
        self.cut_at = -1
        self.variant = NOTHING
        self.dead = False

    # -- MicroPython's extended block device -----------------------------------------------------------------------

    def readblocks(self, block: int, buf: "Any", offset: int = 0) -> None:
        if self.dead:
            raise _CUT
        at = block * BLOCK_BYTES + offset
        buf[:] = self._view[at : at + len(buf)]
        if block in self.unstable:
            mask = self.unstable[block][offset : offset + len(buf)]
            if mask != _STABLE[: len(buf)]:
                for k in range(len(buf)):
                    if mask[k]:
                        buf[k] ^= self.rng.bits() >> 8 & mask[k]

    def writeblocks(self, block: int, buf: "Any", offset: int = 0) -> None:
        if self.dead:
            raise _CUT
        self._do(block, offset, bytes(buf))

    def ioctl(self, op: int, arg: int) -> int:
        if op == 4:
            return len(self.image) // BLOCK_BYTES
        if op == 5:
            return BLOCK_BYTES
        if op == 6:
            if self.dead:
                raise _CUT
            self._do(arg, None, None)
        return 0

    def _do(self, block: int, offset: "Any", data: "Any") -> None:
        if self.ops == self.cut_at:
            self.dead = True
            self.tear(block, offset, data, self.variant)
            raise _CUT
        self.ops += 1
        if self.log is not None:
            self.log.append((block, offset, data))
        self.apply(block, offset, data)

    def release(self) -> None:
        """Free the image of a chip that nobody will look at again."""
        self.image = self._view = b""

    # -- what an operation does, whole or torn ---------------------------------------------------------------------

    def apply(self, block: int, offset: "Any", data: "Any") -> None:
        """Do an operation: programming only clears bits, erasing sets a block to ones."""
        image = self.image
        if data is None:
            image[block * BLOCK_BYTES : (block + 1) * BLOCK_BYTES] = b"\xff" * BLOCK_BYTES
            self._settle(block, 0, BLOCK_BYTES, None)
            return
        at = block * BLOCK_BYTES + offset
        if image[at : at + len(data)] == _ERASED[: len(data)]:
            image[at : at + len(data)] = data
        else:
            for k in range(len(data)):
                image[at + k] &= data[k]
        self._settle(block, offset, len(data), data)

    def tear(self, block: int, offset: "Any", data: "Any", variant: int) -> None:
        """Do as much of an operation as happens while the supply collapses."""
        rng = self.rng
        erase = data is None
        size = BLOCK_BYTES if erase else len(data)
        at = block * BLOCK_BYTES + (0 if erase else offset)
        if variant == NOTHING:
            return
        if variant == ALL or (variant == WEAK and not erase):
            before = bytes(self.image[at : at + size])
            self.apply(block, offset, data)
            if variant == WEAK:
                self._weaken(block, offset, before, data)
            return
        if variant in (TORN_1, TORN_2, TORN_3):
            third = size // 3
            self._prefix(block, offset, data, at, (variant - TORN_1) * third + rng.below(third))
            return
        noise = rng.bytes(size)
        for k in range(size):
            old = self.image[at + k]
            new = 0xFF if erase else old & data[k]
            change = old ^ new
            if erase and variant != BITS:
                change = 0xFF  # every cell of the block is somewhere between
            self.image[at + k] = old ^ (change & noise[k])
            if change and variant in (UNSTABLE, WEAK):
                self._mask(block)[at + k - block * BLOCK_BYTES] |= change

    def _prefix(self, block: int, offset: int, data: "bytes | None", at: int, size: int) -> None:
        if data is not None:
            self.apply(block, offset, data[:size])
            return
        self.image[at : at + size] = b"\xff" * size
        self._settle(block, 0, size, None)

    def _weaken(self, block: int, offset: int, before: bytes, data: bytes) -> None:
        """One to four of the bits that were to become 0 are left on the edge."""
        changed = [k for k in range(len(data)) if before[k] & ~data[k]]
        for _ in range(1 + self.rng.below(4)):
            if not changed:
                return
            k = changed[self.rng.below(len(changed))]
            mask = before[k] & ~data[k] & 0xFF
            bit = 1
            while not mask & bit:
                bit <<= 1
            self._mask(block)[offset + k] |= bit

    def _mask(self, block: int) -> bytearray:
        if block not in self.unstable:
            self.unstable[block] = bytearray(BLOCK_BYTES)
        return self.unstable[block]

    def _settle(self, block: int, offset: int, size: int, data: "bytes | None") -> None:
        """What was programmed to 0 now, or erased (data None), reads the same every time."""
        if block in self.unstable:
            mask = self.unstable[block]
            for k in range(size):
                mask[offset + k] &= 0 if data is None else data[k]
