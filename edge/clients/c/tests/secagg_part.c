/* Questions to one client of secure aggregation. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define IS(text) (strcmp(name, (text)) == 0)

static fk_secagg client;
static fk_seen_sessions seen;
static uint8_t identity[32], public_key[32];
static uint8_t *enrolled;
static recorded draws;

void secagg_end(void) {
  fk_secagg_close(&client);
  free(seen.names);
  free(enrolled);
  free(draws.left);
  seen = (fk_seen_sessions){0};
  enrolled = NULL;
  draws = (recorded){0};
}

/* Fields: identity, enrolled keys (sorted), agreed, draws, policy. */
static fk_status begin(const frame *asked, bool keeps_sessions, fk_error *error) {
  fk_seen_sessions kept = seen;
  if (keeps_sessions) seen = (fk_seen_sessions){0};
  secagg_end();
  if (keeps_sessions) seen = kept;
  fk_bytes keys = field(asked, 2);
  draws = record(field(asked, 4));
  enrolled = malloc(keys.size + 1);
  if (!enrolled) give_up("out of memory");
  memcpy(enrolled, keys.data, keys.size);
  memcpy(identity, field_of(asked, 1, 32), 32);
  FK_TRY(fk_ed25519_public(identity, public_key, error));
  client = (fk_secagg){
      .identity = identity,
      .public_key = public_key,
      .enrolled = {enrolled, keys.size / 32},
      .policy = policy_field(asked, 5),
      .seen = &seen,
      .random = {replay, &draws},
  };
  memcpy(client.agreed, field_of(asked, 3, 32), 32);
  return FK_OK;
}

static fk_status step(const char *stage, fk_bytes wire, fk_bytes vector, fk_buffer *answer, fk_error *error) {
  if (strcmp(stage, "advertise") == 0) return fk_secagg_advertise(&client, wire, answer, error);
  if (strcmp(stage, "shares") == 0) return fk_secagg_share(&client, wire, answer, error);
  if (strcmp(stage, "consistency") == 0) return fk_secagg_consent(&client, wire, answer, error);
  if (strcmp(stage, "unmask") == 0) return fk_secagg_unmask(&client, wire, answer, error);
  uint32_t *words = malloc(vector.size + 1);
  if (!words) give_up("out of memory");
  memcpy(words, vector.data, vector.size);
  fk_status status = fk_secagg_mask(&client, wire, words, vector.size / 4, answer, error);
  free(words);
  return status;
}

/* Fields: the stage, the message, the vector. */
static fk_status answer_to(const frame *asked, fk_error *error) {
  char *stage = text_field(asked, 1);
  fk_bytes wire = field(asked, 2);
  uint8_t *exact = malloc(wire.size ? wire.size : 1); /* of its very length: a sanitizer sees a byte too far */
  fk_buffer answer = {0};
  if (!exact) give_up("out of memory");
  memcpy(exact, wire.data, wire.size);
  fk_status status = step(stage, (fk_bytes){exact, wire.size}, field(asked, 3), &answer, error);
  free(exact);
  free(stage);
  if (status != FK_OK && answer.size) give_up("a refusal with an answer");
  reply_add(answer.data, answer.size);
  fk_buffer_close(&answer);
  return status;
}

/* Whether nothing is left of what must not outlive the session. */
static bool has_forgotten(void) {
  static const uint8_t ZEROS[32] = {0};
  return memcmp(client.channel_private, ZEROS, 32) == 0 && memcmp(client.mask_private, ZEROS, 32) == 0 &&
         memcmp(client.secret, ZEROS, 32) == 0 && client.neighbours.list == NULL;
}

bool secagg_part(const char *name, const frame *asked) {
  fk_error error = {0};
  fk_status status = FK_OK;
  if (IS("secagg") || IS("secagg again")) status = begin(asked, IS("secagg again"), &error);
  else if (IS("step")) status = answer_to(asked, &error);
  else if (IS("state")) {
    reply_add_number(client.state);
    reply_add_number(has_forgotten());
    reply_add_number((double)(draws.size - draws.at));
  } else return false;
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
