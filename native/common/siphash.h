/* SipHash-2-4 (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012), 64-bit result.
 *
 * The digest of a SEND: recognises a cseq that is used again for other content. Keyed, so that nobody can prepare two
 * payloads with one digest; the key belongs to the data directory, since stored digests outlive the process. */
#ifndef CHATD_SIPHASH_H
#define CHATD_SIPHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t siphash_rotl(uint64_t x, int b) { return (x << b) | (x >> (64 - b)); }

#define SIPHASH_ROUND(a, b, c, d) do {                                                                                 \
        a += b; b = siphash_rotl(b, 13); b ^= a; a = siphash_rotl(a, 32);                                              \
        c += d; d = siphash_rotl(d, 16); d ^= c;                                                                       \
        a += d; d = siphash_rotl(d, 21); d ^= a;                                                                       \
        c += b; b = siphash_rotl(b, 17); b ^= c; c = siphash_rotl(c, 32);                                              \
    } while (0)

static inline uint64_t siphash24(uint64_t k0, uint64_t k1, const uint8_t *p, size_t n)
{
    uint64_t a = k0 ^ 0x736f6d6570736575u, b = k1 ^ 0x646f72616e646f6du;
    uint64_t c = k0 ^ 0x6c7967656e657261u, d = k1 ^ 0x7465646279746573u;
    uint64_t last = (uint64_t)n << 56;
    while (n >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
#endif
        d ^= word;
        SIPHASH_ROUND(a, b, c, d);
        SIPHASH_ROUND(a, b, c, d);
        a ^= word;
        p += 8;
        n -= 8;
    }
    for (size_t i = 0; i < n; i++)
        last |= (uint64_t)p[i] << (8 * i);
    d ^= last;
    SIPHASH_ROUND(a, b, c, d);
    SIPHASH_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    SIPHASH_ROUND(a, b, c, d);
    SIPHASH_ROUND(a, b, c, d);
    SIPHASH_ROUND(a, b, c, d);
    SIPHASH_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

#endif
