#define _XOPEN_SOURCE 700
#include "fk_values.h"

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 32, MAX_NUMBER = 48 };

static void skip_space(fk_value *text) {
  while (text->at < text->end && strchr(" \t\r\n", *text->at) && *text->at) text->at++;
}

static bool take(fk_value *text, char wanted) {
  skip_space(text);
  if (text->at == text->end || *text->at != wanted) return false;
  text->at++;
  return true;
}

/* Goes behind the string that begins at `text`. */
static bool skip_string(fk_value *text) {
  if (!take(text, '"')) return false;
  for (; text->at < text->end; text->at++) {
    if (*text->at == '"') return text->at++, true;
    if (*text->at == '\\' && ++text->at == text->end) return false;
  }
  return false;
}

/* Goes behind a value of any kind; brackets are counted, not matched. */
static bool skip_value(fk_value *text) {
  size_t depth = 0;
  do {
    skip_space(text);
    if (text->at == text->end) return false;
    char c = *text->at;
    if (c == '"') {
      if (!skip_string(text)) return false;
    } else if (strchr("[{", c) && c) {
      depth++, text->at++;
    } else if (strchr("]}", c) && c) {
      if (depth == 0) return false;
      depth--, text->at++;
    } else if (strchr(",:", c) && c) {
      if (depth == 0) return false;
      text->at++;
    } else {
      while (text->at < text->end && (!strchr(" \t\r\n,:]}[{\"", *text->at) || !*text->at)) text->at++;
    }
  } while (depth > 0);
  return true;
}

bool fk_value_is(const char *bytes, size_t length, const char *text) {
  return strlen(text) == length && memcmp(bytes, text, length) == 0;
}

bool fk_value_next(fk_value *place, const char **key, size_t *key_length, fk_value *value) {
  skip_space(place);
  if (!take(place, '{') && !take(place, ',')) return false;
  skip_space(place);
  fk_value quoted = *place;
  if (!skip_string(place)) return false;
  *key = quoted.at + 1;
  *key_length = (size_t)(place->at - quoted.at) - 2;
  if (!take(place, ':')) return false;
  skip_space(place);
  *value = *place;
  return skip_value(place);
}

bool fk_value_next_item(fk_value *place, fk_value *value) {
  skip_space(place);
  if (!take(place, '[') && !take(place, ',')) return false;
  skip_space(place);
  if (place->at < place->end && *place->at == ']') return false;
  *value = *place;
  return skip_value(place);
}

/* As fk_value_next, for a value that may go on to the text's end. */
static bool find_member(fk_value object, const char *wanted, size_t length, fk_value *value) {
  fk_value member = {NULL, NULL};
  const char *key = NULL;
  size_t key_length = 0;
  for (bool more = true; more;) {
    member.at = NULL;
    more = fk_value_next(&object, &key, &key_length, &member);
    if (member.at && key_length == length && memcmp(key, wanted, length) == 0) {
      *value = member;
      return true;
    }
  }
  return false;
}

bool fk_value_find(fk_value text, const char *path, fk_value *found) {
  while (*path) {
    size_t length = strcspn(path, " ");
    if (take(&text, '[')) skip_space(&text);
    if (!find_member(text, path, length, &text)) return false;
    path += length;
    path += *path == ' ';
  }
  *found = text;
  return true;
}

bool fk_parse_number(const char *bytes, size_t length, double *number) {
  char copy[MAX_NUMBER + 1], *end;
  if (length == 0 || length > MAX_NUMBER) return false;
  memcpy(copy, bytes, length);
  copy[length] = 0;
  locale_t plain = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
  if (plain == (locale_t)0) return false;
  locale_t of_the_app = uselocale(plain);
  *number = strtod(copy, &end);
  uselocale(of_the_app);
  freelocale(plain);
  return end == copy + length;
}

/* The length of the number at `text`, by JSON's grammar; 0 if there is none. */
static size_t number_length(fk_value text) {
  const char *at = text.at;
#define DIGITS()                                                      \
  do {                                                                \
    const char *first = at;                                           \
    while (at < text.end && *at >= '0' && *at <= '9') at++;           \
    if (at == first) return 0;                                        \
  } while (0)
  if (at < text.end && *at == '-') at++;
  if (at < text.end && *at == '0')
    at++;
  else
    DIGITS();
  if (at < text.end && *at == '.') {
    at++;
    DIGITS();
  }
  if (at < text.end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < text.end && (*at == '+' || *at == '-')) at++;
    DIGITS();
  }
#undef DIGITS
  return (size_t)(at - text.at);
}

bool fk_value_number(fk_value value, double *number) {
  skip_space(&value);
  return fk_parse_number(value.at, number_length(value), number) && isfinite(*number);
}

bool fk_value_string(fk_value value, const char **bytes, size_t *length) {
  skip_space(&value);
  const char *quote = value.at;
  if (!skip_string(&value)) return false;
  *bytes = quote + 1;
  *length = (size_t)(value.at - *bytes) - 1;
  return memchr(*bytes, '\\', *length) == NULL;
}

/* ---- is it JSON? ---- */

static bool take_word(fk_value *text, const char *word) {
  size_t length = strlen(word);
  if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0) return false;
  text->at += length;
  return true;
}

static bool take_string(fk_value *text) {
  skip_space(text);
  fk_value before = *text;
  if (!skip_string(text)) return false;
  for (const char *at = before.at; at < text->at; at++) {
    if ((unsigned char)*at < ' ') return false;
    if (*at != '\\') continue;
    if (*++at != 'u') {
      if (!strchr("\"\\/bfnrt", *at) || !*at) return false;
      continue;
    }
    for (int digit = 0; digit < 4; digit++)
      if (++at >= text->at || !strchr("0123456789abcdefABCDEF", *at) || !*at) return false;
  }
  return true;
}

static bool take_value(fk_value *text, int depth) {
  if (depth > MAX_DEPTH) return false;
  skip_space(text);
  if (text->at == text->end) return false;
  if (*text->at == '"') return take_string(text);
  char closing = *text->at == '{' ? '}' : *text->at == '[' ? ']' : 0;
  if (!closing) {
    if (take_word(text, "true") || take_word(text, "false") || take_word(text, "null")) return true;
    size_t length = number_length(*text);
    text->at += length;
    return length > 0;
  }
  text->at++;
  if (take(text, closing)) return true;
  do {
    if (closing == '}' && (!take_string(text) || !take(text, ':'))) return false;
    if (!take_value(text, depth + 1)) return false;
  } while (take(text, ','));
  return take(text, closing);
}

bool fk_value_is_json(fk_value text) {
  if (!take_value(&text, 0)) return false;
  skip_space(&text);
  return text.at == text.end;
}
