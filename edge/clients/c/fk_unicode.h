/* What the tokeniser takes of Unicode, besides PCRE2's properties. Not for apps. */
#ifndef FK_UNICODE_H
#define FK_UNICODE_H

#include <stddef.h>
#include <stdint.h>

#include "fk_protocol_parts.h"

/* The characters of an entity that HTML 5 names ("amp"), in UTF-8; NULL if it names none. */
const char *fk_entity(const char *name, size_t length, size_t *size);
/* Adds a character in UTF-8. */
void fk_add_character(fk_buffer *buffer, uint32_t code);
/* Composes a text that is UTF-8, by NFC. */
fk_status fk_compose(fk_buffer *text, fk_error *error);
/* Makes U+0130 "i", all else lower-case; of U+03A3 the inner form comes out. */
fk_status fk_lower(fk_buffer *text, fk_error *error);

#endif
