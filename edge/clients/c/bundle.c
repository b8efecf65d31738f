#define _POSIX_C_SOURCE 200809L
#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("fedkeys_client: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  _exit(2); /* not exit: nothing that the process still holds is worth tidying up */
}

void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) fail("out of memory: %zu bytes wanted", bytes);
  return memory;
}

static char *join(const char *first, const char *between, const char *last) {
  size_t size = strlen(first) + strlen(between) + strlen(last) + 1;
  char *joined = allocate(size);
  snprintf(joined, size, "%s%s%s", first, between, last);
  return joined;
}

File read_file(const char *path) {
  struct stat status;
  int descriptor = open(path, O_RDONLY | O_NONBLOCK); /* a pipe must not make us wait for its writer */
  FILE *stream = descriptor < 0 ? NULL : fdopen(descriptor, "rb");
  if (!stream || fstat(fileno(stream), &status) != 0) fail("%s: can't be read: %s", path, strerror(errno));
  if (!S_ISREG(status.st_mode)) fail("%s: can't be read: it is not a file", path);
  File file = {allocate((size_t)status.st_size + 1), (size_t)status.st_size};
  if (fread(file.bytes, 1, file.size, stream) != file.size) fail("%s: can't be read to its end", path);
  file.bytes[file.size] = 0;
  fclose(stream);
  return file;
}

void write_file(const char *path, const void *header, size_t header_bytes, const void *body, size_t body_bytes) {
  char *partial = join(path, ".", "partial");
  FILE *stream = fopen(partial, "wb");
  if (!stream) fail("%s: can't be written: %s", path, strerror(errno));
  bool written = fwrite(header, 1, header_bytes, stream) == header_bytes;
  written = written && fwrite(body, 1, body_bytes, stream) == body_bytes;
  written = written && fflush(stream) == 0 && fsync(fileno(stream)) == 0;
  written = fclose(stream) == 0 && written;
  if (!written || rename(partial, path) != 0) {
    int reason = errno;
    remove(partial);
    fail("%s: can't be written: %s", path, strerror(reason));
  }
  free(partial);
}

/* Where the value at `keys` begins. Each key is looked for behind the one before: that is no JSON reader, and enough
 * for a manifest as fedkeys writes it. No text is mistaken for a key: a quote in a text has a backslash before it. */
static const char *manifest_value(const Bundle *bundle, const char *keys) {
  const char *value = bundle->manifest;
  for (const char *key = keys; *key; key += *key == ' ') {
    char quoted[64];
    int length = (int)strcspn(key, " ");
    int size = snprintf(quoted, sizeof quoted, "\"%.*s\": ", length, key);
    value = strstr(value, quoted);
    if (!value) fail("%s/manifest.json has no %s: export the run again", bundle->folder, keys);
    value += size;
    key += length;
  }
  return value;
}

double manifest_number(const Bundle *bundle, const char *keys) {
  const char *value = manifest_value(bundle, keys);
  char *end;
  double number = strtod(value, &end);
  if (end == value) fail("%s/manifest.json is damaged at %s: copy the bundle again", bundle->folder, keys);
  return number;
}

Bundle open_bundle(const char *folder) {
  char *path = join(folder, "/", "manifest.json");
  Bundle bundle = {folder, read_file(path).bytes};
  double schema = manifest_number(&bundle, "schema");
  if (schema != 1) fail("%s has schema %g, this client reads 1: use the client of that fedkeys", path, schema);
  free(path);
  return bundle;
}

void close_bundle(Bundle *bundle) { free(bundle->manifest); }

File read_bundle_file(const Bundle *bundle, const char *name) {
  char *path = join(bundle->folder, "/", name);
  char *bytes_key = join("files ", name, " bytes"), *digest_key = join("files ", name, " sha256");
  File file = read_file(path);
  double expected = manifest_number(bundle, bytes_key);
  if ((double)file.size != expected)
    fail("%s has %zu bytes, the manifest says %.0f: copy the bundle again", path, file.size, expected);
  char digest[65];
  sha256(file.bytes, file.size, digest);
  if (strncmp(manifest_value(bundle, digest_key) + 1, digest, 64) != 0)
    fail("%s is not the file that was exported (its SHA-256 differs): copy the bundle again", path);
  free(path), free(bytes_key), free(digest_key);
  return file;
}

/* Source: FIPS 180-4, sections 5.1.1 and 6.2.2. */
static const uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void mix(uint32_t hash[8], const unsigned char *block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++, block += 4)
    w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 | block[3];
  for (int i = 16; i < 64; i++)
    w[i] = w[i - 16] + w[i - 7] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) +
           (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
  memcpy(s, hash, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t one = s[7] + K[i] + w[i] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25)) +
                   ((s[4] & s[5]) ^ (~s[4] & s[6]));
    uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22)) +
                   ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (int i = 0; i < 8; i++) hash[i] += s[i];
}

void sha256(const void *data, size_t size, char hex[65]) {
  uint32_t hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  const unsigned char *bytes = data;
  unsigned char tail[128] = {0};
  size_t rest = size % 64, tail_size = rest < 56 ? 64 : 128;
  memcpy(tail, bytes + size - rest, rest);
  tail[rest] = 0x80;
  for (size_t i = 0; i < 8; i++) tail[tail_size - 1 - i] = (unsigned char)((uint64_t)size * 8 >> 8 * i);
  for (size_t at = 0; at + 64 <= size; at += 64) mix(hash, bytes + at);
  for (size_t at = 0; at < tail_size; at += 64) mix(hash, tail + at);
  for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", hash[i]);
}

uint32_t crc32(const void *data, size_t size) {
  const unsigned char *bytes = data;
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; i++) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}
