/* A phone bundle's folder: its files, which are checked as they are read, and the few values of its manifest that the
 * client needs. The signature over the manifest is not checked: an app does that once, with its platform's library,
 * when it downloads the bundle. */
#ifndef FEDKEYS_BUNDLE_H
#define FEDKEYS_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

/* Prints one line and ends with exit code 2. */
_Noreturn void fail(const char *format, ...);
/* malloc, or the end. */
void *allocate(size_t bytes);

typedef struct {
  char *bytes; /* a 0 follows the last */
  size_t size;
} File;

File read_file(const char *path);
/* Writes two pieces to `path`, whole or not at all. */
void write_file(const char *path, const void *header, size_t header_bytes, const void *body, size_t body_bytes);

typedef struct {
  const char *folder;
  char *manifest;
} Bundle;

/* Refuses a bundle of another schema. */
Bundle open_bundle(const char *folder);
void close_bundle(Bundle *bundle);
/* The number at `keys` of the manifest, from the outermost key inwards: "phase plan learning_rate". */
double manifest_number(const Bundle *bundle, const char *keys);
/* A file of the bundle; refused if it is not the one that was exported. */
File read_bundle_file(const Bundle *bundle, const char *name);

/* The SHA-256 of `size` bytes, in hex. */
void sha256(const void *data, size_t size, char hex[65]);
/* Their CRC-32, as zlib computes it. */
uint32_t crc32(const void *data, size_t size);

#endif
