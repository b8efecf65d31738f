/* Words and ids: a bundle's vocabulary and its tokeniser. */
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"
#include "fk_tokeniser.h"

static const char *const SPECIAL[FK_NUM_SPECIAL] = {"<pad>", "<bos>", "<eos>", "<unk>"};
enum { MAX_WORDS = 1 << 24 };

struct fk_text {
  fk_tokeniser *tokeniser;
  char *list; /* the words, each ended by 0 */
  const char **words;
  int32_t num_words;
  int32_t *table; /* ids + 1 by a hash of the word, 0 where there is none; its size is a power of 2 */
  size_t table_size;
};

struct fk_sentences {
  fk_buffer words; /* each sentence ended by 0 */
  fk_buffer ids;
  size_t count;
  struct place {
    size_t words, ids, num_ids;
  } *places;
};

/* ---- the list ---- */

/* Source: FNV-1a. The list is the bundle's, so nobody can fill the table against us by typing. */
static size_t hash(const char *word, size_t length) {
  uint64_t value = 0xcbf29ce484222325u;
  for (size_t i = 0; i < length; i++) value = (value ^ (uint8_t)word[i]) * 0x100000001b3u;
  return (size_t)(value ^ value >> 32);
}

/* The place of a word in the table, or the empty one where it belongs. */
static size_t find(const fk_text *text, const char *word, size_t length) {
  size_t at = hash(word, length) & (text->table_size - 1);
  for (; text->table[at]; at = (at + 1) & (text->table_size - 1)) {
    const char *known = text->words[text->table[at] - 1];
    if (strncmp(known, word, length) == 0 && known[length] == 0) break;
  }
  return at;
}

static fk_status read_list(fk_text *text, fk_error *error) {
  char *at = text->list;
  for (int32_t id = 0; id < text->num_words; id++) {
    size_t length = strlen(at);
    text->words[id] = at;
    if (id < FK_NUM_SPECIAL && strcmp(at, SPECIAL[id]) != 0)
      return fk_fail(error, FK_DAMAGED, "vocabulary.txt must begin with <pad>, <bos>, <eos> and <unk>, a line each");
    if (fk_is_no_word((fk_bytes){(const uint8_t *)at, length}))
      return fk_fail(error, FK_DAMAGED, "vocabulary.txt has no word at line %d: export the run again", id + 1);
    size_t place = find(text, at, length);
    if (text->table[place])
      return fk_fail(error, FK_DAMAGED, "vocabulary.txt holds the word of line %d twice: export the run again", id + 1);
    text->table[place] = id + 1;
    at += length + 1;
  }
  /* What somebody typed is never padding: the special words were only there to be found twice. */
  memset(text->table, 0, text->table_size * sizeof *text->table);
  for (int32_t id = FK_NUM_SPECIAL; id < text->num_words; id++)
    text->table[find(text, text->words[id], strlen(text->words[id]))] = id + 1;
  return FK_OK;
}

static fk_status open_list(fk_text *text, const char *vocabulary, size_t size, fk_error *error) {
  size_t count = 0;
  for (size_t i = 0; i < size; i++) count += vocabulary[i] == '\n';
  if (size == 0 || vocabulary[size - 1] != '\n' || memchr(vocabulary, 0, size))
    return fk_fail(error, FK_DAMAGED, "vocabulary.txt is cut off: copy the bundle again");
  if (count <= FK_NUM_SPECIAL || count > MAX_WORDS)
    return fk_fail(error, FK_UNSUPPORTED, "vocabulary.txt has %zu words, %d to %d can be", count, FK_NUM_SPECIAL + 1,
                   MAX_WORDS);
  text->num_words = (int32_t)count;
  for (text->table_size = 16; text->table_size < 2 * count;) text->table_size *= 2;
  text->list = malloc(size);
  text->words = calloc(count, sizeof *text->words);
  text->table = calloc(text->table_size, sizeof *text->table);
  if (!text->list || !text->words || !text->table) return fk_no_memory(error);
  memcpy(text->list, vocabulary, size);
  for (size_t i = 0; i < size; i++)
    if (text->list[i] == '\n') text->list[i] = 0;
  return read_list(text, error);
}

fk_status fk_text_open_words(const char *vocabulary, size_t size, int32_t tokeniser, fk_text **text, fk_error *error) {
  if (!vocabulary || !text) return fk_fail(error, FK_BAD_ARGUMENT, "a text needs a vocabulary and a place");
  *text = NULL;
  if (tokeniser != FK_TOKENISER_VERSION)
    return fk_fail(error, FK_UNSUPPORTED, "the bundle is of tokeniser %d, this library has %d: export the run again",
                   tokeniser, FK_TOKENISER_VERSION);
  fk_text *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_no_memory(error);
  fk_status status = open_list(opened, vocabulary, size, error);
  if (status == FK_OK) status = fk_tokeniser_open(&opened->tokeniser, error);
  if (status != FK_OK) {
    fk_text_close(opened);
    return status;
  }
  *text = opened;
  return fk_ok(error);
}

