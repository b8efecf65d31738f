/* Who may take part, as the operator signs it, as orchestrator/network/roster.py: what the signature covers, and which
 * rosters a client refuses. */
#include <stdlib.h>
#include <string.h>

#include "fk_digest.h"
#include "fk_protocol_parts.h"

#define PREFIX "fedkeys network 1 "
#define ASK "ask the operator for the newest one"
#define MOST_NAME 64
#define ID_BYTES 16

struct fk_signed_roster {
  fk_enrolled *clients; /* by their names */
  size_t count;
  char *names;
  uint8_t helpers[FK_MOST_HELPERS][FK_KEY_BYTES];
  size_t num_helpers;
  uint8_t roster_id[ID_BYTES], signature[FK_SIGNATURE_BYTES];
  uint32_t schema, number;
  bool has_failed; /* for want of memory */
};

/* ---- reading ---- */

bool fk_read_hex(fk_value value, uint8_t *bytes, size_t size) {
  const char *text;
  size_t length;
  if (value.at == value.end || *value.at != '"' || !fk_value_string(value, &text, &length)) return false;
  for (size_t i = 0; i < length; i += 1) {
    if (text[i] >= 'A' && text[i] <= 'F') return false;
  }
  return fk_from_hex(text, length, bytes, size);
}

static bool read_uint32(fk_value value, uint32_t *number) {
  double found;
  if (!fk_value_number(value, &found) || !fk_is_integer(value) || !(found >= 1 && found <= UINT32_MAX)) return false;
  *number = (uint32_t)found;
  return true;
}

static bool is_name(const char *name, size_t size) {
  if (size < 1 || size > MOST_NAME) return false;
  for (size_t i = 0; i < size; i += 1) {
    char c = name[i];
    bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    if (!is_letter && !(i > 0 && (c == '.' || c == '-'))) return false;
  }
  return true;
}

/* Reads the names and the keys of the clients. */
static bool read_clients(fk_signed_roster *roster, fk_value object) {
  const char *key;
  size_t size, at = 0;
  fk_value value, again = object;
  if (object.at == object.end || *object.at != '{' || roster->clients) return false;
  while (fk_value_next(&again, &key, &size, &value)) roster->count += 1;
  if (roster->count > FK_MAX_CLIENTS) return false;
  roster->clients = fk_array(roster->count, sizeof *roster->clients);
  roster->names = fk_array((size_t)(object.end - object.at), 1); /* a name takes two quotes more than here */
  roster->has_failed = !roster->clients || !roster->names;
  if (roster->has_failed) return false;
  for (size_t i = 0; i < roster->count && fk_value_next(&object, &key, &size, &value); i += 1) {
    fk_enrolled *client = &roster->clients[i];
    if (!fk_read_hex(value, client->public_key, FK_KEY_BYTES) || fk_has_small_order(client->public_key)) return false;
    memcpy(roster->names + at, key, size);
    client->client_id = roster->names + at;
    at += size + 1; /* behind it stands a 0 */
  }
  return true;
}

static bool read_helpers(fk_signed_roster *roster, fk_value list) {
  const char *at = list.at, *text;
  size_t length;
  if (at == list.end || *at != '[' || roster->num_helpers) return false;
  at += 1;
  for (;;) {
    while (at < list.end && strchr(" \t\r\n,", *at) && *at) at += 1; /* it is JSON: commas stand where they must */
    if (at == list.end || *at == ']') return at < list.end;
    fk_value item = {at, list.end};
    if (roster->num_helpers == FK_MOST_HELPERS || !fk_read_hex(item, roster->helpers[roster->num_helpers], FK_KEY_BYTES)) return false;
    roster->num_helpers += 1;
    fk_value_string(item, &text, &length);
    at = text + length + 1;
  }
}

enum { HAS_SCHEMA = 1, HAS_CLIENTS = 2, HAS_ID = 4, HAS_NUMBER = 8, HAS_HELPERS = 16, HAS_SIGNATURE = 32 };

/* Reads the fields, each once; returns which were there, and 0 if one is wrong. */
static unsigned read_fields(fk_signed_roster *roster, fk_value root) {
  const char *key;
  size_t size;
  fk_value value;
  unsigned found = 0;
  while (fk_value_next(&root, &key, &size, &value)) {
    unsigned field = fk_value_is(key, size, "schema")    ? HAS_SCHEMA
                     : fk_value_is(key, size, "clients")   ? HAS_CLIENTS
                     : fk_value_is(key, size, "roster_id") ? HAS_ID
                     : fk_value_is(key, size, "number")    ? HAS_NUMBER
                     : fk_value_is(key, size, "helpers")   ? HAS_HELPERS
                     : fk_value_is(key, size, "signature") ? HAS_SIGNATURE
                                                           : 0;
    bool holds = (field == HAS_SCHEMA && read_uint32(value, &roster->schema)) ||
                 (field == HAS_CLIENTS && read_clients(roster, value)) ||
                 (field == HAS_ID && fk_read_hex(value, roster->roster_id, ID_BYTES)) ||
                 (field == HAS_NUMBER && read_uint32(value, &roster->number)) ||
                 (field == HAS_HELPERS && read_helpers(roster, value)) ||
                 (field == HAS_SIGNATURE && fk_read_hex(value, roster->signature, FK_SIGNATURE_BYTES));
    if (!holds || found & field) return 0;
    found |= field;
  }
  return found;
}

