/* What the tests' peer is asked and says: frames of fields, each with its length before it (4 bytes, big-endian). */
#ifndef FRAMES_H
#define FRAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../fk_protocol_parts.h"

#define MOST_FIELDS 64

typedef struct {
  uint8_t *whole;
  fk_bytes fields[MOST_FIELDS];
  size_t count;
} frame;

bool frame_read(frame *found); /* false at the end of the input; what is no frame ends the process */
void frame_free(frame *found);
void reply_begin(const char *first);
void reply_add(const void *data, size_t size);
void reply_add_text(const char *text);
void reply_add_number(double number);
void reply_add_uint64(uint64_t number);
void reply_send(void);
/* Replies with a refusal: its name and its line. */
void reply_error(fk_status status, const fk_error *error);

fk_bytes field(const frame *asked, size_t place);
const uint8_t *field_of(const frame *asked, size_t place, size_t size); /* exactly so many bytes */
double number_field(const frame *asked, size_t place);
uint32_t uint_field(const frame *asked, size_t place);
char *text_field(const frame *asked, size_t place); /* to be freed */
_Noreturn void give_up(const char *why);

#endif