fk_status fk_text_open(const fk_bundle *bundle, fk_text **text, fk_error *error) {
  if (!bundle || !text) return fk_fail(error, FK_BAD_ARGUMENT, "a text needs a bundle and a place");
  const fk_bundle_info *info = fk_bundle_get_info(bundle);
  uint8_t *content;
  size_t size;
  FK_TRY(fk_require_words(info, "fk_text_open", error));
  FK_TRY(fk_bundle_read(bundle, "vocabulary.txt", &content, &size, error));
  fk_status status = fk_text_open_words((const char *)content, size, info->tokeniser, text, error);
  free(content);
  FK_TRY(status);
  int32_t count = (*text)->num_words;
  if (count == info->vocabulary_size) return FK_OK;
  fk_text_close(*text);
  *text = NULL;
  return fk_fail(error, FK_DAMAGED, "vocabulary.txt has %d words, the model %d: export the run again", count,
                 info->vocabulary_size);
}

void fk_text_close(fk_text *text) {
  if (!text) return;
  fk_tokeniser_close(text->tokeniser);
  free(text->list);
  free(text->words);
  free(text->table);
  free(text);
}

int32_t fk_text_num_words(const fk_text *text) { return text->num_words; }

const char *fk_text_word(const fk_text *text, int32_t id) {
  return id >= 0 && id < text->num_words ? text->words[id] : NULL;
}

/* ---- sentences ---- */

/* Adds a sentence's ids, whose words lie in sentences->words from `place` on. */
static void encode(const fk_text *text, fk_sentences *sentences, struct place *place) {
  const char *word = (const char *)sentences->words.data + place->words;
  place->ids = sentences->ids.size / sizeof(int32_t);
  while (*word && !sentences->ids.failed) {
    size_t length = strcspn(word, " ");
    int32_t known = text->table[find(text, word, length)], id = known ? known - 1 : FK_UNK;
    fk_buffer_add(&sentences->ids, &id, sizeof id);
    place->num_ids++;
    word += length + (word[length] == ' ');
  }
}

/* Takes over lines of words, and gives them ids. */
static fk_status take_lines(const fk_text *text, fk_buffer *lines, fk_sentences **sentences, fk_error *error) {
  fk_sentences *made = calloc(1, sizeof *made);
  if (!made) return fk_no_memory(error);
  made->words = *lines;
  *lines = (fk_buffer){0};
  for (size_t i = 0; i < made->words.size; i++) made->count += made->words.data[i] == '\n';
  made->places = fk_array(made->count, sizeof *made->places);
  for (size_t i = 0, at = 0; made->places && i < made->count; i++) {
    made->places[i].words = at;
    while (made->words.data[at] != '\n') at++;
    made->words.data[at++] = 0;
    encode(text, made, &made->places[i]);
  }
  if (!made->places || made->ids.failed) {
    fk_sentences_close(made);
    return fk_no_memory(error);
  }
  *sentences = made;
  return fk_ok(error);
}

static fk_status tokenise(fk_text *text, const char *message, size_t size, bool only_open, fk_sentences **sentences,
                          fk_error *error) {
  if (!text || (!message && size) || !sentences)
    return fk_fail(error, FK_BAD_ARGUMENT, "sentences need a text, a message and a place");
  *sentences = NULL;
  fk_buffer lines = {0};
  fk_status status =
      fk_tokeniser_read(text->tokeniser, (fk_bytes){(const uint8_t *)message, size}, only_open, &lines, error);
  if (status == FK_OK) status = take_lines(text, &lines, sentences, error);
  fk_buffer_close(&lines);
  return status;
}

fk_status fk_text_sentences(fk_text *text, const char *message, size_t size, fk_sentences **sentences,
                            fk_error *error) {
  return tokenise(text, message, size, false, sentences, error);
}

fk_status fk_text_unfinished(fk_text *text, const char *message, size_t size, fk_sentences **sentences,
                                fk_error *error) {
  return tokenise(text, message, size, true, sentences, error);
}

fk_status fk_text_from_words(fk_text *text, const char *words, size_t size, fk_sentences **sentences,
                             fk_error *error) {
  if (!text || (!words && size) || !sentences || (size && (memchr(words, '\n', size) || memchr(words, 0, size))))
    return fk_fail(error, FK_BAD_ARGUMENT, "a sentence is words on one line");
  *sentences = NULL;
  fk_buffer line = {0};
  fk_buffer_add(&line, words, size);
  fk_buffer_add_text(&line, "\n");
  fk_status status = line.failed ? fk_no_memory(error) : take_lines(text, &line, sentences, error);
  fk_buffer_close(&line);
  return status;
}

void fk_sentences_close(fk_sentences *sentences) {
  if (!sentences) return;
  fk_buffer_close(&sentences->words);
  fk_buffer_close(&sentences->ids);
  free(sentences->places);
  free(sentences);
}

size_t fk_sentences_count(const fk_sentences *sentences) { return sentences->count; }

const char *fk_sentences_words(const fk_sentences *sentences, size_t index) {
  return index < sentences->count ? (const char *)sentences->words.data + sentences->places[index].words : NULL;
}

const int32_t *fk_sentences_ids(const fk_sentences *sentences, size_t index, size_t *count) {
  *count = index < sentences->count ? sentences->places[index].num_ids : 0;
  if (*count == 0) return NULL;
  return (const int32_t *)(const void *)sentences->ids.data + sentences->places[index].ids;
}
