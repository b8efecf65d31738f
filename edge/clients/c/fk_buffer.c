/* Bytes that grow, and memory that is wiped before it is freed. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "fk_protocol_parts.h"

#define LEAST_CAPACITY 256u

/* Not realloc, which may leave a copy behind. */
static bool grow(fk_buffer *buffer, size_t wanted) {
  size_t capacity = buffer->capacity > LEAST_CAPACITY ? buffer->capacity : LEAST_CAPACITY;
  while (capacity < wanted) {
    if (capacity > SIZE_MAX / 2) return false;
    capacity *= 2;
  }
  uint8_t *data = malloc(capacity);
  if (!data) return false;
  if (buffer->size) memcpy(data, buffer->data, buffer->size);
  fk_free_secret(buffer->data, buffer->capacity);
  buffer->data = data;
  buffer->capacity = capacity;
  return true;
}

void fk_buffer_add(fk_buffer *buffer, const void *data, size_t size) {
  if (buffer->failed || size == 0) return;
  bool fits = size <= SIZE_MAX - buffer->size;
  if (!fits || (buffer->size + size > buffer->capacity && !grow(buffer, buffer->size + size))) {
    buffer->failed = true;
    return;
  }
  memcpy(buffer->data + buffer->size, data, size);
  buffer->size += size;
}

void fk_buffer_add_text(fk_buffer *buffer, const char *text) { fk_buffer_add(buffer, text, strlen(text)); }

void fk_buffer_add_uint32(fk_buffer *buffer, uint32_t value) {
  uint8_t octets[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
  fk_buffer_add(buffer, octets, sizeof octets);
}

void fk_buffer_close(fk_buffer *buffer) {
  fk_free_secret(buffer->data, buffer->capacity);
  *buffer = (fk_buffer){0};
}

fk_status fk_no_memory(fk_error *error) { return fk_fail(error, FK_NO_MEMORY, "out of memory"); }

void *fk_array(size_t count, size_t size) { return calloc(count ? count : 1, size); }

void fk_wipe(void *memory, size_t size) { OPENSSL_cleanse(memory, size); }

void fk_free_secret(void *memory, size_t size) {
  if (!memory) return;
  fk_wipe(memory, size);
  free(memory);
}
