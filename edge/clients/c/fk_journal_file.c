/* The rounds that a client answered and the rosters that it saw, in a file, as orchestrator/network/journal.py: the same
 * bytes, the same lock. */
#define _DEFAULT_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fk_files.h"
#include "fk_protocol_parts.h"

#define MAX_BYTES ((size_t)1 << 24)
#define FINGERPRINT_DIGITS 32

/* The last round that was answered of a seed, and the newest roster that was seen of an operator. */
typedef struct {
  uint64_t seed;
  uint32_t round_num;
} spent_round;

typedef struct {
  char fingerprint[FINGERPRINT_DIGITS + 1];
  fk_seen_roster newest;
} seen_roster;

struct fk_journal_file {
  char *path;
  int lock;
  spent_round *rounds;
  size_t num_rounds;
  seen_roster *rosters;
  size_t num_rosters;
};

/* ---- what it holds ---- */

/* Makes room for one more at the end of an array; NULL: there is no memory. */
static void *one_more(void **items, size_t count, size_t size) {
  uint8_t *more = realloc(*items, (count + 1) * size);
  if (!more) return NULL;
  *items = more;
  memset(more + count * size, 0, size);
  return more + count * size;
}

static spent_round *round_of(fk_journal_file *file, uint64_t seed) {
  for (size_t i = 0; i < file->num_rounds; i++)
    if (file->rounds[i].seed == seed) return &file->rounds[i];
  void *items = file->rounds;
  spent_round *added = one_more(&items, file->num_rounds, sizeof *added);
  if (!added) return NULL;
  file->rounds = items;
  file->num_rounds++;
  added->seed = seed;
  return added;
}

