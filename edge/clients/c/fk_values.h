/* Reads JSON in place: no copies, no allocation, no state. Not for apps.
 *
 * A manifest and a signature need a handful of values, so a library for all of JSON would be one more to build for
 * every phone. Finding takes any text and stops at its end; fk_value_is_json says whether it is JSON at all. */
#ifndef FK_VALUES_H
#define FK_VALUES_H

#include <stdbool.h>
#include <stddef.h>

/* A part of a text: where a value begins, and where the text ends. */
typedef struct {
  const char *at, *end;
} fk_value;

/* Whether the text is one JSON value, at most 32 levels deep, and nothing else. */
bool fk_value_is_json(fk_value text);
/* The value at a path of keys, from the outermost inwards, with a space between two: "phase plan epochs". An array on
 * the way stands for its first element. False if there is none. */
bool fk_value_find(fk_value text, const char *path, fk_value *found);
/* Goes through an object: `place` begins as the object and moves on; false after its last member. Of a key with a
 * backslash the text as it is written comes out. */
bool fk_value_next(fk_value *place, const char **key, size_t *key_length, fk_value *value);
/* Goes through an array in the same way. */
bool fk_value_next_item(fk_value *place, fk_value *value);
/* A number that is JSON's; not of the length of a novel, not beyond double. */
bool fk_value_number(fk_value value, double *number);
/* A string without a backslash, as its bytes in the text. */
bool fk_value_string(fk_value value, const char **bytes, size_t *length);
/* Whether so many bytes, of a key or a string, are this text. */
bool fk_value_is(const char *bytes, size_t length, const char *text);
/* The number that so many bytes write, wherever the decimal point lies in the app's locale. */
bool fk_parse_number(const char *bytes, size_t length, double *number);

#endif
