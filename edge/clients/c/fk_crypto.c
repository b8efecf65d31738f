/* The cryptography, all of it libcrypto's: X25519, Ed25519, HKDF, AES-GCM, AES-CTR and SHA-256 by its EVP interface, which
 * OpenSSL has had since 1.1.1. libsodium would do but for AES-128-CTR, and most phones' crypto libraries are forks of
 * OpenSSL. What a failed check leaves in the thread's queue of errors is taken out again: it is the app's. */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <string.h>

#include "fk_protocol_parts.h"

#define GCM_TAG_BYTES 16
#define MOST_BYTES (1u << 30) /* of one call: libcrypto counts in int */

static fk_status done(bool holds, fk_error *error) {
  ERR_pop_to_mark();
  return holds ? FK_OK : fk_fail(error, FK_CRYPTO, "libcrypto failed");
}

fk_status fk_random_bytes(void *context, void *out, size_t size, fk_error *error) {
  (void)context;
  if (size > MOST_BYTES) return fk_fail(error, FK_BAD_ARGUMENT, "too many random bytes: %zu", size);
  ERR_set_mark();
  return done(RAND_bytes(out, (int)size) == 1, error);
}

fk_status fk_sha256(const fk_bytes *parts, size_t count, uint8_t digest[32], fk_error *error) {
  ERR_set_mark();
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool holds = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
  for (size_t i = 0; holds && i < count; i += 1) {
    holds = EVP_DigestUpdate(context, parts[i].data, parts[i].size) == 1;
  }
  holds = holds && EVP_DigestFinal_ex(context, digest, NULL) == 1;
  EVP_MD_CTX_free(context);
  return done(holds, error);
}

fk_status fk_hmac(fk_bytes key, fk_bytes data, uint8_t mac[32], fk_error *error) {
  unsigned size = 0;
  ERR_set_mark();
  bool holds = key.size < MOST_BYTES && HMAC(EVP_sha256(), key.size ? (const void *)key.data : "", (int)key.size, data.data, data.size, mac, &size);
  return done(holds && size == 32, error);
}

fk_status fk_derive(const uint8_t secret[32], fk_bytes info, uint8_t derived[32], fk_error *error) {
  if (info.size > 1024) return fk_fail(error, FK_BAD_ARGUMENT, "a derivation's purpose of %zu bytes", info.size);
  ERR_set_mark();
  EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_id(EVP_PKEY_HKDF, NULL);
  size_t size = 32;
  bool holds = context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_CTX_set_hkdf_md(context, EVP_sha256()) == 1 &&
               EVP_PKEY_CTX_set1_hkdf_key(context, secret, 32) == 1 &&
               EVP_PKEY_CTX_add1_hkdf_info(context, info.data, (int)info.size) == 1 &&
               EVP_PKEY_derive(context, derived, &size) == 1 && size == 32;
  EVP_PKEY_CTX_free(context);
  return done(holds, error);
}

static fk_status public_of(int type, const uint8_t private_key[32], uint8_t public_key[32], fk_error *error) {
  ERR_set_mark();
  EVP_PKEY *key = EVP_PKEY_new_raw_private_key(type, NULL, private_key, 32);
  size_t size = 32;
  bool holds = key && EVP_PKEY_get_raw_public_key(key, public_key, &size) == 1 && size == 32;
  EVP_PKEY_free(key);
  return done(holds, error);
}

fk_status fk_x25519_public(const uint8_t private_key[32], uint8_t public_key[32], fk_error *error) {
  return public_of(EVP_PKEY_X25519, private_key, public_key, error);
}

fk_status fk_ed25519_public(const uint8_t private_key[32], uint8_t public_key[32], fk_error *error) {
  return public_of(EVP_PKEY_ED25519, private_key, public_key, error);
}

/* Whether a little-endian number is below 2**255 - 19. */
static bool is_below_prime(const uint8_t octets[32]) {
  if (octets[31] != 127) return octets[31] < 127;
  for (size_t i = 1; i < 31; i += 1) {
    if (octets[i] != 255) return true;
  }
  return octets[0] < 237;
}

fk_status fk_x25519(const uint8_t private_key[32], const uint8_t public_key[32], uint8_t shared[32], fk_error *error) {
  static const uint8_t ZEROS[32] = {0};
  if (!is_below_prime(public_key)) {
    return fk_fail(error, FK_ROSTER_REFUSED, "a neighbour has a public key that is another's, written another way");
  }
  ERR_set_mark();
  EVP_PKEY *own = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, private_key, 32);
  EVP_PKEY *other = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, NULL, public_key, 32);
  EVP_PKEY_CTX *context = own && other ? EVP_PKEY_CTX_new(own, NULL) : NULL;
  size_t size = 32;
  bool holds = context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, other) == 1;
  bool is_sound = holds && EVP_PKEY_derive(context, shared, &size) == 1 && size == 32 && CRYPTO_memcmp(shared, ZEROS, 32);
  EVP_PKEY_CTX_free(context);
  EVP_PKEY_free(other);
  EVP_PKEY_free(own);
  FK_TRY(done(holds, error));
  if (is_sound) return FK_OK;
  return fk_fail(error, FK_ROSTER_REFUSED, "a neighbour has a public key of small order: anyone could know the shared value");
}

