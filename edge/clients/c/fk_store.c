/* Sentences kept for training: a file with a line of words each, of which the newest `cap` count. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fedkeys.h"
#include "fk_files.h"
#include "fk_protocol_parts.h"

enum { MAX_CAP = 1 << 20 };
static const size_t MAX_BYTES = (size_t)1 << 28;

struct fk_store {
  char *path;
  size_t cap, count;
  fk_buffer lines; /* each sentence ended by 0; the file has newlines in their place */
  size_t *starts;  /* cap of them: where each sentence begins in `lines` */
};

/* Drops the oldest sentences beyond the cap, and finds where the others begin. */
static fk_status settle(fk_store *store, fk_error *error) {
  if (store->lines.failed) return fk_no_memory(error);
  size_t count = 0, at = 0;
  for (size_t i = 0; i < store->lines.size; i++) count += store->lines.data[i] == 0;
  for (; count > store->cap; count--) at += strlen((const char *)store->lines.data + at) + 1;
  if (at) {
    size_t left = store->lines.size - at;
    memmove(store->lines.data, store->lines.data + at, left);
    memset(store->lines.data + left, 0, at);
    store->lines.size = left;
  }
  store->count = count;
  for (size_t i = 0, start = 0; i < count; i++) {
    store->starts[i] = start;
    start += strlen((const char *)store->lines.data + start) + 1;
  }
  return FK_OK;
}

static fk_status read_lines(fk_store *store, fk_error *error) {
  struct stat status;
  fk_file file;
  if (stat(store->path, &status) != 0 && errno == ENOENT) return FK_OK;
  FK_TRY(fk_read_file(store->path, MAX_BYTES, &file, error));
  bool is_whole = file.size == 0 || file.bytes[file.size - 1] == '\n';
  bool is_text = is_whole && !memchr(file.bytes, 0, file.size);
  for (size_t i = 0; i < file.size; i++)
    if (file.bytes[i] == '\n') file.bytes[i] = 0;
  fk_buffer_add(&store->lines, file.bytes, file.size);
  fk_free_secret(file.bytes, file.size);
  if (!is_text) return fk_fail(error, FK_DAMAGED, "%s is no store of sentences: wipe it", fk_tail(store->path));
  return settle(store, error);
}

fk_status fk_store_open(const char *path, size_t cap, fk_store **store, fk_error *error) {
  if (!path || !store || cap < 1 || cap > MAX_CAP)
    return fk_fail(error, FK_BAD_ARGUMENT, "a store needs a path and a cap of 1 to %d sentences", MAX_CAP);
  *store = NULL;
  fk_store *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_no_memory(error);
  opened->cap = cap;
  opened->path = fk_join(path, NULL);
  opened->starts = fk_array(cap, sizeof *opened->starts);
  fk_status status = opened->path && opened->starts ? read_lines(opened, error) : fk_no_memory(error);
  if (status != FK_OK) {
    fk_store_close(opened);
    return status;
  }
  *store = opened;
  return fk_ok(error);
}

void fk_store_close(fk_store *store) {
  if (!store) return;
  fk_buffer_close(&store->lines);
  free(store->path);
  free(store->starts);
  free(store);
}

size_t fk_store_count(const fk_store *store) { return store->count; }

const char *fk_store_words(const fk_store *store, size_t index) {
  return index < store->count ? (const char *)store->lines.data + store->starts[index] : NULL;
}

fk_status fk_store_add(fk_store *store, const fk_sentences *sentences, fk_error *error) {
  if (!store || !sentences) return fk_fail(error, FK_BAD_ARGUMENT, "fk_store_add needs a store and sentences");
  for (size_t i = 0; i < fk_sentences_count(sentences); i++) {
    const char *words = fk_sentences_words(sentences, i);
    if (*words) fk_buffer_add(&store->lines, words, strlen(words) + 1);
  }
  FK_TRY(settle(store, error));
  fk_buffer content = {0};
  fk_buffer_add(&content, store->lines.data, store->lines.size);
  if (content.failed) return fk_no_memory(error);
  for (size_t i = 0; i < content.size; i++)
    if (content.data[i] == 0) content.data[i] = '\n';
  fk_status status = fk_write_file(store->path, "", 0, content.data, content.size, true, error);
  fk_buffer_close(&content);
  return status == FK_OK ? fk_ok(error) : status;
}

static bool overwrite(int descriptor, size_t size) {
  static const uint8_t ZEROS[4096];
  while (size > 0) {
    ssize_t part = write(descriptor, ZEROS, size < sizeof ZEROS ? size : sizeof ZEROS);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) return false;
    size -= (size_t)part;
  }
  return fsync(descriptor) == 0;
}

/* Overwrites and deletes a file; true if there is none. */
static bool wipe_file(const char *path, int *reason) {
  int descriptor = open(path, O_WRONLY | O_CLOEXEC);
  *reason = errno;
  if (descriptor < 0 && errno == ENOENT) return true;
  struct stat status;
  bool is_over = descriptor >= 0 && fstat(descriptor, &status) == 0 && overwrite(descriptor, (size_t)status.st_size);
  if (descriptor >= 0) *reason = errno, close(descriptor);
  if (unlink(path) != 0) is_over = false, *reason = errno;
  return is_over;
}

fk_status fk_store_wipe(fk_store *store, fk_error *error) {
  if (!store) return fk_fail(error, FK_BAD_ARGUMENT, "fk_store_wipe needs a store");
  fk_buffer_close(&store->lines);
  store->count = 0;
  char *partial = fk_partial(store->path); /* stays where a process ended while it wrote */
  int reason, other_reason = 0;
  bool is_over = wipe_file(store->path, &reason);
  bool is_other_over = partial && wipe_file(partial, &other_reason);
  if (!partial) return fk_no_memory(error);
  free(partial);
  if (is_over && is_other_over) return fk_ok(error);
  return fk_fail(error, FK_IO, "%s: can't be wiped: %s", fk_tail(store->path), strerror(is_over ? other_reason : reason));
}
