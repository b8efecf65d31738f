/* What a bundle and its files take besides fk_crypto.c. Not for apps. */
#ifndef FK_DIGEST_H
#define FK_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads 2 * size hex digits, of either case; false if they are others. */
bool fk_from_hex(const char *hex, size_t length, uint8_t *bytes, size_t size);
/* CRC-32, as zlib computes it. */
uint32_t fk_crc32(const void *bytes, size_t size);

#endif
