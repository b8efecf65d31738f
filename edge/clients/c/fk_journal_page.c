#include "fk_journal_page.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what it holds ---- */

/* Makes room for one more at the end of an array; NULL: there is no memory. */
static void *one_more(void **items, size_t count, size_t size) {
  uint8_t *more = realloc(*items, (count + 1) * size);
  if (!more) return NULL;
  *items = more;
  memset(more + count * size, 0, size);
  return more + count * size;
}

fk_spent_round *fk_journal_page_round(const fk_journal_page *page, uint64_t seed) {
  for (size_t i = 0; i < page->num_rounds; i++)
    if (page->rounds[i].seed == seed) return &page->rounds[i];
  return NULL;
}

fk_spent_round *fk_journal_page_need_round(fk_journal_page *page, uint64_t seed) {
  fk_spent_round *known = fk_journal_page_round(page, seed);
  if (known) return known;
  void *items = page->rounds;
  fk_spent_round *added = one_more(&items, page->num_rounds, sizeof *added);
  if (!added) return NULL;
  page->rounds = items;
  page->num_rounds++;
  added->seed = seed;
  return added;
}

fk_known_roster *fk_journal_page_roster(const fk_journal_page *page, const char *fingerprint) {
  for (size_t i = 0; i < page->num_rosters; i++)
    if (strcmp(page->rosters[i].fingerprint, fingerprint) == 0) return &page->rosters[i];
  return NULL;
}

fk_known_roster *fk_journal_page_need_roster(fk_journal_page *page, const char *fingerprint) {
  fk_known_roster *known = fk_journal_page_roster(page, fingerprint);
  if (known) return known;
  void *items = page->rosters;
  fk_known_roster *added = one_more(&items, page->num_rosters, sizeof *added);
  if (!added) return NULL;
  page->rosters = items;
  page->num_rosters++;
  memcpy(added->fingerprint, fingerprint, sizeof added->fingerprint);
  return added;
}

void fk_journal_page_close(fk_journal_page *page) {
  free(page->rounds);
  free(page->rosters);
  *page = (fk_journal_page){0};
}

/* ---- reading ---- */

static bool read_count(fk_value value, uint32_t *count) {
  double number;
  if (!fk_value_number(value, &number) || !fk_is_integer(value) || !(number >= 0 && number <= UINT32_MAX)) return false;
  *count = (uint32_t)number;
  return true;
}

/* Reads a seed that is a key: decimal digits and nothing else. */
static bool read_key(const char *key, size_t size, uint64_t *seed) {
  for (size_t i = 0; i < size; i++)
    if (key[i] < '0' || key[i] > '9') return false;
  return size > 0 && (*key != '0' || size == 1) && fk_read_seed((fk_value){key, key + size}, seed);
}

static bool is_object(fk_value value) { return value.at < value.end && *value.at == '{'; }

/* Takes over what is newer than what was there. */
static fk_status read_rounds(fk_journal_page *page, fk_value object, bool *is_sound, fk_error *error) {
  const char *key;
  size_t size;
  fk_value value;
  *is_sound = is_object(object);
  while (*is_sound && fk_value_next(&object, &key, &size, &value)) {
    uint64_t seed;
    uint32_t round_num;
    *is_sound = read_key(key, size, &seed) && read_count(value, &round_num);
    if (!*is_sound) break;
    fk_spent_round *last = fk_journal_page_need_round(page, seed);
    if (!last) return fk_no_memory(error);
    if (last->round_num < round_num) last->round_num = round_num;
  }
  return FK_OK;
}

static bool read_seen(fk_value object, fk_seen_roster *seen) {
  enum { HAS_NUMBER = 1, HAS_DIGEST = 2 };
  const char *key;
  size_t size;
  fk_value value;
  int found = 0;
  if (!is_object(object)) return false;
  while (fk_value_next(&object, &key, &size, &value)) {
    bool is_number = fk_value_is(key, size, "number"), is_digest = fk_value_is(key, size, "digest");
    if (is_number && read_count(value, &seen->number)) found |= HAS_NUMBER;
    else if (is_digest && fk_read_hex(value, seen->digest, sizeof seen->digest)) found |= HAS_DIGEST;
    else return false;
  }
  return found == (HAS_NUMBER | HAS_DIGEST);
}

