/* The keys, seals and signatures of secure aggregation, as orchestrator/secagg/keys.py. Each names its purpose, its session
 * and its parties, so that a value from one place, session or pair is useless in another. */
#include <stdlib.h>
#include <string.h>

#include "fk_protocol_parts.h"

static fk_bytes view(const fk_buffer *buffer) { return (fk_bytes){buffer->data, buffer->size}; }

static fk_bytes text(const char *literal, size_t size) { return (fk_bytes){(const uint8_t *)literal, size}; }
#define TEXT(literal) text(literal, sizeof literal) /* with its 0, which belongs to it */

void fk_add_context(fk_buffer *buffer, const char *purpose, const uint8_t session[32], const uint32_t *parties, size_t count) {
  fk_buffer_add_text(buffer, "fedkeys secagg 1 ");
  fk_buffer_add(buffer, purpose, strlen(purpose) + 1);
  fk_buffer_add(buffer, session, FK_SESSION_BYTES);
  for (size_t i = 0; i < count; i += 1) fk_buffer_add_uint32(buffer, parties[i]);
}

fk_status fk_session_of(const fk_invitation *invitation, uint8_t session[32], fk_error *error) {
  const fk_invitation *of = invitation;
  const uint32_t numbers[6] = {of->round_num, of->num_clients, of->degree, of->threshold, of->min_survivors, of->num_slots};
  fk_buffer parameters = {0};
  for (size_t i = 0; i < 6; i += 1) fk_buffer_add_uint32(&parameters, numbers[i]);
  const fk_bytes parts[3] = {TEXT("fedkeys secagg 1 session"), {of->nonce, FK_NONCE_BYTES}, view(&parameters)};
  fk_status status = parameters.failed ? fk_no_memory(error) : fk_sha256(parts, 3, session, error);
  fk_buffer_close(&parameters);
  return status;
}

static int by_index(const void *one, const void *other) {
  uint32_t first = ((const fk_credentials *)one)->index, second = ((const fk_credentials *)other)->index;
  return (first > second) - (first < second);
}

fk_status fk_bound_session(const uint8_t session[32], fk_bytes agreed, fk_credentials *everyone, size_t count,
                           uint8_t bound[32], fk_error *error) {
  uint8_t digest[32];
  fk_buffer keys = {0};
  FK_TRY(fk_sha256(&agreed, 1, digest, error));
  qsort(everyone, count, sizeof *everyone, by_index);
  for (size_t i = 0; i < count; i += 1) {
    fk_buffer_add_uint32(&keys, everyone[i].index);
    fk_buffer_add(&keys, everyone[i].identity, FK_KEY_BYTES);
    fk_buffer_add(&keys, everyone[i].channel_key, FK_KEY_BYTES);
    fk_buffer_add(&keys, everyone[i].mask_key, FK_KEY_BYTES);
  }
  const fk_bytes parts[4] = {TEXT("fedkeys secagg 1 bound"), {session, FK_SESSION_BYTES}, FK_VIEW(digest), view(&keys)};
  fk_status status = keys.failed ? fk_no_memory(error) : fk_sha256(parts, 4, bound, error);
  fk_buffer_close(&keys);
  return status;
}

/* Derives from a secret for a purpose between parties. */
static fk_status derive(const uint8_t secret[32], const char *purpose, const uint8_t session[32], const uint32_t *parties,
                        size_t count, uint8_t derived[32], fk_error *error) {
  fk_buffer info = {0};
  fk_add_context(&info, purpose, session, parties, count);
  fk_status status = info.failed ? fk_no_memory(error) : fk_derive(secret, view(&info), derived, error);
  fk_buffer_close(&info);
  return status;
}

fk_status fk_pair_mask_seed(const uint8_t shared[32], const uint8_t session[32], uint32_t one, uint32_t other,
                            uint8_t seed[32], fk_error *error) {
  const uint32_t parties[2] = {one < other ? one : other, one < other ? other : one};
  return derive(shared, "pair mask", session, parties, 2, seed, error);
}

fk_status fk_of_self_mask(const char *purpose, const uint8_t secret[32], const uint8_t session[32], uint32_t owner,
                          uint8_t derived[32], fk_error *error) {
  return derive(secret, purpose, session, &owner, 1, derived, error);
}

