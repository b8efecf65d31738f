/* The client's role in the split sum, as orchestrator/split/client.py: it masks its vector, and seals the mask's seed for
 * each helper, in one message. */
#include <string.h>

#include "fk_protocol_parts.h"

#define TAG(name) "split/1/" name
#define PREFIX "fedkeys split sum 1 "
#define MOST_TERMS_BYTES 256

typedef struct {
  const uint8_t *run, *helpers;
  uint32_t round_num, group, max_staleness, num_slots, min_contributions;
} fk_terms;

static fk_bytes text(const char *literal, size_t size) { return (fk_bytes){(const uint8_t *)literal, size}; }
#define TEXT(literal) text(literal, sizeof literal) /* with its 0, which belongs to it */

static fk_status read_terms(fk_bytes wire, fk_terms *found, fk_error *error) {
  fk_reader reader = {wire.data, wire.size, 0, false};
  if (wire.size > MOST_TERMS_BYTES) {
    return fk_fail(error, FK_MALFORMED_MESSAGE, "RoundTerms: %zu bytes, at most %d allowed", wire.size, MOST_TERMS_BYTES);
  }
  fk_read_message(&reader, TAG("RoundTerms"), 7, 7);
  found->run = fk_read_bytes(&reader, 32, 32).data;
  found->round_num = fk_read_uint(&reader, 0, UINT32_MAX);
  found->group = fk_read_uint(&reader, 0, UINT32_MAX);
  found->max_staleness = fk_read_uint(&reader, 0, UINT32_MAX);
  found->num_slots = fk_read_uint(&reader, 1, (1u << 29) - 1);
  found->min_contributions = fk_read_uint(&reader, 1, UINT32_MAX);
  found->helpers = fk_read_bytes(&reader, 32, 32).data;
  if (fk_read_end(&reader)) return FK_OK;
  return fk_fail(error, FK_MALFORMED_MESSAGE, "RoundTerms: %zu bytes that are not such a message", wire.size);
}

static fk_status check_told(const fk_terms *terms, const fk_told *told, fk_error *error) {
  if (memcmp(terms->run, told->run, 32) != 0 || terms->group >= told->num_groups) {
    return fk_fail(error, FK_FOREIGN_ROUND, "round %u: the terms name another run, or a group that it does not have",
                   terms->round_num);
  }
  if (terms->max_staleness > 0) {
    return fk_fail(error, FK_FOREIGN_ROUND,
                   "round %u: the terms allow weights %u rounds old, this client 0: others could have been told something else",
                   terms->round_num, terms->max_staleness);
  }
  if (told->version == terms->round_num) return FK_OK;
  return fk_fail(error, FK_FOREIGN_ROUND, "round %u: the terms do not allow the weights of round %u", terms->round_num,
                 told->version);
}

static fk_status check(const fk_splitter *client, const fk_terms *terms, size_t count, fk_error *error) {
  uint8_t digest[32];
  const fk_bytes parts[2] = {TEXT(PREFIX "helpers"), {(const uint8_t *)client->helpers, client->num_helpers * FK_KEY_BYTES}};
  FK_TRY(fk_sha256(parts, 2, digest, error));
  if (memcmp(terms->helpers, digest, sizeof digest) != 0) {
    return fk_fail(error, FK_FOREIGN_HELPER, "round %u: the terms name other helpers than the %zu of this client",
                   terms->round_num, client->num_helpers);
  }
  if (terms->min_contributions < client->min_contributions) {
    return fk_fail(error, FK_BELOW_THRESHOLD, "round %u: the terms allow a sum of %u, this client asks for at least %u",
                   terms->round_num, terms->min_contributions, client->min_contributions);
  }
  if (terms->round_num <= client->last_answered) {
    return fk_fail(error, FK_ROUND_ANSWERED, "round %u came before: a client is summed once in a round", terms->round_num);
  }
  if (count == terms->num_slots) return FK_OK;
  return fk_fail(error, FK_BAD_ARGUMENT, "vector must be uint32 [%u], got uint32 [%zu]", terms->num_slots, count);
}

static fk_status digest_terms(const fk_terms *terms, uint8_t digest[32], fk_error *error) {
  fk_buffer numbers = {0};
  fk_buffer_add_uint32(&numbers, terms->round_num);
  fk_buffer_add_uint32(&numbers, terms->group);
  fk_buffer_add_uint32(&numbers, terms->max_staleness);
  fk_buffer_add_uint32(&numbers, terms->num_slots);
  fk_buffer_add_uint32(&numbers, terms->min_contributions);
  const fk_bytes parts[4] = {TEXT(PREFIX "terms"), {terms->run, 32}, {numbers.data, numbers.size}, {terms->helpers, 32}};
  fk_status status = numbers.failed ? fk_no_memory(error) : fk_sha256(parts, 4, digest, error);
  fk_buffer_close(&numbers);
  return status;
}

