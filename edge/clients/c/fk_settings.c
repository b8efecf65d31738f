/* A run's settings as the server sends them: JSON with every setting of this version, each in its range. The table is made
 * from Python's settings (edge/conformance/settings.h). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fk_protocol_parts.h"

#define FK_SETTINGS_TABLE
#include "../../conformance/settings.h"

#define MOST_WEIGHTS 0x1p28 /* what fedkeys itself trains at most */
#define NUM_SPECIAL 4

_Static_assert(FK_NUM_SETTINGS <= FK_MOST_SETTINGS, "raise FK_MOST_SETTINGS");

static const char *const SPECIAL_WORDS[NUM_SPECIAL] = {"<pad>", "<bos>", "<eos>", "<unk>"};

static fk_status not_ours(fk_error *error) {
  return fk_fail(error, FK_WIRE_ERROR, "the server's configuration or vocabulary is not one of this fedkeys");
}

static fk_status untrainable(fk_error *error, const char *why) {
  return fk_fail(error, FK_DEMAND_REFUSED, "the server's settings can't be trained with: %s", why);
}

double fk_setting_default(size_t place) { return FK_SETTINGS[place].usual; }

const char *fk_setting_text(const fk_settings *settings, size_t place) {
  return FK_SETTINGS[place].one_of[(size_t)settings->values[place]];
}

/* ---- the configuration ---- */

/* What was read so far. */
typedef struct {
  fk_settings *settings;
  bool seen[FK_NUM_SETTINGS];
  size_t num_seen;
  bool has_seed;
  size_t odd; /* the first setting that is none of its kinds; FK_NUM_SETTINGS: there is none */
} fk_reading;

static bool is_text(fk_value value) { return value.at < value.end && *value.at == '"'; }

bool fk_is_integer(fk_value value) {
  for (const char *at = value.at; at < value.end && strchr("+-.eE0123456789", *at) && *at; at += 1) {
    if (strchr(".eE", *at)) return false;
  }
  return true;
}

bool fk_read_seed(fk_value value, uint64_t *seed) {
  uint64_t found = 0;
  const char *at = value.at;
  for (; at < value.end && *at >= '0' && *at <= '9'; at += 1) {
    uint64_t digit = (uint64_t)(*at - '0');
    if (found > ((uint64_t)INT64_MAX - digit) / 10) return false;
    found = 10 * found + digit;
  }
  *seed = found;
  return at > value.at && fk_is_integer(value);
}

/* The place of a text among those that a setting may be; false if it is none of them. */
static bool read_kind(const char *const *one_of, fk_value value, double *place) {
  const char *text;
  size_t size;
  if (!fk_value_string(value, &text, &size)) return false;
  for (size_t i = 0; one_of[i]; i += 1) {
    if (fk_value_is(text, size, one_of[i])) return *place = (double)i, true;
  }
  return false;
}

/* Reads one setting's value; false if it is of another type or out of its range. */
static bool read_value(fk_reading *reading, size_t place, fk_value value) {
  const fk_setting *of = &FK_SETTINGS[place];
  double *found = &reading->settings->values[place];
  bool is_true = value.end - value.at >= 4 && memcmp(value.at, "true", 4) == 0;
  bool is_false = value.end - value.at >= 5 && memcmp(value.at, "false", 5) == 0;
  if (of->kind == FK_BOOL) return *found = is_true, is_true || is_false;
  if (of->kind == FK_TEXT) {
    if (!is_text(value) || (of->least_size > 0 && value.at[1] == '"')) return false;
    if (!of->one_of) *found = value.at[1] != '"'; /* of a free text: that there is one */
    bool is_odd = of->one_of && !read_kind(of->one_of, value, found);
    if (is_odd && reading->odd == FK_NUM_SETTINGS) reading->odd = place;
    return true;
  }
  if (!fk_value_number(value, found) || (of->kind == FK_INT && !fk_is_integer(value))) return false;
  bool is_above = of->above_least ? *found > of->least : *found >= of->least;
  return is_above && (of->below_most ? *found < of->most : *found <= of->most);
}

