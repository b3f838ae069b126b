"""SipHash-2-4 as native/common/siphash.h has it; the second half of the key is the complement of the first."""

MASK = (1 << 64) - 1


def siphash24(key: int, data: bytes) -> int:
    other = key ^ MASK
    state = [
        key ^ 0x736F6D6570736575,
        other ^ 0x646F72616E646F6D,
        key ^ 0x6C7967656E657261,
        other ^ 0x7465646279746573,
    ]
    whole = len(data) - len(data) % 8
    last = data[whole:] + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])
    for at in range(0, whole + 8, 8):
        word = int.from_bytes(last if at == whole else data[at : at + 8], "little")
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    state[2] ^= 0xFF
    _rounds(state, 4)
    return state[0] ^ state[1] ^ state[2] ^ state[3]


def _rounds(state: list[int], count: int) -> None:
    a, b, c, d = state
    for _ in range(count):
        a = (a + b) & MASK
        b = (b << 13 | b >> 51) & MASK ^ a
        a = a << 32 & MASK | a >> 32
        c = (c + d) & MASK
        d = (d << 16 | d >> 48) & MASK ^ c
        a = (a + d) & MASK
        d = (d << 21 | d >> 43) & MASK ^ a
        c = (c + b) & MASK
        b = (b << 17 | b >> 47) & MASK ^ c
        c = c << 32 & MASK | c >> 32
    state[:] = a, b, c, d
