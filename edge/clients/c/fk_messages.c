/* The messages of server and client around those of secure aggregation, as orchestrator/network/messages.py. */
#include <stdlib.h>
#include <string.h>

#include "../../conformance/settings.h"
#include "fk_protocol_parts.h"

#define TAG(name) "network/" FK_NETWORK_VERSION "/" name

static fk_bytes text(const char *literal, size_t size) { return (fk_bytes){(const uint8_t *)literal, size}; }

/* Reads a message's tag; a reader that is bad then stands at another message. */
static fk_reader begin(fk_bytes wire, const char *tag, size_t least_fields, size_t most_fields, size_t *num_fields) {
  fk_reader reader = {wire.data, wire.size, 0, wire.size > FK_MAX_BYTES};
  *num_fields = fk_read_message(&reader, tag, least_fields, most_fields);
  return reader;
}

static bool read_setup(fk_bytes wire, fk_to_client *found, bool *has_failed) {
  size_t count;
  fk_reader reader = begin(wire, TAG("Setup"), 2, 2, &count);
  found->kind = FK_SETUP;
  found->body = fk_read_bytes(&reader, 0, SIZE_MAX);
  count = fk_read_list(&reader, 1);
  if (reader.bad) return false;
  found->words = fk_array(count, sizeof *found->words);
  *has_failed = !found->words;
  if (!found->words) return false;
  found->num_words = count;
  for (size_t i = 0; i < count; i += 1) {
    fk_bytes word = fk_read_text(&reader, 0, SIZE_MAX);
    found->words[i] = (fk_word){(const char *)word.data, word.size};
  }
  return fk_read_end(&reader);
}

static bool read_plan(fk_bytes wire, fk_to_client *found) {
  size_t count;
  fk_reader reader = begin(wire, TAG("Plan"), 3, 4, &count);
  found->kind = FK_PLAN;
  found->round_num = fk_read_uint(&reader, 0, UINT32_MAX);
  found->learning_rate = fk_read_float(&reader);
  found->body = fk_read_bytes(&reader, 0, SIZE_MAX);
  if (count == 4) found->terms = fk_read_bytes(&reader, 0, SIZE_MAX);
  return fk_read_end(&reader);
}

static bool read_step(fk_bytes wire, fk_to_client *found) {
  size_t count;
  fk_reader reader = begin(wire, TAG("Step"), 3, 3, &count);
  found->kind = FK_STEP;
  found->round_num = fk_read_uint(&reader, 0, UINT32_MAX);
  found->text = fk_read_text(&reader, 1, 32);
  found->body = fk_read_bytes(&reader, 0, SIZE_MAX);
  return fk_read_end(&reader);
}

static bool read_goodbye(fk_bytes wire, fk_to_client *found) {
  size_t count;
  fk_reader reader = begin(wire, TAG("Goodbye"), 1, 1, &count);
  found->kind = FK_GOODBYE;
  found->text = fk_read_text(&reader, 0, 300);
  return fk_read_end(&reader);
}

fk_status fk_read_to_client(fk_bytes wire, fk_to_client *found, fk_error *error) {
  bool has_failed = false;
  *found = (fk_to_client){0};
  if (read_plan(wire, found) || read_step(wire, found) || read_goodbye(wire, found)) return FK_OK;
  if (read_setup(wire, found, &has_failed)) return FK_OK;
  if (has_failed) return fk_no_memory(error);
  return fk_fail(error, FK_WIRE_ERROR, "%zu bytes that are no message of fedkeys' network version " FK_NETWORK_VERSION, wire.size);
}

void fk_write_join(fk_buffer *buffer, const char *client_id, const uint8_t signature[64]) {
  fk_write_message(buffer, TAG("Join"), 2);
  fk_write_text(buffer, text(client_id, strlen(client_id)));
  fk_write_bytes(buffer, signature, FK_SIGNATURE_BYTES);
}

void fk_write_answer(fk_buffer *buffer, uint32_t round_num, fk_bytes stage, fk_bytes body) {
  fk_write_message(buffer, TAG("Answer"), 3);
  fk_write_uint(buffer, round_num);
  fk_write_text(buffer, stage);
  fk_write_bytes(buffer, body.data, body.size);
}

void fk_write_decline(fk_buffer *buffer, uint32_t round_num, fk_bytes stage, const char *reason) {
  fk_write_message(buffer, TAG("Decline"), 3);
  fk_write_uint(buffer, round_num);
  fk_write_text(buffer, stage);
  fk_write_text(buffer, text(reason, strlen(reason)));
}

fk_status fk_agreed_digest(fk_bytes setup, fk_bytes plan, uint8_t digest[32], fk_error *error) {
  static const char PURPOSE[] = "fedkeys network 1 agreed"; /* with its 0, which belongs to it */
  uint8_t of_setup[32], of_plan[32];
  FK_TRY(fk_sha256(&setup, 1, of_setup, error));
  FK_TRY(fk_sha256(&plan, 1, of_plan, error));
  const fk_bytes parts[3] = {text(PURPOSE, sizeof PURPOSE), {of_setup, 32}, {of_plan, 32}};
  return fk_sha256(parts, 3, digest, error);
}

void fk_add_proof(fk_buffer *buffer, fk_bytes nonce, const char *client_id) {
  static const char PURPOSE[] = "fedkeys network 1 join";
  fk_buffer_add(buffer, PURPOSE, sizeof PURPOSE);
  fk_buffer_add(buffer, nonce.data, nonce.size);
  fk_buffer_add_text(buffer, client_id);
}