/* Adds what a signature and a seal begin with: the purpose, the terms, the round, a number and what all were told. */
static void add_statement(fk_buffer *buffer, const char *purpose, const uint8_t terms[32], const fk_told *told, size_t number) {
  uint8_t octet = (uint8_t)number;
  fk_buffer_add_text(buffer, PREFIX);
  fk_buffer_add(buffer, purpose, strlen(purpose) + 1);
  fk_buffer_add(buffer, terms, 32);
  fk_buffer_add_uint32(buffer, told->version);
  fk_buffer_add(buffer, &octet, 1);
  fk_buffer_add(buffer, told->agreed, 32);
}

/* The words as they will travel, of which the digest is signed. */
static fk_status digest_words(const uint32_t *vector, size_t count, uint8_t digest[32], fk_error *error) {
  fk_buffer words = {0};
  fk_write_words(&words, vector, count);
  fk_status status = words.failed ? fk_no_memory(error) : FK_OK;
  if (status == FK_OK) { /* without the head */
    const fk_bytes body = {words.data + (words.size - 4 * count), 4 * count};
    status = fk_sha256(&body, 1, digest, error);
  }
  fk_buffer_close(&words);
  return status;
}

/* What is made for the upload, until it is written. */
typedef struct {
  uint8_t terms[32], words[32], signature[FK_SIGNATURE_BYTES];
  uint8_t seeds[FK_MOST_HELPERS][FK_SEED_BYTES];
  uint8_t sealed[FK_MOST_HELPERS][FK_SEALED_SEED_BYTES];
} fk_made;

static fk_status seal_seeds(const fk_splitter *client, const fk_told *told, fk_made *made, fk_error *error) {
  for (size_t i = 0; i < client->num_helpers; i += 1) {
    fk_buffer info = {0};
    add_statement(&info, "seed", made->terms, told, i);
    fk_buffer_add_text(&info, client->client_id);
    fk_bytes bound = {made->words, 32}, covered = {info.data, info.size};
    fk_status status = info.failed ? fk_no_memory(error)
                                   : fk_seal_seed(client->helpers[i], covered, made->seeds[i], bound, client->random, made->sealed[i], error);
    fk_buffer_close(&info);
    FK_TRY(status);
  }
  return FK_OK;
}

static fk_status sign_upload(const fk_splitter *client, const fk_told *told, fk_made *made, fk_error *error) {
  fk_buffer body = {0};
  fk_status status = FK_OK;
  add_statement(&body, "upload", made->terms, told, client->num_helpers);
  fk_buffer_add(&body, made->words, 32);
  for (size_t i = 0; status == FK_OK && i < client->num_helpers; i += 1) {
    uint8_t digest[32];
    const fk_bytes sealed = {made->sealed[i], FK_SEALED_SEED_BYTES};
    status = fk_sha256(&sealed, 1, digest, error);
    fk_buffer_add(&body, digest, sizeof digest);
  }
  fk_buffer_add_text(&body, client->client_id);
  if (status == FK_OK && body.failed) status = fk_no_memory(error);
  if (status == FK_OK) status = fk_sign(client->identity, (fk_bytes){body.data, body.size}, made->signature, error);
  fk_buffer_close(&body);
  return status;
}

static fk_status make(const fk_splitter *client, const fk_terms *terms, uint32_t *vector, size_t count, const fk_told *told,
                      fk_made *made, fk_error *error) {
  FK_TRY(digest_terms(terms, made->terms, error));
  for (size_t i = 0; i < client->num_helpers; i += 1) {
    FK_TRY(client->random.draw(client->random.context, made->seeds[i], FK_SEED_BYTES, error));
  }
  for (size_t i = 0; i < client->num_helpers; i += 1) FK_TRY(fk_add_mask(vector, count, made->seeds[i], false, error));
  FK_TRY(digest_words(vector, count, made->words, error));
  FK_TRY(seal_seeds(client, told, made, error));
  return sign_upload(client, told, made, error);
}

fk_status fk_split_mask(const fk_splitter *client, fk_bytes wire, uint32_t *vector, size_t count, const fk_told *told,
                        fk_buffer *answer, fk_error *error) {
  fk_terms terms = {0};
  fk_made made;
  FK_TRY(read_terms(wire, &terms, error));
  FK_TRY(check_told(&terms, told, error));
  FK_TRY(check(client, &terms, count, error));
  fk_status status = make(client, &terms, vector, count, told, &made, error);
  fk_wipe(made.seeds, sizeof made.seeds);
  FK_TRY(status);
  fk_write_message(answer, TAG("Upload"), 6);
  fk_write_bytes(answer, made.terms, 32);
  fk_write_text(answer, text(client->client_id, strlen(client->client_id)));
  fk_write_uint(answer, told->version);
  fk_write_array(answer, client->num_helpers);
  for (size_t i = 0; i < client->num_helpers; i += 1) fk_write_bytes(answer, made.sealed[i], FK_SEALED_SEED_BYTES);
  fk_write_bytes(answer, made.signature, FK_SIGNATURE_BYTES);
  fk_write_words(answer, vector, count);
  return answer->failed ? fk_no_memory(error) : FK_OK;
}
