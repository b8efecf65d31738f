/* A target for libFuzzer: the first byte says which parser reads the rest. Each must end, and touch nothing but its own. */
#include <stdlib.h>
#include <string.h>

#include "../fedkeys.h"
#include "../fk_values.h"

static void read_values(const uint8_t *data, size_t size) {
  fk_value text = {(const char *)data, (const char *)data + size}, value, place = text;
  const char *key, *bytes;
  size_t length;
  double number;
  bool is_json = fk_value_is_json(text);
  static const char *const PATHS[] = {"schema", "phase plan epochs", "files", "public_key"};
  for (size_t i = 0; i < sizeof PATHS / sizeof *PATHS; i++) {
    if (!fk_value_find(text, PATHS[i], &value)) continue;
    fk_value_number(value, &number);
    fk_value_string(value, &bytes, &length);
  }
  while (fk_value_next(&place, &key, &length, &value))
    if (key < text.at || key + length > text.end || (is_json && value.at >= text.end)) abort();
}

static void read_batches(const uint8_t *data, size_t size) {
  fk_batches *batches;
  fk_error error;
  fk_status status = fk_batches_parse(data, size, "fuzz", &batches, &error);
  if (error.status != status) abort();
  if (status != FK_OK) return;
  size_t same;
  if (memcmp(fk_batches_bytes(batches, &same), data, size) != 0 || same != size) abort();
  fk_batches_close(batches);
}

static void read_words(const uint8_t *data, size_t size) {
  fk_text *text;
  if (fk_text_open_words((const char *)data, size, 2, &text, NULL) == FK_OK) fk_text_close(text);
}

/* Reading the words of a sentence again must change nothing. */
static void read_text(const uint8_t *data, size_t size, int only_open) {
  static const char LIST[] = "<pad>\n<bos>\n<eos>\n<unk>\nsee\nyou\n";
  fk_text *text;
  fk_sentences *sentences, *again;
  if (fk_text_open_words(LIST, sizeof LIST - 1, 2, &text, NULL) != FK_OK) abort();
  fk_status status = only_open ? fk_text_unfinished(text, (const char *)data, size, &sentences, NULL)
                               : fk_text_sentences(text, (const char *)data, size, &sentences, NULL);
  for (size_t i = 0; status == FK_OK && i < fk_sentences_count(sentences); i++) {
    size_t count, same;
    const char *words = fk_sentences_words(sentences, i);
    const int32_t *ids = fk_sentences_ids(sentences, i, &count);
    if (fk_text_from_words(text, words, strlen(words), &again, NULL) != FK_OK) abort();
    const int32_t *ids_again = fk_sentences_ids(again, 0, &same);
    if (same != count || (count && memcmp(ids, ids_again, count * sizeof *ids) != 0)) abort();
    fk_sentences_close(again);
  }
  if (status == FK_OK) fk_sentences_close(sentences);
  fk_text_close(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t key[FK_KEY_BYTES];
  if (size == 0) return 0;
  uint8_t which = *data++ % 6;
  size--;
  if (which == 0) read_values(data, size);
  if (which == 1) read_batches(data, size);
  if (which == 2) read_words(data, size);
  if (which == 3 || which == 4) read_text(data, size, which == 4);
  if (which == 5) fk_public_key_from_pem((const char *)data, size, key, NULL);
  return 0;
}
