/* Questions about single functions. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define IS(text) (strcmp(name, (text)) == 0)

static void reply_bytes(fk_status status, const fk_error *error, const void *data, size_t size) {
  if (status == FK_OK) reply_add(data, size);
  else reply_error(status, error);
}

static fk_status seal(const char *name, const frame *asked, fk_error *error) {
  uint8_t sealed[FK_SEALED_BYTES], plain[2 * FK_SHARE_BYTES];
  const uint8_t *channel = field_of(asked, 2, 32), *session = field_of(asked, 3, 32);
  uint32_t sender = uint_field(asked, 4), to = uint_field(asked, 5);
  bool is_open = true;
  if (IS("seal")) {
    FK_TRY(fk_seal_shares(field_of(asked, 1, sizeof plain), channel, session, sender, to, field_of(asked, 6, 12), sealed, error));
    reply_add(sealed, sizeof sealed);
    return FK_OK;
  }
  FK_TRY(fk_unseal_shares(field_of(asked, 1, sizeof sealed), channel, session, sender, to, plain, &is_open, error));
  reply_add(plain, is_open ? sizeof plain : 0);
  return FK_OK;
}

static fk_status mask(const frame *asked, fk_error *error) {
  uint32_t count = uint_field(asked, 2);
  uint32_t *words = fk_array(count, sizeof *words);
  if (!words) give_up("out of memory");
  fk_status status = fk_add_mask(words, count, field_of(asked, 1, 32), uint_field(asked, 3) != 0, error);
  fk_buffer written = {0};
  fk_write_words(&written, words, count);
  size_t head = written.size - 4 * (size_t)count;
  reply_add(written.data + head, written.size - head);
  fk_buffer_close(&written);
  free(words);
  return status;
}

static fk_status split(const frame *asked, fk_error *error) {
  uint32_t points[16];
  size_t count = asked->count - 4;
  uint8_t shares[16 * FK_SHARE_BYTES];
  recorded draws = record(field(asked, 3));
  for (size_t i = 0; i < count && i < 16; i += 1) points[i] = uint_field(asked, 4 + i);
  fk_status status = fk_split_secret(field_of(asked, 1, 32), uint_field(asked, 2), points, count, (fk_random){replay, &draws},
                                     shares, error);
  if (status == FK_OK) reply_add(shares, count * FK_SHARE_BYTES);
  free(draws.left);
  return status;
}

static fk_status bound(const frame *asked, fk_error *error) {
  fk_credentials everyone[4];
  uint8_t digest[32];
  size_t count = (asked->count - 3) / 4;
  for (size_t i = 0; i < count; i += 1) {
    everyone[i] = (fk_credentials){uint_field(asked, 3 + 4 * i), field_of(asked, 4 + 4 * i, 32), field_of(asked, 5 + 4 * i, 32),
                                   field_of(asked, 6 + 4 * i, 32), NULL};
  }
  FK_TRY(fk_bound_session(field_of(asked, 1, 32), field(asked, 2), everyone, count, digest, error));
  reply_add(digest, sizeof digest);
  return FK_OK;
}

static fk_status encode(const frame *asked, fk_error *error) {
  fk_encoder encoder;
  fk_bytes delta = field(asked, 4), draws = field(asked, 6);
  size_t dim = delta.size / 4;
  FK_TRY(fk_encoder_init(&encoder, number_field(asked, 1), uint_field(asked, 2), number_field(asked, 3), dim, error));
  recorded handed = record(draws);
  rounding own = {handed.left, draws.size, 0, draws.size ? number_field(asked, 7) : 0};
  float *aligned = fk_array(dim, sizeof *aligned);
  uint32_t *vector = fk_array(dim + 1, sizeof *vector);
  if (!aligned || !vector) give_up("out of memory");
  memcpy(aligned, delta.data, delta.size);
  fk_status status = fk_encode(&encoder, aligned, number_field(asked, 5), draws.size ? rounding_of(&own) : fk_secure_uniform(), vector, error);
  reply_add_number(encoder.bits);
  reply_add(vector, 4 * (dim + 1));
  free(vector);
  free(aligned);
  free(handed.left);
  return status;
}

static fk_status graph(const frame *asked, fk_error *error) {
  fk_policy policy = policy_field(asked, 2);
  fk_graph found;
  FK_TRY(fk_graph_for(uint_field(asked, 1), &policy, &found, error));
  reply_add_number(found.degree);
  reply_add_number(found.threshold);
  return FK_OK;
}

static fk_status context_of(const frame *asked) {
  uint32_t parties[2];
  char *purpose = text_field(asked, 1);
  fk_buffer buffer = {0};
  for (size_t i = 3; i < asked->count; i += 1) parties[i - 3] = uint_field(asked, i);
  fk_add_context(&buffer, purpose, field_of(asked, 2, 32), parties, asked->count - 3);
  reply_add(buffer.data, buffer.size);
  fk_buffer_close(&buffer);
  free(purpose);
  return FK_OK;
}

static fk_status self_mask(const frame *asked, uint8_t out[32], fk_error *error) {
  char *purpose = text_field(asked, 1);
  fk_status status = fk_of_self_mask(purpose, field_of(asked, 2, 32), field_of(asked, 3, 32), uint_field(asked, 4), out, error);
  free(purpose);
  return status;
}

/* Questions whose answer is a value of 16, 32 or 64 bytes; 0 for any other. */
static size_t value_of(const char *name, const frame *asked, uint8_t out[64], fk_status *status, fk_error *error) {
  fk_bytes body = asked->count > 1 ? field(asked, asked->count - 1) : (fk_bytes){0};
  if (IS("sha256")) return *status = fk_sha256(&body, 1, out, error), 32;
  if (IS("derive")) return *status = fk_derive(field_of(asked, 1, 32), body, out, error), 32;
  if (IS("x25519_public")) return *status = fk_x25519_public(field_of(asked, 1, 32), out, error), 32;
  if (IS("ed25519_public")) return *status = fk_ed25519_public(field_of(asked, 1, 32), out, error), 32;
  if (IS("x25519")) return *status = fk_x25519(field_of(asked, 1, 32), field_of(asked, 2, 32), out, error), 32;
  if (IS("sign")) return *status = fk_sign(field_of(asked, 1, 32), body, out, error), 64;
  if (IS("self_mask")) return *status = self_mask(asked, out, error), 32;
  if (IS("pair_mask_seed")) {
    *status = fk_pair_mask_seed(field_of(asked, 1, 32), field_of(asked, 2, 32), uint_field(asked, 3), uint_field(asked, 4), out, error);
    return 32;
  }
  if (!IS("share_tag")) return 0;
  *status = fk_share_tag(field_of(asked, 1, FK_SHARE_BYTES), field_of(asked, 2, 32), uint_field(asked, 3), uint_field(asked, 4), out, error);
  return FK_TAG_BYTES;
}

static fk_status is_signed(const frame *asked, fk_error *error) {
  bool holds;
  FK_TRY(fk_is_signed(field_of(asked, 1, 64), field_of(asked, 2, 32), field(asked, 3), &holds, error));
  reply_add_number(holds);
  return FK_OK;
}

bool primitives_part(const char *name, const frame *asked) {
  fk_error error = {0};
  uint8_t out[64];
  fk_status status = FK_OK;
  size_t size = value_of(name, asked, out, &status, &error);
  if (size) reply_bytes(status, &error, out, size);
  else if (IS("is_signed")) status = is_signed(asked, &error);
  else if (IS("seal") || IS("unseal")) status = seal(name, asked, &error);
  else if (IS("mask")) status = mask(asked, &error);
  else if (IS("split")) status = split(asked, &error);
  else if (IS("bound")) status = bound(asked, &error);
  else if (IS("encode")) status = encode(asked, &error);
  else if (IS("graph")) status = graph(asked, &error);
  else if (IS("context")) status = context_of(asked);
  else if (IS("fewest")) reply_add_number(fk_fewest_survivors(uint_field(asked, 1), number_field(asked, 2)));
  else return false;
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
