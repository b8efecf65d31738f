#include "frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static fk_buffer reply;

_Noreturn void give_up(const char *why) {
  fprintf(stderr, "peer: %s\n", why);
  exit(2);
}

static uint32_t big_endian(const uint8_t octets[4]) {
  return (uint32_t)octets[0] << 24 | (uint32_t)octets[1] << 16 | (uint32_t)octets[2] << 8 | octets[3];
}

bool frame_read(frame *found) {
  uint8_t head[4];
  *found = (frame){0};
  if (fread(head, 1, 4, stdin) != 4) return false;
  size_t size = big_endian(head), at = 0;
  found->whole = malloc(size + 1);
  if (!found->whole || fread(found->whole, 1, size, stdin) != size) give_up("a frame that is cut off");
  while (at < size) {
    if (size - at < 4 || found->count == MOST_FIELDS) give_up("a frame that is none");
    size_t length = big_endian(found->whole + at);
    at += 4;
    if (length > size - at) give_up("a field beyond its frame");
    found->fields[found->count++] = (fk_bytes){found->whole + at, length};
    at += length;
  }
  return true;
}

void frame_free(frame *found) { free(found->whole); }

void reply_begin(const char *first) {
  fk_buffer_close(&reply);
  reply_add_text(first);
}

void reply_add(const void *data, size_t size) {
  fk_buffer_add_uint32(&reply, (uint32_t)size);
  fk_buffer_add(&reply, data, size);
}

void reply_add_text(const char *text) { reply_add(text, strlen(text)); }

void reply_add_number(double number) {
  char text[64];
  snprintf(text, sizeof text, "%.17g", number);
  reply_add_text(text);
}

void reply_add_uint64(uint64_t number) {
  char text[32];
  snprintf(text, sizeof text, "%llu", (unsigned long long)number);
  reply_add_text(text);
}

void reply_send(void) {
  fk_buffer head = {0};
  fk_buffer_add_uint32(&head, (uint32_t)reply.size);
  if (reply.failed || fwrite(head.data, 1, 4, stdout) != 4 || fwrite(reply.data, 1, reply.size, stdout) != reply.size) {
    give_up("the reply can't be written");
  }
  fflush(stdout);
  fk_buffer_close(&head);
  fk_buffer_close(&reply);
}

void reply_error(fk_status status, const fk_error *error) {
  reply_begin("error");
  reply_add_text(fk_status_name(status));
  reply_add_text(error->message);
}

fk_bytes field(const frame *asked, size_t place) {
  if (place >= asked->count) give_up("a field is missing");
  return asked->fields[place];
}

const uint8_t *field_of(const frame *asked, size_t place, size_t size) {
  fk_bytes found = field(asked, place);
  if (found.size != size) give_up("a field of another length");
  return found.data;
}

char *text_field(const frame *asked, size_t place) {
  fk_bytes found = field(asked, place);
  char *text = malloc(found.size + 1);
  if (!text) give_up("out of memory");
  memcpy(text, found.data, found.size);
  text[found.size] = 0;
  return text;
}

double number_field(const frame *asked, size_t place) {
  char *text = text_field(asked, place);
  double number = strtod(text, NULL);
  free(text);
  return number;
}

uint32_t uint_field(const frame *asked, size_t place) { return (uint32_t)number_field(asked, place); }
