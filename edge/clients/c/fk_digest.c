/* What a bundle and its files take besides fk_crypto.c: hex, PEM and CRC-32. */
#include "fk_digest.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "fedkeys.h"
#include "fk_fail.h"

fk_status fk_public_key_from_pem(const char *pem, size_t size, uint8_t public_key[FK_KEY_BYTES], fk_error *error) {
  if (!pem || !public_key || size > 65536) return fk_fail(error, FK_BAD_ARGUMENT, "a PEM of at most 64 kB is needed");
  ERR_set_mark();
  BIO *source = BIO_new_mem_buf(pem, (int)size);
  EVP_PKEY *key = source ? PEM_read_bio_PUBKEY(source, NULL, NULL, NULL) : NULL;
  size_t length = FK_KEY_BYTES;
  bool is_read = key && EVP_PKEY_base_id(key) == EVP_PKEY_ED25519 &&
                 EVP_PKEY_get_raw_public_key(key, public_key, &length) == 1 && length == FK_KEY_BYTES;
  EVP_PKEY_free(key);
  BIO_free(source);
  ERR_pop_to_mark();
  return is_read ? fk_ok(error) : fk_fail(error, FK_DAMAGED, "the PEM holds no Ed25519 public key");
}

bool fk_from_hex(const char *hex, size_t length, uint8_t *bytes, size_t size) {
  if (length != 2 * size) return false;
  memset(bytes, 0, size);
  for (size_t i = 0; i < length; i++) {
    char c = hex[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return false;
    bytes[i / 2] = (uint8_t)(bytes[i / 2] << 4 | digit);
  }
  return true;
}

uint32_t fk_crc32(const void *data, size_t size) {
  const uint8_t *bytes = data;
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}
