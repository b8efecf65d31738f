#include "fk_unicode.h"

#include <stdlib.h>
#include <utf8proc.h>

void fk_add_character(fk_buffer *buffer, uint32_t code) {
  uint8_t bytes[4];
  fk_buffer_add(buffer, bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes));
}

fk_status fk_compose(fk_buffer *text, fk_error *error) {
  if (text->size == 0) return FK_OK;
  utf8proc_uint8_t *composed = NULL;
  utf8proc_ssize_t size = utf8proc_map(text->data, (utf8proc_ssize_t)text->size, &composed,
                                       (utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  if (size == UTF8PROC_ERROR_NOMEM) return fk_no_memory(error);
  if (size < 0) return fk_fail(error, FK_DAMAGED, "the text can't be composed: %s", utf8proc_errmsg(size));
  text->size = 0;
  fk_buffer_add(text, composed, (size_t)size);
  fk_free_secret(composed, (size_t)size);
  return text->failed ? fk_no_memory(error) : FK_OK;
}

fk_status fk_lower(fk_buffer *text, fk_error *error) {
  fk_buffer lower = {0};
  uint32_t code;
  for (size_t at = 0, width; at < text->size; at += width) {
    width = fk_utf8_next(text->data + at, text->size - at, &code);
    if (width == 0) break; /* whoever made the text has checked it */
    fk_add_character(&lower, code == 0x130 ? 'i' : (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
  }
  if (lower.failed) {
    fk_buffer_close(&lower);
    return fk_no_memory(error);
  }
  fk_buffer_close(text);
  *text = lower;
  return FK_OK;
}