static seen_roster *roster_of(fk_journal_file *file, const char *fingerprint) {
  for (size_t i = 0; i < file->num_rosters; i++)
    if (strcmp(file->rosters[i].fingerprint, fingerprint) == 0) return &file->rosters[i];
  void *items = file->rosters;
  seen_roster *added = one_more(&items, file->num_rosters, sizeof *added);
  if (!added) return NULL;
  file->rosters = items;
  file->num_rosters++;
  memcpy(added->fingerprint, fingerprint, sizeof added->fingerprint);
  return added;
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
static fk_status read_rounds(fk_journal_file *file, fk_value object, bool *is_sound, fk_error *error) {
  const char *key;
  size_t size;
  fk_value value;
  *is_sound = is_object(object);
  while (*is_sound && fk_value_next(&object, &key, &size, &value)) {
    uint64_t seed;
    uint32_t round_num;
    *is_sound = read_key(key, size, &seed) && read_count(value, &round_num);
    if (!*is_sound) break;
    spent_round *last = round_of(file, seed);
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

static fk_status read_rosters(fk_journal_file *file, fk_value object, bool *is_sound, fk_error *error) {
  const char *key;
  size_t size;
  fk_value value;
  *is_sound = is_object(object);
  while (*is_sound && fk_value_next(&object, &key, &size, &value)) {
    char fingerprint[FINGERPRINT_DIGITS + 1] = {0};
    fk_seen_roster seen = {0};
    *is_sound = size == FINGERPRINT_DIGITS && read_seen(value, &seen);
    if (!*is_sound) break;
    memcpy(fingerprint, key, size);
    seen_roster *known = roster_of(file, fingerprint);
    if (!known) return fk_no_memory(error);
    if (known->newest.number < seen.number) known->newest = seen;
  }
  return FK_OK;
}

static fk_status read_page(fk_journal_file *file, fk_value root, bool *is_sound, fk_error *error) {
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
    else if (field == HAS_ROUNDS) FK_TRY(read_rounds(file, value, is_sound, error));
    else if (field == HAS_ROSTERS) FK_TRY(read_rosters(file, value, is_sound, error));
    *is_sound = *is_sound && field && !(found & field);
    found |= field;
  }
  *is_sound = *is_sound && (found & HAS_SCHEMA) && (found & HAS_ROUNDS);
  return FK_OK;
}

/* Takes over what the file says: where the lock was removed another process may have written it, too. */
static fk_status read_again(fk_journal_file *file, fk_error *error) {
  struct stat status;
  fk_file content;
  bool is_sound;
  if (lstat(file->path, &status) != 0 && errno == ENOENT) return FK_OK;
  if (S_ISLNK(status.st_mode)) /* two names of one file would have two locks */
    return fk_fail(error, FK_IO, "%s is a link: name the file that it leads to", fk_tail(file->path));
  FK_TRY(fk_read_file(file->path, MAX_BYTES, &content, error));
  const char *text = (const char *)content.bytes;
  fk_status ended = read_page(file, (fk_value){text, text + content.size}, &is_sound, error);
  free(content.bytes);
  FK_TRY(ended);
  if (is_sound) return FK_OK;
  return fk_fail(error, FK_DAMAGED,
                 "%s is damaged: it says which rounds this client must not answer again; restore it, or remove it and "
                 "take part in new runs only",
                 fk_tail(file->path));
}

/* ---- writing ---- */

static void add_roster(fk_buffer *page, const seen_roster *roster) {
  char text[96], digest[2 * sizeof roster->newest.digest + 1];
  for (size_t i = 0; i < sizeof roster->newest.digest; i++) snprintf(digest + 2 * i, 3, "%02x", roster->newest.digest[i]);
  snprintf(text, sizeof text, "\"%s\":{\"number\":%" PRIu32 ",\"digest\":\"", roster->fingerprint, roster->newest.number);
  fk_buffer_add_text(page, text);
  fk_buffer_add_text(page, digest);
  fk_buffer_add_text(page, "\"}");
}

static fk_status write_page(const fk_journal_file *file, fk_error *error) {
  fk_buffer page = {0};
  char text[48];
  fk_buffer_add_text(&page, "{\"schema\":1,\"last_rounds\":{");
  for (size_t i = 0; i < file->num_rounds; i++) {
    const spent_round *last = &file->rounds[i];
    snprintf(text, sizeof text, "%s\"%" PRIu64 "\":%" PRIu32, i ? "," : "", last->seed, last->round_num);
    fk_buffer_add_text(&page, text);
  }
  fk_buffer_add_text(&page, file->num_rosters ? "},\"rosters\":{" : "}");
  for (size_t i = 0; i < file->num_rosters; i++) {
    if (i) fk_buffer_add_text(&page, ",");
    add_roster(&page, &file->rosters[i]);
  }
  fk_buffer_add_text(&page, file->num_rosters ? "}}\n" : "}\n");
  fk_status status = page.failed ? fk_no_memory(error) : fk_write_file(file->path, "", 0, page.data, page.size, true, error);
  fk_buffer_close(&page);
  FK_TRY(status);
  return fk_sync_folder_of(file->path, error); /* or a loss of power could take the new name away again */
}

/* ---- calls ---- */

static fk_status lock(fk_journal_file *file, fk_error *error) {
  static const char ENDING[] = ".lock";
  size_t length = strlen(file->path);
  char *path = malloc(length + sizeof ENDING);
  if (!path) return fk_no_memory(error);
  memcpy(path, file->path, length);
  memcpy(path + length, ENDING, sizeof ENDING);
  file->lock = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  int reason = errno;
  free(path);
  if (file->lock < 0) return fk_fail(error, FK_IO, "%s can't be locked: %s", fk_tail(file->path), strerror(reason));
  if (flock(file->lock, LOCK_EX | LOCK_NB) == 0) return FK_OK;
  return fk_fail(error, FK_IO, "%s is in use: this client runs already; end it, or wait for it", fk_tail(file->path));
}

fk_status fk_journal_file_open(const char *path, fk_journal_file **file, fk_error *error) {
  if (!path || !file) return fk_fail(error, FK_BAD_ARGUMENT, "a journal needs a path and a place");
  *file = NULL;
  fk_journal_file *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_no_memory(error);
  opened->lock = -1;
  opened->path = fk_join(path, NULL);
  fk_status status = opened->path ? lock(opened, error) : fk_no_memory(error);
  if (status == FK_OK) status = read_again(opened, error);
  if (status != FK_OK) {
    fk_journal_file_close(opened);
    return status;
  }
  *file = opened;
  return fk_ok(error);
}

void fk_journal_file_close(fk_journal_file *file) {
  if (!file) return;
  if (file->lock >= 0) close(file->lock);
  free(file->rounds);
  free(file->rosters);
  free(file->path);
  free(file);
}

static fk_status last_round(void *context, uint64_t seed, uint32_t *round_num, fk_error *error) {
  fk_journal_file *file = context;
  FK_TRY(read_again(file, error));
  *round_num = 0;
  for (size_t i = 0; i < file->num_rounds; i++)
    if (file->rounds[i].seed == seed) *round_num = file->rounds[i].round_num;
  return fk_ok(error);
}

static fk_status spend(void *context, uint64_t seed, uint32_t round_num, fk_error *error) {
  fk_journal_file *file = context;
  FK_TRY(read_again(file, error));
  spent_round *last = round_of(file, seed);
  if (!last) return fk_no_memory(error);
  if (round_num <= last->round_num)
    return fk_fail(error, FK_SESSION_REPLAYED, "round %" PRIu32 " came before: the journal has round %" PRIu32, round_num,
                   last->round_num);
  last->round_num = round_num;
  FK_TRY(write_page(file, error));
  return fk_ok(error);
}

fk_journal fk_journal_file_callbacks(fk_journal_file *file) { return (fk_journal){file, last_round, spend}; }

fk_status fk_journal_file_seen(fk_journal_file *file, const char fingerprint[33], fk_seen_roster *seen, fk_error *error) {
  if (!file || !fingerprint || !seen) return fk_fail(error, FK_BAD_ARGUMENT, "a journal needs a fingerprint and a place");
  FK_TRY(read_again(file, error));
  *seen = (fk_seen_roster){0};
  for (size_t i = 0; i < file->num_rosters; i++)
    if (strcmp(file->rosters[i].fingerprint, fingerprint) == 0) *seen = file->rosters[i].newest;
  return fk_ok(error);
}

fk_status fk_journal_file_see(fk_journal_file *file, const char fingerprint[33], const fk_seen_roster *seen,
                              fk_error *error) {
  if (!file || !fingerprint || strlen(fingerprint) != FINGERPRINT_DIGITS || !seen)
    return fk_fail(error, FK_BAD_ARGUMENT, "a journal needs a fingerprint and a roster");
  FK_TRY(read_again(file, error));
  seen_roster *known = roster_of(file, fingerprint);
  if (!known) return fk_no_memory(error);
  if (seen->number < known->newest.number)
    return fk_fail(error, FK_OLD_ROSTER, "roster %" PRIu32 " is older than roster %" PRIu32 ", which the client has seen",
                   seen->number, known->newest.number);
  known->newest = *seen;
  FK_TRY(write_page(file, error));
  return fk_ok(error);
}
