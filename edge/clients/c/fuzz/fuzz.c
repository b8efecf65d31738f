/* A target for libFuzzer: the first byte says which parser reads the rest. Each must end, and touch nothing but its own. */
#define _XOPEN_SOURCE 700
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../fedkeys.h"
#include "../fk_protocol_parts.h"
#include "../fk_saved.h"
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

/* A training of three weights on four batches, whose check sums and rate are those that the bytes claim. */
static void read_saved(const uint8_t *data, size_t size) {
  static const fk_batches_info BATCHES = {.num_batches = 4, .num_examples = 16, .num_tokens = 64};
  fk_saved_header here = {.num_weights = 3};
  fk_saved saved;
  uint8_t *bytes = malloc(size + 8), copy[4 * sizeof(double) + 3 * sizeof(float)];
  if (!bytes) abort();
  memcpy(bytes, FK_SAVED_MAGIC, 8);
  if (size) memcpy(bytes + 8, data, size);
  size += 8;
  if (size >= sizeof here) {
    memcpy(&here, bytes, sizeof here);
    here.num_weights = 3;
    if (here.step & 1) memcpy(bytes + offsetof(fk_saved_header, num_weights), &here.num_weights, sizeof here.num_weights);
  }
  if (fk_saved_read(bytes, size, &here, &BATCHES, &saved, NULL) == FK_OK) {
    size_t losses = (size_t)saved.header.step * sizeof(double);
    memcpy(copy, saved.losses, losses);
    memcpy(copy + losses, saved.weights, 3 * sizeof(float));
    if (saved.weights + 3 * sizeof(float) != bytes + size) abort();
  }
  free(bytes);
}

static void write_file(const char *folder, const char *name, const void *content, size_t size) {
  char path[96];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(content, 1, size, file) != size || fclose(file) != 0) abort();
}

static char folder[64];

static void remove_folder(void) {
  static const char *const NAMES[] = {"manifest.json", "SIGNATURE", "words", "journal", "journal.lock"};
  char path[96];
  for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
    snprintf(path, sizeof path, "%s/%s", folder, NAMES[i]);
    unlink(path);
  }
  rmdir(folder);
}

/* Makes the folder, which goes when the process ends. */
static void need_folder(void) {
  const char *place = getenv("TMPDIR");
  if (*folder) return;
  snprintf(folder, sizeof folder, "%.40s/fuzz-XXXXXX", place ? place : "/tmp");
  if (!mkdtemp(folder)) abort();
  atexit(remove_folder);
  write_file(folder, "words", "", 0);
}

/* A journal is taken or refused as damaged; a round that it was told of is kept. */
static void read_journal(const uint8_t *data, size_t size) {
  char path[96];
  fk_journal_file *file;
  uint32_t first = 0, second = 0;
  need_folder();
  snprintf(path, sizeof path, "%s/journal", folder);
  write_file(folder, "journal", data, size);
  fk_status status = fk_journal_file_open(path, &file, NULL);
  if (status != FK_OK && status != FK_DAMAGED) abort();
  if (status == FK_OK) {
    fk_journal journal = fk_journal_file_callbacks(file);
    if (journal.last_round(journal.context, 7, &first, NULL) != FK_OK) abort();
    if (first < UINT32_MAX && journal.spend(journal.context, 7, ++first, NULL) != FK_OK) abort();
    if (journal.last_round(journal.context, 7, &second, NULL) != FK_OK || second != first) abort();
    fk_journal_file_close(file);
  }
  unlink(path); /* a bundle's folder holds nothing else */
  snprintf(path, sizeof path, "%s/journal.lock", folder);
  unlink(path);
}

/* A message that a server sends; the first byte says which. What was found goes again. */
static void read_message(const uint8_t *data, size_t size) {
  static const fk_word WORDS[] = {{"<pad>", 5}, {"<bos>", 5}, {"<eos>", 5}, {"<unk>", 5}, {"see", 3}};
  union {
    fk_invitation invitation;
    fk_roster roster;
    fk_delivery delivery;
    fk_survivors survivors;
    fk_unmask_request unmask_request;
    fk_to_client to_client;
    fk_settings settings;
  } found;
  if (size == 0) return;
  fk_bytes wire = {data + 1, size - 1};
  memset(&found, 0, sizeof found);
  switch (*data % 7) { /* what was found is freed after a refusal, too */
    case 0: fk_read_invitation(wire, &found.invitation, NULL); break;
    case 1:
      fk_read_roster(wire, &found.roster, NULL);
      free(found.roster.peers);
      break;
    case 2:
      fk_read_delivery(wire, &found.delivery, NULL);
      free(found.delivery.shares);
      break;
    case 3: fk_read_survivors(wire, &found.survivors, NULL); break;
    case 4:
      fk_read_unmask_request(wire, &found.unmask_request, NULL);
      free(found.unmask_request.consents);
      free(found.unmask_request.alive);
      free(found.unmask_request.dead);
      break;
    case 5:
      fk_read_to_client(wire, &found.to_client, NULL);
      free(found.to_client.words);
      break;
    default: fk_read_settings(wire, WORDS, sizeof WORDS / sizeof *WORDS, &found.settings, NULL);
  }
}

