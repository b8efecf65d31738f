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
#include "fk_journal_page.h"

#define MAX_BYTES ((size_t)1 << 24)

struct fk_journal_file {
  char *path;
  int lock;
  fk_journal_page page;
};

/* ---- the file ---- */

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
  fk_status ended = fk_journal_page_read(&file->page, (fk_value){text, text + content.size}, &is_sound, error);
  free(content.bytes);
  FK_TRY(ended);
  if (is_sound) return FK_OK;
  return fk_fail(error, FK_DAMAGED,
                 "%s is damaged: it says which rounds this client must not answer again; restore it, or remove it and "
                 "take part in new runs only",
                 fk_tail(file->path));
}

static fk_status write_page(const fk_journal_file *file, fk_error *error) {
  fk_buffer text = {0};
  fk_journal_page_write(&file->page, &text);
  fk_status status = text.failed ? fk_no_memory(error) : fk_write_file(file->path, "", 0, text.data, text.size, true, error);
  fk_buffer_close(&text);
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
  fk_journal_page_close(&file->page);
  free(file->path);
  free(file);
}

static fk_status last_round(void *context, uint64_t seed, uint32_t *round_num, fk_error *error) {
  fk_journal_file *file = context;
  FK_TRY(read_again(file, error));
  const fk_spent_round *last = fk_journal_page_round(&file->page, seed);
  *round_num = last ? last->round_num : 0;
  return fk_ok(error);
}

static fk_status spend(void *context, uint64_t seed, uint32_t round_num, fk_error *error) {
  fk_journal_file *file = context;
  FK_TRY(read_again(file, error));
  fk_spent_round *last = fk_journal_page_need_round(&file->page, seed);
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
  const fk_known_roster *known = fk_journal_page_roster(&file->page, fingerprint);
  *seen = known ? known->newest : (fk_seen_roster){0};
  return fk_ok(error);
}

fk_status fk_journal_file_see(fk_journal_file *file, const char fingerprint[33], const fk_seen_roster *seen,
                              fk_error *error) {
  if (!file || !fingerprint || strlen(fingerprint) != FK_FINGERPRINT_DIGITS || !seen)
    return fk_fail(error, FK_BAD_ARGUMENT, "a journal needs a fingerprint and a roster");
  FK_TRY(read_again(file, error));
  fk_known_roster *known = fk_journal_page_need_roster(&file->page, fingerprint);
  if (!known) return fk_no_memory(error);
  if (seen->number < known->newest.number)
    return fk_fail(error, FK_OLD_ROSTER, "roster %" PRIu32 " is older than roster %" PRIu32 ", which the client has seen",
                   seen->number, known->newest.number);
  known->newest = *seen;
  FK_TRY(write_page(file, error));
  return fk_ok(error);
}
