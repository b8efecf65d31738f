/* Text of others: whether it is UTF-8, and how it is shown. */
#include <stdio.h>
#include <string.h>

#include "fk_protocol_parts.h"

size_t fk_utf8_next(const uint8_t *data, size_t size, uint32_t *code) {
  static const uint32_t LEAST[5] = {0, 0, 0x80, 0x800, 0x10000};
  if (size == 0) return 0;
  uint8_t first = data[0];
  size_t width = first < 0x80 ? 1 : (first & 0xe0) == 0xc0 ? 2 : (first & 0xf0) == 0xe0 ? 3 : (first & 0xf8) == 0xf0 ? 4 : 0;
  if (width == 0 || width > size) return 0;
  uint32_t value = width == 1 ? first : first & (0x7fu >> width);
  for (size_t i = 1; i < width; i += 1) {
    if ((data[i] & 0xc0) != 0x80) return 0;
    value = value << 6 | (data[i] & 0x3fu);
  }
  if (value < LEAST[width] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 0;
  *code = value;
  return width;
}

bool fk_utf8_count(fk_bytes text, size_t *count) {
  size_t found = 0;
  uint32_t code;
  for (size_t at = 0; at < text.size; found += 1) {
    size_t width = fk_utf8_next(text.data + at, text.size - at, &code);
    if (width == 0) return false;
    at += width;
  }
  *count = found;
  return true;
}

/* Writes one character as printable ASCII; returns the number of bytes, at most 10. */
static size_t shown_as(uint32_t code, char out[12]) {
  if (code >= 0x20 && code < 0x7f) return (size_t)snprintf(out, 12, "%c", (int)code);
  if (code == '\n' || code == '\r' || code == '\t') {
    return (size_t)snprintf(out, 12, "\\%c", code == '\n' ? 'n' : code == '\r' ? 'r' : 't');
  }
  if (code < 0x100) return (size_t)snprintf(out, 12, "\\x%02x", (unsigned)code);
  return (size_t)snprintf(out, 12, code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code);
}

void fk_add_as_ascii(fk_buffer *buffer, fk_bytes text) {
  char shown[12];
  uint32_t code;
  for (size_t at = 0, width; at < text.size; at += width) {
    width = fk_utf8_next(text.data + at, text.size - at, &code);
    if (width == 0) return; /* readers have refused it */
    fk_buffer_add(buffer, shown, shown_as(code, shown));
  }
}

void fk_show(char *out, size_t capacity, fk_bytes text) {
  char shown[12];
  uint32_t code;
  size_t size = 0;
  for (size_t at = 0, width; at < text.size; at += width) {
    width = fk_utf8_next(text.data + at, text.size - at, &code);
    size_t some = width ? shown_as(code, shown) : capacity;
    if (some >= capacity - size) break;
    memcpy(out + size, shown, some);
    size += some;
  }
  out[size] = 0;
}

static bool is_space(uint32_t code) {
  if (code <= 0x20) return (code >= 0x09 && code <= 0x0d) || code >= 0x1c;
  return code == 0x85 || code == 0xa0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
         code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

bool fk_is_no_word(fk_bytes word) {
  uint32_t code;
  for (size_t at = 0, width; at < word.size; at += width) {
    width = fk_utf8_next(word.data + at, word.size - at, &code);
    if (width == 0 || is_space(code)) return true;
  }
  return word.size == 0;
}
