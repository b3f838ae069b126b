/* CRC-32C (Castagnoli), as in RFC 3720 appendix B.4.
 *
 * SSE4.2 has an instruction for it; which path is taken is decided once, by crc32c_init() at import. Other processors use
 * eight tables of 256 words (slicing by eight), filled at the same time. */
#ifndef CHATD_CRC32C_H
#define CHATD_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

#define CRC32C_POLYNOMIAL_REVERSED 0x82F63B78u

static uint32_t crc32c_tables[8][256];
static int crc32c_has_hardware;

/* The raw register, neither inverted before nor after: pieces of a message can be chained. */
static inline uint32_t crc32c_raw_table(uint32_t crc, const uint8_t *p, size_t n)
{
    while (n >= 8) {
        uint32_t low, high;
        memcpy(&low, p, 4);
        memcpy(&high, p + 4, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        low = __builtin_bswap32(low);
        high = __builtin_bswap32(high);
#endif
        low ^= crc;
        crc = crc32c_tables[7][low & 0xFF] ^ crc32c_tables[6][(low >> 8) & 0xFF] ^ crc32c_tables[5][(low >> 16) & 0xFF] ^
              crc32c_tables[4][low >> 24] ^ crc32c_tables[3][high & 0xFF] ^ crc32c_tables[2][(high >> 8) & 0xFF] ^
              crc32c_tables[1][(high >> 16) & 0xFF] ^ crc32c_tables[0][high >> 24];
        p += 8;
        n -= 8;
    }
    while (n--)
        crc = (crc >> 8) ^ crc32c_tables[0][(crc ^ *p++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static inline uint32_t crc32c_raw_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t wide = crc;
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        wide = _mm_crc32_u64(wide, word);
        p += 8;
        n -= 8;
    }
    crc = (uint32_t)wide;
    while (n--)
        crc = _mm_crc32_u8(crc, *p++);
    return crc;
}
#endif

static inline uint32_t crc32c_raw(uint32_t crc, const uint8_t *p, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_expect(crc32c_has_hardware, 1))
        return crc32c_raw_hardware(crc, p, n);
#endif
    return crc32c_raw_table(crc, p, n);
}

static inline uint32_t crc32c(const uint8_t *p, size_t n) { return ~crc32c_raw(~0u, p, n); }
static inline uint32_t crc32c_portable(const uint8_t *p, size_t n) { return ~crc32c_raw_table(~0u, p, n); }

static inline void crc32c_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? (crc >> 1) ^ CRC32C_POLYNOMIAL_REVERSED : crc >> 1;
        crc32c_tables[0][i] = crc;
    }
    for (uint32_t i = 0; i < 256; i++)
        for (int k = 1; k < 8; k++)
            crc32c_tables[k][i] = (crc32c_tables[k - 1][i] >> 8) ^ crc32c_tables[0][crc32c_tables[k - 1][i] & 0xFF];
#if defined(__x86_64__)
    crc32c_has_hardware = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

#endif
