# What every part uses: invariants, deliberate faults, atomics, checksum.

cdef extern from "check.h" nogil:
    void chatd_require(bint condition) noexcept
    void chatd_assert(bint condition) noexcept
    const int CHATD_IS_DEBUG

cdef extern from "sabotage.h" nogil:
    const int CHATD_HAS_SABOTAGES
    bint chatd_sabotage(int number) noexcept

cdef enum sabotage:
    SABOTAGE_ACK_BEFORE_COMMIT = 1
    SABOTAGE_PUSH_BEFORE_COMMIT = 3
    SABOTAGE_DEDUP_WITHOUT_DEVICE = 4
    SABOTAGE_SEQ_NOT_TAKEN_BACK = 5
    SABOTAGE_LOGIN_RACE = 6
    SABOTAGE_MEMBERSHIP_AT_JOIN_ONLY = 7
    SABOTAGE_NO_LAG = 8
    SABOTAGE_RING_HEAD_FIRST = 9
    SABOTAGE_WALL_CLOCK = 10
    SABOTAGE_NO_GENERATION = 11
    SABOTAGE_OLD_EPOCH = 13

cdef extern from "atomics.h" nogil:
    uint64_t load_acquire_u64(const uint64_t* p) noexcept
    uint64_t load_relaxed_u64(const uint64_t* p) noexcept
    void store_release_u64(uint64_t* p, uint64_t value) noexcept
    uint32_t load_acquire_u32(const uint32_t* p) noexcept
    uint32_t load_relaxed_u32(const uint32_t* p) noexcept
    void store_release_u32(uint32_t* p, uint32_t value) noexcept
    void store_relaxed_u32(uint32_t* p, uint32_t value) noexcept
    uint32_t exchange_u32(uint32_t* p, uint32_t value) noexcept
    void fence_seq_cst() noexcept

cdef extern from "crc32c.h" nogil:
    const int crc32c_has_hardware
    void crc32c_init() noexcept
    uint32_t crc32c_raw(uint32_t crc, const uint8_t* p, size_t n) noexcept
    uint32_t crc32c_of "crc32c"(const uint8_t* p, size_t n) noexcept
    uint32_t crc32c_of_portable "crc32c_portable"(const uint8_t* p, size_t n) noexcept

crc32c_init()

DEBUG_BUILD = bool(CHATD_IS_DEBUG)
SABOTAGE_BUILD = bool(CHATD_HAS_SABOTAGES)


def crc32c(const uint8_t[::1] data not None, *, bint portable=False) -> int:
    """CRC-32C of `data`; portable=True takes the table path whatever the processor offers."""
    cdef size_t n = <size_t>data.shape[0]
    cdef const uint8_t* p = &data[0] if n else NULL
    if portable:
        return crc32c_of_portable(p, n)
    return crc32c_of(p, n)


# An error that a part reports at the engine's one door; the import is late because errors are rare.
cdef object _internal_error(str message):
    from chatd.errors import InternalError
    return InternalError(message)
