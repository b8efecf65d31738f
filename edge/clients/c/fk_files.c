#define _XOPEN_SOURCE 700
#include "fk_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READING (O_RDONLY | O_CLOEXEC | O_NONBLOCK) /* a pipe must not make us wait for its writer */

static fk_status unreadable(const char *path, int reason, fk_error *error) {
  return fk_fail(error, FK_IO, "%s: can't be read: %s", fk_tail(path), strerror(reason));
}

/* Reads all that a descriptor has; `path` is what to call it. */
static fk_status read_all(int descriptor, const char *path, size_t max_bytes, fk_file *file, fk_error *error) {
  struct stat status;
  if (fstat(descriptor, &status) != 0) return unreadable(path, errno, error);
  if (!S_ISREG(status.st_mode))
    return fk_fail(error, FK_IO, "%s: can't be read: it is not a file", fk_tail(path));
  if (status.st_size < 0 || (uint64_t)status.st_size > max_bytes)
    return fk_fail(error, FK_UNSUPPORTED, "%s has %lld bytes, %zu are allowed", fk_tail(path),
                   (long long)status.st_size, max_bytes);
  size_t size = (size_t)status.st_size, got = 0;
  uint8_t *bytes = malloc(size + 1);
  if (!bytes) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", size + 1);
  while (got < size) {
    ssize_t part = read(descriptor, bytes + got, size - got);
    if (part < 0 && errno == EINTR) continue;
    if (part <= 0) {
      free(bytes);
      return fk_fail(error, FK_IO, "%s: can't be read to its end", fk_tail(path));
    }
    got += (size_t)part;
  }
  bytes[size] = 0;
  *file = (fk_file){bytes, size};
  return FK_OK;
}

fk_status fk_read_file(const char *path, size_t max_bytes, fk_file *file, fk_error *error) {
  int descriptor = open(path, READING);
  if (descriptor < 0) return unreadable(path, errno, error);
  fk_status status = read_all(descriptor, path, max_bytes, file, error);
  close(descriptor);
  return status;
}

char *fk_join(const char *folder, const char *name) {
  size_t length = strlen(folder), more = name ? strlen(name) : 0;
  char *path = malloc(length + more + 2);
  if (!path) return NULL;
  memcpy(path, folder, length + 1);
  if (!name) return path;
  path[length] = '/';
  memcpy(path + length + 1, name, more + 1);
  return path;
}

/* Opens what `name` names inside of the folder that `place` is, which is closed; -1: see errno. */
static int open_inside(int place, char *name) {
  for (char *slash = strchr(name, '/'); slash && place >= 0; slash = strchr(name, '/')) {
    *slash = 0;
    int inner = openat(place, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int reason = errno;
    close(place);
    errno = reason;
    place = inner;
    name = slash + 1;
  }
  if (place < 0) return -1;
  int descriptor = openat(place, name, READING | O_NOFOLLOW), reason = errno;
  close(place);
  errno = reason;
  return descriptor;
}

fk_status fk_read_inside(const char *folder, const char *name, size_t max_bytes, fk_file *file, fk_error *error) {
  char *path = fk_join(folder, name), *parts = fk_join(name, NULL);
  fk_status status;
  if (!path || !parts) {
    status = fk_fail(error, FK_NO_MEMORY, "out of memory");
  } else {
    int place = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int descriptor = place < 0 ? -1 : open_inside(place, parts);
    if (descriptor >= 0) {
      status = read_all(descriptor, path, max_bytes, file, error);
      close(descriptor);
    } else if (place >= 0 && errno == ELOOP) { /* by O_NOFOLLOW */
      status = fk_fail(error, FK_UNTRUSTED, "%s is a link, and a bundle holds files only: copy the bundle again",
                       fk_tail(path));
    } else {
      status = unreadable(path, errno, error);
    }
  }
  free(path);
  free(parts);
  return status;
}

static bool write_all(int descriptor, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  while (size > 0) {
    ssize_t part = write(descriptor, at, size);
    if (part < 0 && errno == EINTR) continue;
    if (part < 0) return false;
    at += part;
    size -= (size_t)part;
  }
  return true;
}

char *fk_partial(const char *path) {
  size_t length = strlen(path);
  char *partial = malloc(length + sizeof ".partial");
  if (!partial) return NULL;
  memcpy(partial, path, length);
  memcpy(partial + length, ".partial", sizeof ".partial");
  return partial;
}

fk_status fk_write_file(const char *path, const void *header, size_t header_bytes, const void *body, size_t body_bytes,
                        int is_private, fk_error *error) {
  char *partial = fk_partial(path);
  if (!partial) return fk_fail(error, FK_NO_MEMORY, "out of memory");
  int descriptor = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, is_private ? 0600 : 0666);
  bool written = descriptor >= 0 && write_all(descriptor, header, header_bytes) &&
                 write_all(descriptor, body, body_bytes) && fsync(descriptor) == 0;
  int reason = errno;
  if (descriptor >= 0 && close(descriptor) != 0 && written) written = false, reason = errno;
  if (written && rename(partial, path) != 0) written = false, reason = errno;
  if (!written && descriptor >= 0) unlink(partial);
  free(partial);
  if (!written) return fk_fail(error, FK_IO, "%s: can't be written: %s", fk_tail(path), strerror(reason));
  return FK_OK;
}

fk_status fk_sync_folder_of(const char *path, fk_error *error) {
  char *folder = fk_join(path, NULL);
  if (!folder) return fk_fail(error, FK_NO_MEMORY, "out of memory");
  char *slash = strrchr(folder, '/');
  if (slash) slash[slash == folder] = 0; /* of "/name" the slash stays */
  int descriptor = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool is_there = descriptor >= 0 && fsync(descriptor) == 0;
  int reason = errno;
  if (descriptor >= 0) close(descriptor);
  free(folder);
  if (is_there) return FK_OK;
  return fk_fail(error, FK_IO, "the folder of %s can't be written: %s", fk_tail(path), strerror(reason));
}