static fk_status read_rosters(fk_journal_page *page, fk_value object, bool *is_sound, fk_error *error) {
  const char *key;
  size_t size;
  fk_value value;
  *is_sound = is_object(object);
  while (*is_sound && fk_value_next(&object, &key, &size, &value)) {
    char fingerprint[FK_FINGERPRINT_DIGITS + 1] = {0};
    fk_seen_roster seen = {0};
    *is_sound = size == FK_FINGERPRINT_DIGITS && read_seen(value, &seen);
    if (!*is_sound) break;
    memcpy(fingerprint, key, size);
    fk_known_roster *known = fk_journal_page_need_roster(page, fingerprint);
    if (!known) return fk_no_memory(error);
    if (known->newest.number < seen.number) known->newest = seen;
  }
  return FK_OK;
}

fk_status fk_journal_page_read(fk_journal_page *page, fk_value root, bool *is_sound, fk_error *error) {
  enum { HAS_SCHEMA = 1, HAS_ROUNDS = 2, HAS_ROSTERS = 4 };
  const char *key;
  size_t size;
  fk_value value;
  uint32_t schema = 0;
  int found = 0;
  *is_sound = fk_value_is_json(root) && is_object(root);
  while (*is_sound && fk_value_next(&root, &key, &size, &value)) {
    int field = fk_value_is(key, size, "schema")        ? HAS_SCHEMA
                : fk_value_is(key, size, "last_rounds") ? HAS_ROUNDS
                : fk_value_is(key, size, "rosters")     ? HAS_ROSTERS
                                                        : 0;
    if (field == HAS_SCHEMA) *is_sound = read_count(value, &schema) && schema == 1;
    else if (field == HAS_ROUNDS) FK_TRY(read_rounds(page, value, is_sound, error));
    else if (field == HAS_ROSTERS) FK_TRY(read_rosters(page, value, is_sound, error));
    *is_sound = *is_sound && field && !(found & field);
    found |= field;
  }
  *is_sound = *is_sound && (found & HAS_SCHEMA) && (found & HAS_ROUNDS);
  return FK_OK;
}

/* ---- writing ---- */

static void add_roster(fk_buffer *page, const fk_known_roster *roster) {
  char text[96], digest[2 * sizeof roster->newest.digest + 1];
  for (size_t i = 0; i < sizeof roster->newest.digest; i++) snprintf(digest + 2 * i, 3, "%02x", roster->newest.digest[i]);
  snprintf(text, sizeof text, "\"%s\":{\"number\":%" PRIu32 ",\"digest\":\"", roster->fingerprint, roster->newest.number);
  fk_buffer_add_text(page, text);
  fk_buffer_add_text(page, digest);
  fk_buffer_add_text(page, "\"}");
}

void fk_journal_page_write(const fk_journal_page *page, fk_buffer *text) {
  char part[48];
  fk_buffer_add_text(text, "{\"schema\":1,\"last_rounds\":{");
  for (size_t i = 0; i < page->num_rounds; i++) {
    const fk_spent_round *last = &page->rounds[i];
    snprintf(part, sizeof part, "%s\"%" PRIu64 "\":%" PRIu32, i ? "," : "", last->seed, last->round_num);
    fk_buffer_add_text(text, part);
  }
  fk_buffer_add_text(text, page->num_rosters ? "},\"rosters\":{" : "}");
  for (size_t i = 0; i < page->num_rosters; i++) {
    if (i) fk_buffer_add_text(text, ",");
    add_roster(text, &page->rosters[i]);
  }
  fk_buffer_add_text(text, page->num_rosters ? "}}\n" : "}\n");
}