#define FILES "\"files\":{\"words\":{\"bytes\":0,\"sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}}"
static const char OF_WORDS[] =
    "{\"schema\":1,\"tokeniser\":2,\"model\":{\"vocabulary_size\":6,\"embedding_size\":2,\"num_cells\":3,\"max_words\":4},"
    "\"phase\":[{\"plan\":{\"epochs\":1,\"batch_size\":4,\"learning_rate\":0.5,\"clip_norm\":0.0,\"max_sentences\":9}}],"
    FILES;
static const char OF_GRU[] =
    "{\"schema\":1,\"tokeniser\":2,\"model\":{\"vocabulary_size\":6,\"embedding_size\":2,\"num_cells\":3,\"max_words\":4,"
    "\"kind\":\"gru\",\"weights\":[{\"name\":\"a\",\"shape\":[6,2],\"offset_bytes\":0},{\"name\":\"b\",\"shape\":[],"
    "\"offset_bytes\":48}]},\"phase\":[{\"plan\":{\"epochs\":1,\"batch_size\":4,\"learning_rate\":0.5,\"clip_norm\":0.0,"
    "\"max_sentences\":9}}]," FILES;
static const char OF_KERAS[] =
    "{\"schema\":1,\"kind\":\"keras\",\"model\":{\"num_frozen\":3,\"weights\":[{\"name\":\"d/k\",\"shape\":[2,3],\"offset_bytes\":0}]},"
    "\"plan\":{\"epochs\":1,\"batch_size\":4,\"learning_rate\":0.5},\"signatures\":{\"train.tflite\":{\"get_weights\":{\"inputs\":[],"
    "\"outputs\":[{\"name\":\"d_k\",\"dtype\":\"float32\",\"shape\":[2,3]}]}}}," FILES;

/* A folder whose manifest is sound but for what the bytes put there: pairs of a place and a byte, and behind a pair of
 * zeros a signature. */
static void read_folder(const uint8_t *data, size_t size, const char *sound) {
  char manifest[1024], path[96];
  fk_bundle *bundle;
  fk_error error;
  need_folder();
  size_t length = strlen(sound), at = 0;
  if (length >= sizeof manifest) abort();
  memcpy(manifest, sound, length + 1);
  for (; at + 3 <= size && (data[at] || data[at + 1]); at += 3) {
    size_t where = ((size_t)data[at] << 8 | data[at + 1]) % (length + 1);
    if (where == length) length = data[at + 2] ? length : length / 2;
    else manifest[where] = (char)data[at + 2];
  }
  write_file(folder, "manifest.json", manifest, length);
  at = at + 3 < size ? at + 3 : size;
  snprintf(path, sizeof path, "%s/SIGNATURE", folder);
  if (at < size) write_file(folder, "SIGNATURE", data + at, size - at);
  else unlink(path);
  fk_status status = fk_bundle_open(folder, NULL, &bundle, &error);
  if (error.status != status || (size == 0 && status != FK_OK)) abort();
  if (status != FK_OK) return;
  status = fk_bundle_verify(bundle, &error);
  if (error.status != status || (size == 0 && status != FK_OK)) abort();
  fk_bundle_close(bundle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  uint8_t key[FK_KEY_BYTES];
  if (size == 0) return 0;
  uint8_t which = *data++ % 12;
  size--;
  if (which == 0) read_values(data, size);
  if (which == 1) read_batches(data, size);
  if (which == 2) read_words(data, size);
  if (which == 3 || which == 4) read_text(data, size, which == 4);
  if (which == 5) fk_public_key_from_pem((const char *)data, size, key, NULL);
  if (which == 6) read_saved(data, size);
  if (which == 7) read_folder(data, size, OF_WORDS);
  if (which == 8) read_journal(data, size);
  if (which == 9) read_message(data, size);
  if (which == 10) read_folder(data, size, OF_GRU);
  if (which == 11) read_folder(data, size, OF_KERAS);
  return 0;
}
