/* Seals a seed for the holder of a public key: HPKE's base mode (RFC 9180, sections 4.1, 5.1 and 6.1), one message for each
 * key that it derives, as orchestrator/split/hpke.py. The suite is DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM.
 * libcrypto has HPKE from version 3.2 on; Debian 12, and phones, have older ones. */
#include <string.h>

#include "fk_protocol_parts.h"

static const uint8_t KEM_SUITE[] = {'K', 'E', 'M', 0, 0x20};
static const uint8_t SUITE[] = {'H', 'P', 'K', 'E', 0, 0x20, 0, 1, 0, 1};

/* The secret that what follows derives from, and the suite that all is bound to. */
typedef struct {
  fk_bytes suite;
  uint8_t secret[32];
} fk_schedule;

static fk_status mac_of(fk_bytes key, const uint8_t *head, size_t head_size, fk_bytes suite, const char *label, fk_bytes data,
                        bool is_block, uint8_t mac[32], fk_error *error) {
  fk_buffer labelled = {0};
  fk_buffer_add(&labelled, head, head_size);
  fk_buffer_add_text(&labelled, "HPKE-v1");
  fk_buffer_add(&labelled, suite.data, suite.size);
  fk_buffer_add_text(&labelled, label);
  fk_buffer_add(&labelled, data.data, data.size);
  if (is_block) fk_buffer_add(&labelled, "\1", 1);
  fk_bytes whole = {labelled.data, labelled.size};
  fk_status status = labelled.failed ? fk_no_memory(error) : fk_hmac(key, whole, mac, error);
  fk_buffer_close(&labelled);
  return status;
}

/* LabeledExtract of section 4. */
static fk_status extract(fk_bytes suite, fk_bytes salt, const char *label, fk_bytes secret, uint8_t out[32], fk_error *error) {
  return mac_of(salt, NULL, 0, suite, label, secret, false, out, error);
}

/* LabeledExpand of section 4, of at most 32 bytes: HKDF-Expand's first block is enough. */
static fk_status expand(const fk_schedule *from, const char *label, fk_bytes info, uint8_t *out, uint8_t size, fk_error *error) {
  const uint8_t head[2] = {0, size};
  uint8_t block[32];
  fk_status status = mac_of(FK_VIEW(from->secret), head, sizeof head, from->suite, label, info, true, block, error);
  if (status == FK_OK) memcpy(out, block, size);
  fk_wipe(block, sizeof block);
  return status;
}

/* ExtractAndExpand of section 4.1. */
static fk_status of_kem(const uint8_t shared[32], const uint8_t keys[64], uint8_t secret[32], fk_error *error) {
  fk_schedule kem = {.suite = FK_VIEW(KEM_SUITE)};
  fk_status status = extract(kem.suite, (fk_bytes){0}, "eae_prk", (fk_bytes){shared, 32}, kem.secret, error);
  if (status == FK_OK) status = expand(&kem, "shared_secret", (fk_bytes){keys, 64}, secret, 32, error);
  fk_wipe(&kem, sizeof kem);
  return status;
}

/* KeySchedule of section 5.1 in base mode, for the first and only message: the key, then the nonce. */
static fk_status of_schedule(const uint8_t secret[32], fk_bytes info, uint8_t key[16], uint8_t nonce[12], fk_error *error) {
  fk_schedule own = {.suite = FK_VIEW(SUITE)};
  uint8_t context[1 + 32 + 32] = {0}; /* base mode, no PSK, info */
  fk_status status = extract(own.suite, (fk_bytes){0}, "psk_id_hash", (fk_bytes){0}, context + 1, error);
  if (status == FK_OK) status = extract(own.suite, (fk_bytes){0}, "info_hash", info, context + 33, error);
  if (status == FK_OK) status = extract(own.suite, (fk_bytes){secret, 32}, "secret", (fk_bytes){0}, own.secret, error);
  if (status == FK_OK) status = expand(&own, "key", FK_VIEW(context), key, 16, error);
  if (status == FK_OK) status = expand(&own, "base_nonce", FK_VIEW(context), nonce, 12, error);
  fk_wipe(&own, sizeof own);
  return status;
}

fk_status fk_seal_seed(const uint8_t public_key[32], fk_bytes info, const uint8_t seed[FK_SEED_BYTES], fk_bytes bound,
                       fk_random random, uint8_t sealed[FK_SEALED_SEED_BYTES], fk_error *error) {
  uint8_t own[32], shared[32], secret[32], key[16], nonce[12], keys[64];
  fk_status status = random.draw(random.context, own, sizeof own, error);
  if (status == FK_OK) status = fk_x25519_public(own, sealed, error);
  if (status == FK_OK) status = fk_x25519(own, public_key, shared, error);
  if (status == FK_OK) {
    memcpy(keys, sealed, 32);
    memcpy(keys + 32, public_key, 32);
    status = of_kem(shared, keys, secret, error);
  }
  if (status == FK_OK) status = of_schedule(secret, info, key, nonce, error);
  if (status == FK_OK) status = fk_seal_128(key, nonce, bound, (fk_bytes){seed, FK_SEED_BYTES}, sealed + 32, error);
  fk_wipe(own, sizeof own);
  fk_wipe(shared, sizeof shared);
  fk_wipe(secret, sizeof secret);
  fk_wipe(key, sizeof key);
  return status;
}