fk_status fk_share_tag(const uint8_t share[FK_SHARE_BYTES], const uint8_t session[32], uint32_t owner, uint32_t holder,
                       uint8_t tag[FK_TAG_BYTES], fk_error *error) {
  const uint32_t parties[2] = {owner, holder};
  uint8_t digest[32];
  fk_buffer context = {0};
  fk_add_context(&context, "share tag", session, parties, 2);
  const fk_bytes parts[2] = {view(&context), {share, FK_SHARE_BYTES}};
  fk_status status = context.failed ? fk_no_memory(error) : fk_sha256(parts, 2, digest, error);
  fk_buffer_close(&context);
  if (status == FK_OK) memcpy(tag, digest, FK_TAG_BYTES);
  return status;
}

fk_status fk_seal_shares(const uint8_t plain[2 * FK_SHARE_BYTES], const uint8_t channel[32], const uint8_t session[32],
                         uint32_t sender, uint32_t to, const uint8_t nonce[FK_SEAL_NONCE_BYTES],
                         uint8_t sealed[FK_SEALED_BYTES], fk_error *error) {
  const uint32_t parties[2] = {sender, to};
  uint8_t key[32];
  fk_buffer info = {0};
  fk_add_context(&info, "shares", session, parties, 2);
  fk_status status = info.failed ? fk_no_memory(error) : fk_derive(channel, view(&info), key, error);
  if (status == FK_OK) {
    memcpy(sealed, nonce, FK_SEAL_NONCE_BYTES);
    status = fk_seal(key, nonce, view(&info), (fk_bytes){plain, 2 * FK_SHARE_BYTES}, sealed + FK_SEAL_NONCE_BYTES, error);
  }
  fk_wipe(key, sizeof key);
  fk_buffer_close(&info);
  return status;
}

fk_status fk_unseal_shares(const uint8_t sealed[FK_SEALED_BYTES], const uint8_t channel[32], const uint8_t session[32],
                           uint32_t sender, uint32_t to, uint8_t plain[2 * FK_SHARE_BYTES], bool *is_open, fk_error *error) {
  const uint32_t parties[2] = {sender, to};
  const fk_bytes whole = {sealed + FK_SEAL_NONCE_BYTES, FK_SEALED_BYTES - FK_SEAL_NONCE_BYTES};
  uint8_t key[32];
  fk_buffer info = {0};
  *is_open = false;
  fk_add_context(&info, "shares", session, parties, 2);
  fk_status status = info.failed ? fk_no_memory(error) : fk_derive(channel, view(&info), key, error);
  if (status == FK_OK) status = fk_unseal(key, sealed, view(&info), whole, plain, is_open, error);
  fk_wipe(key, sizeof key);
  fk_buffer_close(&info);
  return status;
}

/* What a signature covers: purpose, session, sender and body. */
static fk_status signed_bytes(fk_buffer *buffer, const char *purpose, const uint8_t session[32], uint32_t sender,
                              fk_bytes body, fk_error *error) {
  fk_add_context(buffer, purpose, session, &sender, 1);
  fk_buffer_add(buffer, body.data, body.size);
  return buffer->failed ? fk_no_memory(error) : FK_OK;
}

fk_status fk_sign_as(const uint8_t identity[32], const char *purpose, const uint8_t session[32], uint32_t sender,
                     fk_bytes body, uint8_t signature[64], fk_error *error) {
  fk_buffer covered = {0};
  fk_status status = signed_bytes(&covered, purpose, session, sender, body, error);
  if (status == FK_OK) status = fk_sign(identity, view(&covered), signature, error);
  fk_buffer_close(&covered);
  return status;
}

fk_status fk_is_signed_by(const uint8_t *signature, const uint8_t identity[32], const char *purpose,
                          const uint8_t session[32], uint32_t sender, fk_bytes body, bool *is_signed, fk_error *error) {
  fk_buffer covered = {0};
  *is_signed = false;
  fk_status status = signed_bytes(&covered, purpose, session, sender, body, error);
  if (status == FK_OK) status = fk_is_signed(signature, identity, view(&covered), is_signed, error);
  fk_buffer_close(&covered);
  return status;
}
