/* Adds masks to a vector, as orchestrator/masks.py: a mask is the AES-128-CTR key stream of a seed, half of which is the
 * key and half the first counter block. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "fk_protocol_parts.h"

#define CHUNK_WORDS 2048u

static void add_words(uint32_t *words, size_t count, const uint8_t *stream, bool subtract) {
  for (size_t i = 0; i < count; i += 1, stream += 4) {
    uint32_t word = (uint32_t)stream[0] | (uint32_t)stream[1] << 8 | (uint32_t)stream[2] << 16 | (uint32_t)stream[3] << 24;
    words[i] = subtract ? words[i] - word : words[i] + word;
  }
}

fk_status fk_add_mask(uint32_t *words, size_t count, const uint8_t seed[32], bool subtract, fk_error *error) {
  static const uint8_t ZEROS[4 * CHUNK_WORDS] = {0};
  uint8_t stream[4 * CHUNK_WORDS];
  ERR_set_mark();
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  bool holds = context && EVP_EncryptInit_ex(context, EVP_aes_128_ctr(), NULL, seed, seed + 16) == 1;
  for (size_t at = 0; holds && at < count; at += CHUNK_WORDS) {
    size_t some = count - at < CHUNK_WORDS ? count - at : CHUNK_WORDS;
    int size = 0;
    holds = EVP_EncryptUpdate(context, stream, &size, ZEROS, (int)(4 * some)) == 1 && (size_t)size == 4 * some;
    if (holds) add_words(words + at, some, stream, subtract);
  }
  EVP_CIPHER_CTX_free(context);
  OPENSSL_cleanse(stream, sizeof stream);
  ERR_pop_to_mark();
  return holds ? FK_OK : fk_fail(error, FK_CRYPTO, "libcrypto failed");
}
