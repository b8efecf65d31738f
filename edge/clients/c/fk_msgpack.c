/* The part of msgpack that fedkeys' messages need: lists, bytes, text, integers that are not negative, floats. Its bytes
 * are those of Python's msgspec. Nothing here calls itself, so no message can exhaust the stack. */
#include <string.h>

#include "fk_protocol_parts.h"

#define MOST_ITEMS FK_MAX_CLIENTS /* of a list of clients, none of whom comes twice, and of a list of words */

static size_t skip(fk_reader *reader, size_t count) {
  if (reader->bad || count > reader->size - reader->at) {
    reader->bad = true;
    return 0;
  }
  size_t start = reader->at;
  reader->at += count;
  return start;
}

/* An unsigned number of 1, 2, 4 or 8 bytes. */
static uint64_t big_endian(fk_reader *reader, size_t width) {
  size_t start = skip(reader, width);
  uint64_t value = 0;
  if (reader->bad) return 0;
  for (size_t i = 0; i < width; i += 1) value = value << 8 | reader->data[start + i];
  return value;
}

static uint8_t next_code(fk_reader *reader) { return (uint8_t)big_endian(reader, 1); }

static size_t malformed(fk_reader *reader) {
  reader->bad = true;
  return 0;
}

size_t fk_read_array(fk_reader *reader) {
  uint8_t code = next_code(reader);
  if (reader->bad) return 0;
  if (code >= 0x90 && code < 0xa0) return code & 15;
  if (code == 0xdc) return (size_t)big_endian(reader, 2);
  if (code == 0xdd) return (size_t)big_endian(reader, 4);
  return malformed(reader);
}

size_t fk_read_list(fk_reader *reader, size_t least_item_bytes) {
  size_t count = fk_read_array(reader);
  if (reader->bad) return 0;
  return count <= MOST_ITEMS && count <= (reader->size - reader->at) / least_item_bytes ? count : malformed(reader);
}

static fk_bytes view(fk_reader *reader, size_t size) {
  size_t start = skip(reader, size);
  return reader->bad ? (fk_bytes){0} : (fk_bytes){reader->data + start, size};
}

fk_bytes fk_read_bytes(fk_reader *reader, size_t least, size_t most) {
  uint8_t code = next_code(reader);
  if (code < 0xc4 || code > 0xc6) malformed(reader);
  size_t size = reader->bad ? 0 : (size_t)big_endian(reader, (size_t)1 << (code - 0xc4));
  if (size < least || size > most) malformed(reader);
  return view(reader, size);
}

fk_bytes fk_read_text(fk_reader *reader, size_t least, size_t most) {
  uint8_t code = next_code(reader);
  size_t size = 0, count = 0;
  if (code >= 0xa0 && code < 0xc0) size = code & 31;
  else if (code >= 0xd9 && code <= 0xdb) size = (size_t)big_endian(reader, (size_t)1 << (code - 0xd9));
  else malformed(reader);
  fk_bytes text = view(reader, size);
  if (!fk_utf8_count(text, &count) || count < least || count > most) malformed(reader);
  return reader->bad ? (fk_bytes){0} : text;
}

/* Any integer that is not negative, also one that is written with a sign. */
static uint64_t read_unsigned(fk_reader *reader, uint8_t code) {
  if (code < 0x80) return code;
  if (code >= 0xcc && code <= 0xcf) return big_endian(reader, (size_t)1 << (code - 0xcc));
  if (code < 0xd0 || code > 0xd3) return malformed(reader);
  size_t width = (size_t)1 << (code - 0xd0);
  if (reader->at < reader->size && reader->data[reader->at] > 127) malformed(reader);
  return big_endian(reader, width);
}

uint32_t fk_read_uint(fk_reader *reader, uint32_t least, uint32_t most) {
  uint64_t value = read_unsigned(reader, next_code(reader));
  if (value < least || value > most) malformed(reader);
  return reader->bad ? 0 : (uint32_t)value;
}

double fk_read_float(fk_reader *reader) {
  uint8_t code = next_code(reader);
  if (code == 0xca) {
    uint32_t bits = (uint32_t)big_endian(reader, 4);
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
  }
  if (code == 0xcb) {
    uint64_t bits = big_endian(reader, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
  }
  return (double)read_unsigned(reader, code);
}

size_t fk_read_message(fk_reader *reader, const char *tag, size_t least_fields, size_t most_fields) {
  size_t length = fk_read_array(reader);
  fk_bytes found = fk_read_text(reader, 0, SIZE_MAX);
  bool is_it = !reader->bad && found.size == strlen(tag) && memcmp(found.data, tag, found.size) == 0;
  if (!is_it || length < 1 + least_fields || length > 1 + most_fields) return malformed(reader);
  return length - 1;
}

bool fk_read_end(fk_reader *reader) { return !reader->bad && reader->at == reader->size; }

/* A code and a number of one, two or four bytes: the shortest that the number fits. */
static void write_head(fk_buffer *buffer, size_t value, uint8_t code8, uint8_t code16, uint8_t code32) {
  uint8_t octets[5] = {0, (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
  size_t width = value < 0x100 && code8 ? 1 : value < 0x10000 ? 2 : 4;
  uint8_t *head = octets + 4 - width;
  head[0] = width == 1 ? code8 : width == 2 ? code16 : code32;
  if ((uint64_t)value > UINT32_MAX) buffer->failed = true; /* no message has such a part */
  fk_buffer_add(buffer, head, 1 + width);
}

void fk_write_array(fk_buffer *buffer, size_t length) {
  uint8_t code = (uint8_t)(0x90 | (length & 15));
  if (length < 16) fk_buffer_add(buffer, &code, 1);
  else write_head(buffer, length, 0, 0xdc, 0xdd);
}

void fk_write_bytes(fk_buffer *buffer, const void *data, size_t size) {
  write_head(buffer, size, 0xc4, 0xc5, 0xc6);
  fk_buffer_add(buffer, data, size);
}

void fk_write_words(fk_buffer *buffer, const uint32_t *words, size_t count) {
  uint8_t octets[1024];
  write_head(buffer, 4 * count, 0xc4, 0xc5, 0xc6);
  for (size_t at = 0; at < count; at += sizeof octets / 4) {
    size_t some = count - at < sizeof octets / 4 ? count - at : sizeof octets / 4;
    for (size_t i = 0; i < 4 * some; i += 1) octets[i] = (uint8_t)(words[at + i / 4] >> (8 * (i % 4)));
    fk_buffer_add(buffer, octets, 4 * some);
  }
}

void fk_write_text(fk_buffer *buffer, fk_bytes text) {
  uint8_t code = (uint8_t)(0xa0 | (text.size & 31));
  if (text.size < 32) fk_buffer_add(buffer, &code, 1);
  else write_head(buffer, text.size, 0xd9, 0xda, 0xdb);
  fk_buffer_add(buffer, text.data, text.size);
}

void fk_write_uint(fk_buffer *buffer, uint32_t value) {
  uint8_t code = (uint8_t)value;
  if (value < 0x80) fk_buffer_add(buffer, &code, 1);
  else write_head(buffer, value, 0xcc, 0xcd, 0xce);
}

void fk_write_message(fk_buffer *buffer, const char *tag, size_t num_fields) {
  fk_write_array(buffer, 1 + num_fields);
  fk_write_text(buffer, (fk_bytes){(const uint8_t *)tag, strlen(tag)});
}
