/* HMAC-SHA256 (FIPS 180-4, RFC 2104), for devices without a crypto library. Replace it by the chip's own where there is one. */
#ifndef CHATD_SHA256_H
#define CHATD_SHA256_H
#include <stddef.h>
#include <stdint.h>

/* mac[32] = HMAC-SHA256(key, message). A key longer than 64 bytes is refused: returns 0. */
int chatd_hmac_sha256(const uint8_t *key, size_t key_bytes, const uint8_t *message, size_t message_bytes, uint8_t mac[32]);
#endif
