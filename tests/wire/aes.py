"""AES-128 encryption in plain Python, as `cryptolib.aes` looks: for the tests on a MicroPython built without it.

Slow, and its time depends on the key: never for anything but tests. Checked against FIPS-197 and against
cryptography.
"""

ECB = 1
CBC = 2


def _xtime(byte):
    byte <<= 1
    return byte ^ 0x11B if byte & 0x100 else byte


def _make_sbox():
    """FIPS-197 section 5.1.1: the inverse in GF(2**8), then an affine map. Walks p = 3**n beside q = 3**-n."""
    sbox = bytearray(256)
    sbox[0] = 0x63
    p = q = 1
    while True:
        p ^= _xtime(p)  # times 3
        q ^= q << 1  # divided by 3
        q ^= q << 2
        q ^= q << 4
        q &= 0xFF
        if q & 0x80:
            q ^= 0x09
        spread = q | q << 8
        sbox[p] = (q ^ spread >> 7 ^ spread >> 6 ^ spread >> 5 ^ spread >> 4) & 0xFF ^ 0x63
        if p == 1:
            return bytes(sbox)


_SBOX = _make_sbox()
# Where each byte of the state comes from after ShiftRows; the state is kept column by column.
_SHIFTED = bytes([(index + 4 * (index % 4)) % 16 for index in range(16)])


class aes:  # noqa: N801 - the name it has in cryptolib
    SOURCE = "tests/wire/aes.py"

    def __init__(self, key, mode, iv=None):
        if len(key) != 16 or mode not in (ECB, CBC):
            raise ValueError("AES-128, ECB or CBC")
        self._round_keys = _expand(key)
        self._chain = bytes(iv) if mode == CBC else None

    def encrypt(self, data):
        if len(data) % 16:
            raise ValueError("blksize % 16")
        out = bytearray()
        for start in range(0, len(data), 16):
            block = bytes(data[start : start + 16])
            if self._chain is None:
                out.extend(self._block(block))
            else:
                self._chain = self._block(_xor(block, self._chain))
                out.extend(self._chain)
        return bytes(out)

    def _block(self, block):
        state = _xor(block, self._round_keys[0])
        for number in range(1, 11):
            state = bytes([_SBOX[state[source]] for source in _SHIFTED])
            if number < 10:
                state = b"".join([_mix(state[column : column + 4]) for column in range(0, 16, 4)])
            state = _xor(state, self._round_keys[number])
        return state


def _xor(left, right):
    return bytes([left[index] ^ right[index] for index in range(16)])


def _mix(column):
    both = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes([column[i] ^ both ^ _xtime(column[i] ^ column[(i + 1) % 4]) for i in range(4)])


def _expand(key):
    """FIPS-197 section 5.2: eleven round keys."""
    words = [key[start : start + 4] for start in range(0, 16, 4)]
    constant = 1
    while len(words) < 44:
        word = words[-1]
        if len(words) % 4 == 0:
            word = bytes([_SBOX[word[1]] ^ constant, _SBOX[word[2]], _SBOX[word[3]], _SBOX[word[0]]])
            constant = _xtime(constant)
        words.append(bytes([word[index] ^ words[-4][index] for index in range(4)]))
    return [b"".join(words[start : start + 4]) for start in range(0, 44, 4)]