fk_status fk_sign(const uint8_t private_key[32], fk_bytes body, uint8_t signature[64], fk_error *error) {
  ERR_set_mark();
  EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, 32);
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  size_t size = 64;
  bool holds = key && context && EVP_DigestSignInit(context, NULL, NULL, NULL, key) == 1 &&
               EVP_DigestSign(context, signature, &size, body.data, body.size) == 1 && size == 64;
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(key);
  return done(holds, error);
}

bool fk_has_small_order(const uint8_t public_key[32]) {
  /* The y of each point of order 1, 2, 4 or 8, little-endian, also where it is written as y + p; the sign's bit apart.
   * Source: the encodings that libsodium's ge25519_has_small_order refuses. */
  static const uint8_t EIGHTH[2][32] = {
      {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
       0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
      {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
       0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}};
  uint8_t y[32];
  memcpy(y, public_key, 32);
  y[31] &= 0x7f;
  if (memcmp(y, EIGHTH[0], 32) == 0 || memcmp(y, EIGHTH[1], 32) == 0) return true;
  bool is_low = y[0] <= 1 && y[31] == 0, is_high = y[0] >= 0xec && y[0] <= 0xee && y[31] == 0x7f;
  for (size_t i = 1; i < 31; i += 1) {
    is_low = is_low && y[i] == 0;
    is_high = is_high && y[i] == 0xff;
  }
  return is_low || is_high;
}

fk_status fk_is_signed(const uint8_t *signature, const uint8_t public_key[32], fk_bytes body, bool *is_signed, fk_error *error) {
  *is_signed = false;
  if (fk_has_small_order(public_key)) return FK_OK;
  ERR_set_mark();
  EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, 32);
  EVP_MD_CTX *context = EVP_MD_CTX_new();
  bool holds = key && context && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1;
  *is_signed = holds && EVP_DigestVerify(context, signature, FK_SIGNATURE_BYTES, body.data, body.size) == 1;
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(key);
  return done(holds, error);
}

static fk_status seal_by(const EVP_CIPHER *cipher, const uint8_t *key, const uint8_t nonce[12], fk_bytes bound,
                         fk_bytes plain, uint8_t *sealed, fk_error *error) {
  ERR_set_mark();
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  int size = 0;
  bool holds = context && bound.size < MOST_BYTES && plain.size < MOST_BYTES &&
               EVP_EncryptInit_ex(context, cipher, NULL, key, nonce) == 1 &&
               EVP_EncryptUpdate(context, NULL, &size, bound.data, (int)bound.size) == 1 &&
               EVP_EncryptUpdate(context, sealed, &size, plain.data, (int)plain.size) == 1 && (size_t)size == plain.size &&
               EVP_EncryptFinal_ex(context, sealed + size, &size) == 1 &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, GCM_TAG_BYTES, sealed + plain.size) == 1;
  EVP_CIPHER_CTX_free(context);
  return done(holds, error);
}

fk_status fk_seal(const uint8_t key[32], const uint8_t nonce[12], fk_bytes bound, fk_bytes plain, uint8_t *sealed, fk_error *error) {
  return seal_by(EVP_aes_256_gcm(), key, nonce, bound, plain, sealed, error);
}

fk_status fk_seal_128(const uint8_t key[16], const uint8_t nonce[12], fk_bytes bound, fk_bytes plain, uint8_t *sealed, fk_error *error) {
  return seal_by(EVP_aes_128_gcm(), key, nonce, bound, plain, sealed, error);
}

fk_status fk_unseal(const uint8_t key[32], const uint8_t nonce[12], fk_bytes bound, fk_bytes sealed, uint8_t *plain,
                    bool *is_open, fk_error *error) {
  *is_open = false;
  if (sealed.size < GCM_TAG_BYTES || sealed.size > MOST_BYTES || bound.size > MOST_BYTES) return FK_OK;
  size_t length = sealed.size - GCM_TAG_BYTES;
  uint8_t tag[GCM_TAG_BYTES];
  memcpy(tag, sealed.data + length, sizeof tag);
  ERR_set_mark();
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  int size = 0;
  bool holds = context && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
               EVP_DecryptUpdate(context, NULL, &size, bound.data, (int)bound.size) == 1 &&
               EVP_DecryptUpdate(context, plain, &size, sealed.data, (int)length) == 1 && (size_t)size == length &&
               EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_SET_TAG, GCM_TAG_BYTES, tag) == 1;
  *is_open = holds && EVP_DecryptFinal_ex(context, plain + size, &size) == 1;
  if (!*is_open) OPENSSL_cleanse(plain, length);
  EVP_CIPHER_CTX_free(context);
  return done(holds, error);
}