/* Reads a section: each setting once, and none that nobody knows. */
static bool read_section(fk_reading *reading, const char *section, size_t section_size, fk_value object) {
  const char *key;
  size_t size, first = 0;
  fk_value value;
  while (first < FK_NUM_SETTINGS && !fk_value_is(section, section_size, FK_SETTINGS[first].section)) first += 1;
  if (first == FK_NUM_SETTINGS) return false;
  while (fk_value_next(&object, &key, &size, &value)) {
    size_t place = first;
    while (place < FK_NUM_SETTINGS && strcmp(FK_SETTINGS[place].section, FK_SETTINGS[first].section) == 0 &&
           !fk_value_is(key, size, FK_SETTINGS[place].name)) {
      place += 1;
    }
    bool is_known = place < FK_NUM_SETTINGS && strcmp(FK_SETTINGS[place].section, FK_SETTINGS[first].section) == 0;
    if (!is_known || reading->seen[place] || !read_value(reading, place, value)) return false;
    reading->seen[place] = true;
    reading->num_seen += 1;
  }
  return true;
}

static bool read_config(fk_reading *reading, fk_bytes config) {
  const char *text = (const char *)config.data, *key;
  fk_value root = {text, text + config.size}, value;
  size_t size;
  if (!fk_utf8_count(config, &size) || !fk_value_is_json(root)) return false;
  while (fk_value_next(&root, &key, &size, &value)) {
    if (fk_value_is(key, size, "seed")) {
      if (reading->has_seed || !fk_read_seed(value, &reading->settings->seed)) return false;
      reading->has_seed = true;
    } else if (!read_section(reading, key, size, value)) {
      return false;
    }
  }
  return reading->has_seed && reading->num_seen == FK_NUM_SETTINGS;
}

/* ---- the words ---- */

static int by_word(const void *one, const void *other) {
  const fk_word *first = one, *second = other;
  size_t least = first->size < second->size ? first->size : second->size;
  int order = least ? memcmp(first->text, second->text, least) : 0;
  return order ? order : (first->size > second->size) - (first->size < second->size);
}

static fk_status check_words(const fk_word *words, size_t count, fk_error *error) {
  if (count <= NUM_SPECIAL) return not_ours(error);
  for (size_t i = 0; i < count; i += 1) {
    if (fk_is_no_word((fk_bytes){(const uint8_t *)words[i].text, words[i].size})) return not_ours(error);
    if (i < NUM_SPECIAL && !fk_value_is(words[i].text, words[i].size, SPECIAL_WORDS[i])) return not_ours(error);
  }
  fk_word *sorted = fk_array(count, sizeof *sorted);
  if (!sorted) return fk_no_memory(error);
  memcpy(sorted, words, count * sizeof *sorted);
  qsort(sorted, count, sizeof *sorted, by_word);
  bool repeats = false;
  for (size_t i = 1; i < count; i += 1) repeats = repeats || by_word(&sorted[i - 1], &sorted[i]) == 0;
  free(sorted);
  return repeats ? not_ours(error) : FK_OK;
}

/* ---- the rules between settings that bear on a client's work ---- */

static fk_status check_rules(const fk_settings *settings, fk_error *error) {
  const double *of = settings->values;
  const struct {
    bool holds;
    const char *why;
  } rules[] = {
      {of[FK_MODEL_VOCABULARY_SIZE] <= of[FK_DATA_VOCABULARY_SIZE], "the model can't have more words than the vocabulary"},
      {of[FK_DATA_MIN_SENTENCES] <= of[FK_DATA_MAX_SENTENCES_TRAIN], "nobody could have enough sentences to train"},
      {of[FK_AGGREGATION_MIN_SURVIVORS] <= of[FK_ROUNDS_COHORT_SIZE], "no round could ever be summed"},
      {of[FK_AGGREGATION_MIN_SURVIVORS] >= 2 || strcmp(fk_setting_text(settings, FK_AGGREGATION_AGGREGATOR), "plain") == 0,
       "the sum of one is that one's update"},
      {of[FK_CLIENT_LENGTH_BUCKETS] <= of[FK_DATA_MAX_WORDS], "there are no more lengths than data.max_words"},
      {of[FK_CLIENT_DROPOUT] <= 0 && of[FK_CLIENT_PROXIMAL] <= 0, "the exported model trains without dropout and FedProx"},
      {of[FK_MODEL_FROZEN] <= 0, "clients outside this process train all of a model's weights"},
      {strcmp(fk_setting_text(settings, FK_PRIVACY_MECHANISM), "none") == 0 && of[FK_PRIVACY_ADAPTIVE_CLIP] <= 0,
       "over a network a sum has one clip norm and no noise"},
  };
  for (size_t i = 0; i < sizeof rules / sizeof *rules; i += 1) {
    if (!rules[i].holds) return untrainable(error, rules[i].why);
  }
  return FK_OK;
}

