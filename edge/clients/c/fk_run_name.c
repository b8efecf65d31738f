/* The name of a run in the split sum, as orchestrator/run/identity.py: a digest of its settings, seed included, and its
 * words. Python digests its settings as it writes them, so the text that the server sent is taken as it is, and only what
 * does not enter the name is cut out. */
#include <string.h>

#include "fk_protocol_parts.h"

#define FK_NAMING_TABLE
#include "../../conformance/settings.h"

/* A place in the text. */
typedef struct {
  fk_bytes text;
  size_t at;
  bool is_lost; /* the text is written otherwise */
} fk_cursor;

static void expect(fk_cursor *cursor, const char *literal) {
  size_t size = strlen(literal);
  bool is_it = size <= cursor->text.size - cursor->at && memcmp(cursor->text.data + cursor->at, literal, size) == 0;
  if (is_it) cursor->at += size;
  else cursor->is_lost = true;
}

static void expect_key(fk_cursor *cursor, const char *before, const char *key, const char *after) {
  expect(cursor, before);
  expect(cursor, "\"");
  expect(cursor, key);
  expect(cursor, after);
}

/* Goes behind a value, which is a text, a number or a truth value, without a space: the settings are JSON already. */
static fk_bytes value(fk_cursor *cursor) {
  const uint8_t *data = cursor->text.data;
  size_t start = cursor->at, at = start;
  bool is_text = at < cursor->text.size && data[at] == '"';
  if (is_text) {
    for (at += 1; at < cursor->text.size && data[at] != '"'; at += 1) at += data[at] == '\\';
    at += 1;
  } else {
    while (at < cursor->text.size && data[at] > ' ' && !strchr(",}]{[:\"", data[at])) at += 1;
  }
  if (at == start || at > cursor->text.size) cursor->is_lost = true;
  else cursor->at = at;
  return cursor->is_lost ? (fk_bytes){0} : (fk_bytes){data + start, at - start};
}

static bool is_written(fk_bytes found, const char *literal) {
  return literal && strlen(literal) == found.size && memcmp(literal, found.data, found.size) == 0;
}

/* Adds a section from its first setting on, without what does not enter the name; returns the next one's first setting. */
static size_t add_section(fk_cursor *cursor, size_t first, fk_buffer *named) {
  const char *section = FK_NAMING[first].section;
  size_t place = first, begun = named->size;
  bool is_usual = true, is_empty = true;
  expect_key(cursor, ",", section, "\":{");
  fk_buffer_add_text(named, ",\"");
  fk_buffer_add_text(named, section);
  fk_buffer_add_text(named, "\":{");
  for (; place < FK_NUM_SETTINGS && strcmp(FK_NAMING[place].section, section) == 0; place += 1) {
    const fk_naming *of = &FK_NAMING[place];
    expect_key(cursor, place > first ? "," : "", of->name, "\":");
    fk_bytes found = value(cursor);
    bool has_default = is_written(found, of->usual);
    is_usual = is_usual && has_default;
    if ((of->is_left_out && has_default) || is_written(found, of->left_out_at)) continue;
    fk_buffer_add_text(named, is_empty ? "\"" : ",\"");
    fk_buffer_add_text(named, of->name);
    fk_buffer_add_text(named, "\":");
    if (of->replaced) fk_buffer_add_text(named, of->replaced);
    else fk_buffer_add(named, found.data, found.size);
    is_empty = false;
  }
  expect(cursor, "}");
  fk_buffer_add_text(named, "}");
  if (FK_NAMING[first].section_is_left_out && is_usual && !named->failed) named->size = begun;
  if (strcmp(section, "runtime") == 0 && !named->failed) {
    named->size = begun;
    fk_buffer_add_text(named, ",\"runtime\":");
    fk_buffer_add_text(named, FK_NAMING_RUNTIME);
  }
  return place;
}

static void add_hex(fk_buffer *buffer, const uint8_t digest[32]) {
  static const char DIGITS[] = "0123456789abcdef";
  for (size_t i = 0; i < 64; i += 1) fk_buffer_add(buffer, &DIGITS[digest[i / 2] >> (i % 2 ? 0 : 4) & 15], 1);
}

static fk_status digest_of(const fk_buffer *buffer, uint8_t digest[32], fk_error *error) {
  const fk_bytes whole = {buffer->data, buffer->size};
  return buffer->failed ? fk_no_memory(error) : fk_sha256(&whole, 1, digest, error);
}

fk_status fk_run_name(fk_bytes config, const fk_word *words, size_t num_words, uint8_t name[32], fk_error *error) {
  fk_cursor cursor = {config, 0, false};
  fk_buffer named = {0}, list = {0}, both = {0};
  uint8_t of_settings[32], of_words[32];
  expect(&cursor, "{\"seed\":");
  fk_bytes seed = value(&cursor);
  fk_buffer_add_text(&named, "{\"seed\":");
  fk_buffer_add(&named, seed.data, seed.size);
  for (size_t place = 0; place < FK_NUM_SETTINGS && !cursor.is_lost;) place = add_section(&cursor, place, &named);
  fk_buffer_add_text(&named, "}");
  expect(&cursor, "}");
  for (size_t i = 0; i < num_words; i += 1) {
    fk_buffer_add(&list, words[i].text, words[i].size);
    fk_buffer_add_text(&list, "\n");
  }
  fk_status status = FK_OK;
  if (cursor.is_lost || cursor.at != config.size) {
    status = fk_fail(error, FK_WIRE_ERROR, "the server's configuration is not written as this fedkeys writes it");
  }
  if (status == FK_OK) status = digest_of(&named, of_settings, error);
  if (status == FK_OK) status = digest_of(&list, of_words, error);
  if (status == FK_OK) {
    add_hex(&both, of_settings);
    fk_buffer_add_text(&both, " ");
    add_hex(&both, of_words);
    status = digest_of(&both, name, error);
  }
  fk_buffer_close(&named);
  fk_buffer_close(&list);
  fk_buffer_close(&both);
  return status;
}