static int by_client(const void *one, const void *other) {
  return strcmp(((const fk_enrolled *)one)->client_id, ((const fk_enrolled *)other)->client_id);
}

static int by_bytes(const void *one, const void *other) { return memcmp(one, other, FK_KEY_BYTES); }

/* Whether no key and no name stands there twice; sorts the clients by their names. */
static bool are_different(fk_signed_roster *roster) {
  uint8_t *keys = fk_array(roster->count, FK_KEY_BYTES);
  roster->has_failed = !keys;
  if (!keys) return false;
  for (size_t i = 0; i < roster->count; i += 1) memcpy(keys + i * FK_KEY_BYTES, roster->clients[i].public_key, FK_KEY_BYTES);
  qsort(keys, roster->count, FK_KEY_BYTES, by_bytes);
  qsort(roster->clients, roster->count, sizeof *roster->clients, by_client);
  bool differ = true;
  for (size_t i = 1; i < roster->count; i += 1) {
    differ = differ && by_bytes(keys + (i - 1) * FK_KEY_BYTES, keys + i * FK_KEY_BYTES) != 0;
    differ = differ && by_client(&roster->clients[i - 1], &roster->clients[i]) != 0;
  }
  free(keys);
  for (size_t i = 0; i < roster->num_helpers; i += 1) {
    for (size_t j = 0; j < i; j += 1) differ = differ && by_bytes(roster->helpers[i], roster->helpers[j]) != 0;
  }
  return differ;
}

/* Whether a key can be agreed on with each helper. */
static fk_status check_helpers(const fk_signed_roster *roster, bool *are_sound, fk_error *error) {
  uint8_t own[FK_KEY_BYTES], shared[FK_KEY_BYTES];
  *are_sound = true;
  for (size_t i = 0; i < roster->num_helpers; i += 1) {
    FK_TRY(fk_random_bytes(NULL, own, sizeof own, error));
    fk_status status = fk_x25519(own, roster->helpers[i], shared, error);
    if (status == FK_ROSTER_REFUSED) *are_sound = false;
    else if (status != FK_OK) return status;
  }
  return FK_OK;
}

static fk_status read_roster(fk_signed_roster *roster, fk_bytes json, fk_error *error) {
  const char *text = (const char *)json.data;
  fk_value root = {text, text + json.size};
  size_t count;
  bool are_sound = false;
  unsigned found = fk_utf8_count(json, &count) && fk_value_is_json(root) ? read_fields(roster, root) : 0;
  bool is_of_before = roster->schema == 1 && (found & ~(unsigned)HAS_HELPERS) == (HAS_SCHEMA | HAS_CLIENTS) && !roster->num_helpers;
  bool is_signed = roster->schema == 2 && (found | HAS_HELPERS) == 2 * HAS_SIGNATURE - 1;
  bool holds = is_of_before || is_signed;
  for (size_t i = 0; holds && is_signed && i < roster->count; i += 1) {
    holds = is_name(roster->clients[i].client_id, strlen(roster->clients[i].client_id));
  }
  holds = holds && are_different(roster);
  if (roster->has_failed) return fk_no_memory(error);
  if (holds) FK_TRY(check_helpers(roster, &are_sound, error));
  if (holds && are_sound) return FK_OK;
  return fk_fail(error, FK_KEYS_ERROR, "the roster is damaged, or of another version: ask the operator");
}

/* ---- checking ---- */

static void add_signed_bytes(fk_buffer *buffer, const fk_signed_roster *roster) {
  uint8_t num_helpers = (uint8_t)roster->num_helpers;
  fk_buffer_add(buffer, PREFIX "roster", sizeof PREFIX "roster");
  fk_buffer_add(buffer, roster->roster_id, ID_BYTES);
  fk_buffer_add_uint32(buffer, roster->number);
  fk_buffer_add(buffer, &num_helpers, 1);
  fk_buffer_add(buffer, roster->helpers, roster->num_helpers * FK_KEY_BYTES);
  fk_buffer_add_uint32(buffer, (uint32_t)roster->count);
  for (size_t i = 0; i < roster->count; i += 1) {
    uint8_t size = (uint8_t)strlen(roster->clients[i].client_id);
    fk_buffer_add(buffer, &size, 1);
    fk_buffer_add(buffer, roster->clients[i].client_id, size);
    fk_buffer_add(buffer, roster->clients[i].public_key, FK_KEY_BYTES);
  }
}