fk_status fk_read_settings(fk_bytes config, const fk_word *words, size_t num_words, fk_settings *settings, fk_error *error) {
  fk_reading reading = {.settings = settings, .odd = FK_NUM_SETTINGS};
  *settings = (fk_settings){.words = words, .num_words = num_words};
  if (!read_config(&reading, config)) return not_ours(error);
  FK_TRY(check_words(words, num_words, error));
  if (reading.odd != FK_NUM_SETTINGS) {
    const fk_setting *odd = &FK_SETTINGS[reading.odd];
    return fk_fail(error, FK_DEMAND_REFUSED, "the server's settings can't be trained with: %s.%s is of a kind that nobody knows",
                   odd->section, odd->name);
  }
  settings->vocabulary_size = fmin(settings->values[FK_MODEL_VOCABULARY_SIZE], (double)num_words);
  return check_rules(settings, error);
}

/* ---- what follows from them ---- */

double fk_num_weights(const fk_settings *settings) {
  double words = settings->vocabulary_size, embedding = settings->values[FK_MODEL_EMBEDDING_SIZE];
  double cells = settings->values[FK_MODEL_NUM_CELLS];
  return words * embedding + 2 * embedding * 3 * cells + 3 * cells + cells * embedding + words;
}

double fk_most_sentences(const fk_settings *settings) {
  const double *of = settings->values;
  return fmin(of[FK_CLIENT_MAX_SENTENCES], of[FK_DATA_MAX_SENTENCES_TRAIN]) * of[FK_CLIENT_EPOCHS];
}

fk_status fk_check_trainable(const fk_settings *settings, fk_error *error) {
  double count = fk_num_weights(settings);
  if (count <= MOST_WEIGHTS) return FK_OK;
  return fk_fail(error, FK_DEMAND_REFUSED, "the server's settings can't be trained with: the model would have %.0f weights", count);
}

static fk_weighting weighting_of(const fk_settings *settings) {
  const char *name = fk_setting_text(settings, FK_CLIENT_WEIGHTING);
  return strcmp(name, "equal") == 0 ? FK_EQUALLY : strcmp(name, "tokens") == 0 ? FK_BY_TOKENS : FK_BY_EXAMPLES;
}

void fk_run_of(const fk_settings *settings, fk_run *run) {
  const double *of = settings->values;
  *run = (fk_run){
      .seed = settings->seed,
      .num_rounds = (uint32_t)of[FK_ROUNDS_COUNT],
      .cohort_size = (uint32_t)of[FK_ROUNDS_COHORT_SIZE],
      .vocabulary_size = (uint32_t)settings->vocabulary_size,
      .embedding_size = (uint32_t)of[FK_MODEL_EMBEDDING_SIZE],
      .num_cells = (uint32_t)of[FK_MODEL_NUM_CELLS],
      .num_weights = (size_t)fk_num_weights(settings),
      .max_words = (uint32_t)of[FK_DATA_MAX_WORDS],
      .max_sentences_train = (uint32_t)of[FK_DATA_MAX_SENTENCES_TRAIN],
      .max_sentences = (uint32_t)of[FK_CLIENT_MAX_SENTENCES],
      .epochs = (uint32_t)of[FK_CLIENT_EPOCHS],
      .batch_size = (uint32_t)of[FK_CLIENT_BATCH_SIZE],
      .length_buckets = (uint32_t)of[FK_CLIENT_LENGTH_BUCKETS],
      .client_clip_norm = of[FK_CLIENT_CLIP_NORM],
      .clip_norm = of[FK_AGGREGATION_CLIP_NORM],
      .weighting = weighting_of(settings),
      .words = settings->words,
      .num_words = settings->num_words,
  };
}

double fk_client_weight(fk_weighting weighting, double num_tokens, double num_examples) {
  return weighting == FK_EQUALLY ? 1 : weighting == FK_BY_TOKENS ? num_tokens : num_examples;
}

double fk_max_client_weight(const fk_settings *settings) {
  double most = fk_most_sentences(settings);
  return fk_client_weight(weighting_of(settings), most * settings->values[FK_DATA_MAX_WORDS], most);
}