static fk_status check_signed(const fk_signed_roster *roster, const fk_operator *signer, fk_seen_roster *found, fk_error *error) {
  if (roster->schema == 1) {
    return fk_fail(error, FK_UNSIGNED_ROSTER, "the roster is not signed, and this client knows who its operator is: " ASK);
  }
  if (memcmp(roster->roster_id, signer->roster_id, ID_BYTES) != 0) {
    return fk_fail(error, FK_FOREIGN_ROSTER,
                   "the roster is of another run's keys than those that this client is enrolled with: " ASK);
  }
  fk_buffer covered = {0};
  bool is_signed = false;
  add_signed_bytes(&covered, roster);
  fk_bytes body = {covered.data, covered.size};
  fk_status status = covered.failed ? fk_no_memory(error) : fk_is_signed(roster->signature, signer->key, body, &is_signed, error);
  found->number = roster->number;
  if (status == FK_OK) status = fk_sha256(&body, 1, found->digest, error);
  fk_buffer_close(&covered);
  if (status != FK_OK || is_signed) return status;
  return fk_fail(error, FK_FORGED_ROSTER, "the roster was changed, or somebody else than the operator signed it: " ASK);
}

static fk_status check_newest(const fk_seen_roster *found, const fk_seen_roster *before, fk_error *error) {
  if (!before || found->number > before->number) return FK_OK;
  if (found->number < before->number) {
    return fk_fail(error, FK_OLD_ROSTER, "the roster is number %u, this client has seen number %u: " ASK, found->number,
                   before->number);
  }
  if (memcmp(found->digest, before->digest, sizeof found->digest) == 0) return FK_OK;
  return fk_fail(error, FK_FORKED_ROSTER, "the operator signed two rosters as number %u: ask the operator for a new one",
                 before->number);
}

static fk_status check_listed(const fk_signed_roster *roster, const char *client_id, const uint8_t *public_key, fk_error *error) {
  const fk_enrolled *own = NULL;
  for (size_t i = 0; i < roster->count; i += 1) {
    if (strcmp(roster->clients[i].client_id, client_id) == 0) own = &roster->clients[i];
  }
  char shown[128];
  fk_show(shown, sizeof shown, (fk_bytes){(const uint8_t *)client_id, strlen(client_id)});
  if (!own) return fk_fail(error, FK_NOT_ON_ROSTER, "the roster has no client %s: ask the operator to enrol it", shown);
  if (memcmp(own->public_key, public_key, FK_KEY_BYTES) == 0) return FK_OK;
  return fk_fail(error, FK_NOT_ON_ROSTER, "the roster's key of client %s is not this client's: ask the operator to enrol it", shown);
}

fk_status fk_operator_fingerprint(const fk_operator *signer, char fingerprint[33], fk_error *error) {
  static const char DIGITS[] = "0123456789abcdef", PURPOSE[] = PREFIX "operator";
  uint8_t digest[32];
  if (!signer || !fingerprint) return fk_fail(error, FK_BAD_ARGUMENT, "an operator and a place for the digits are needed");
  const fk_bytes parts[3] = {{(const uint8_t *)PURPOSE, sizeof PURPOSE}, {signer->key, FK_KEY_BYTES}, {signer->roster_id, ID_BYTES}};
  FK_TRY(fk_sha256(parts, 3, digest, error));
  for (size_t i = 0; i < 32; i += 1) fingerprint[i] = DIGITS[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
  fingerprint[32] = 0;
  return fk_ok(error);
}

fk_status fk_signed_roster_open(const char *json, size_t size, const fk_operator *signer, const fk_seen_roster *before,
                                const char *client_id, const uint8_t public_key[FK_KEY_BYTES],
                                fk_signed_roster **roster, fk_seen_roster *seen, fk_error *error) {
  if (!json || !signer || !client_id || !public_key || !roster || !seen) {
    return fk_fail(error, FK_BAD_ARGUMENT, "a roster's text, an operator, a client and places for both results are needed");
  }
  fk_seen_roster found = {0};
  *roster = NULL;
  *seen = before ? *before : found;
  fk_signed_roster *own = calloc(1, sizeof *own);
  if (!own) return fk_no_memory(error);
  fk_status status = read_roster(own, (fk_bytes){(const uint8_t *)json, size}, error);
  if (status == FK_OK) status = check_signed(own, signer, &found, error);
  if (status == FK_OK) status = check_newest(&found, before, error);
  if (status == FK_OK) {
    *seen = found; /* who was struck off takes no older one either */
    status = check_listed(own, client_id, public_key, error);
  }
  if (status != FK_OK) {
    fk_signed_roster_close(own);
    return status;
  }
  *roster = own;
  return fk_ok(error);
}

const fk_enrolled *fk_signed_roster_clients(const fk_signed_roster *roster, size_t *count) {
  if (count) *count = roster ? roster->count : 0;
  return roster ? roster->clients : NULL;
}

const uint8_t (*fk_signed_roster_helpers(const fk_signed_roster *roster, size_t *count))[FK_KEY_BYTES] {
  if (count) *count = roster ? roster->num_helpers : 0;
  return roster ? (const uint8_t (*)[FK_KEY_BYTES])roster->helpers : NULL;
}

void fk_signed_roster_close(fk_signed_roster *roster) {
  if (!roster) return;
  free(roster->clients);
  free(roster->names);
  free(roster);
}
