/* What a manifest says of a bundle's model and plan. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "fk_bundle.h"

/* Limits of the schema: those of edge/bundle/manifest.py. */
enum { SCHEMA = 1, MAX_DIMENSION = 1 << 24, MAX_POSITIONS = 1 << 16, MAX_REPEATS = 1 << 20 };
static const size_t MAX_WEIGHTS = (size_t)1 << 26;

fk_value fk_bundle_document(const fk_bundle *bundle) {
  const char *text = (const char *)bundle->manifest.bytes;
  return (fk_value){text, text + bundle->manifest.size};
}

static fk_status damaged(const fk_bundle *bundle, const char *path, fk_error *error) {
  return fk_fail(error, FK_DAMAGED, "%s/manifest.json is damaged at %s: copy the bundle again", fk_tail(bundle->folder),
                 path);
}

static fk_status get_number(const fk_bundle *bundle, const char *path, double least, double most, double *number,
                            fk_error *error) {
  fk_value value;
  if (!fk_value_find(fk_bundle_document(bundle), path, &value))
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json has no %s: export the run again", fk_tail(bundle->folder),
                   path);
  if (!fk_value_number(value, number)) return damaged(bundle, path, error);
  if (!(*number >= least && *number <= most))
    return fk_fail(error, FK_UNSUPPORTED, "%s/manifest.json has %s %.10g, from %.10g to %.10g can be: do not use it",
                   fk_tail(bundle->folder), path, *number, least, most);
  return FK_OK;
}

static fk_status get_whole(const fk_bundle *bundle, const char *path, int32_t least, int32_t most, int32_t *whole,
                           fk_error *error) {
  double number;
  FK_TRY(get_number(bundle, path, least, most, &number, error));
  *whole = (int32_t)number;
  return (double)*whole == number ? FK_OK : damaged(bundle, path, error);
}

/* ---- names and numbers of tensors ---- */

static fk_status add_name(const fk_bundle *bundle, const char *path, fk_value item, fk_names *names, fk_error *error) {
  fk_value value;
  const char *name;
  size_t length;
  if (names->count == FK_MAX_TENSORS)
    return fk_fail(error, FK_UNSUPPORTED, "manifest.json lists more than %d tensors at %s: do not use it", FK_MAX_TENSORS,
                   path);
  if (!fk_value_find(item, "name", &value) || !fk_value_string(value, &name, &length) || memchr(name, 0, length))
    return damaged(bundle, path, error);
  if (length == 0 || length > FK_MAX_TENSOR_NAME)
    return fk_fail(error, FK_UNSUPPORTED, "manifest.json names a tensor by %zu bytes, 1 to %d can be: do not use it",
                   length, FK_MAX_TENSOR_NAME);
  memcpy(names->names[names->count], name, length); /* zeros stand behind it */
  names->count++;
  return FK_OK;
}

fk_status fk_bundle_names(const fk_bundle *bundle, const char *path, fk_names *names, fk_error *error) {
  fk_value list, item;
  size_t count = 0;
  *names = (fk_names){0};
  if (!fk_value_find(fk_bundle_document(bundle), path, &list)) return damaged(bundle, path, error);
  for (fk_value place = list; fk_value_next_item(&place, &item);) count++;
  names->names = calloc(count + 1, sizeof *names->names);
  if (!names->names) return fk_fail(error, FK_NO_MEMORY, "out of memory: the names of %zu tensors", count);
  fk_status status = FK_OK;
  while (status == FK_OK && fk_value_next_item(&list, &item)) status = add_name(bundle, path, item, names, error);
  if (status == FK_OK && names->count == 0) status = damaged(bundle, path, error);
  if (status == FK_OK) return FK_OK;
  free(names->names);
  *names = (fk_names){0};
  return status;
}

const fk_names *fk_bundle_weights(const fk_bundle *bundle) { return &bundle->weights; }

static fk_status too_many(const fk_bundle *bundle, size_t count, fk_error *error) {
  return fk_fail(error, FK_UNSUPPORTED,
                 "%s/manifest.json describes a model of %zu weights, %zu are allowed: do not use it",
                 fk_tail(bundle->folder), count, MAX_WEIGHTS);
}

/* Adds the numbers in a tensor of the shape that an item describes. */
static fk_status add_size(const fk_bundle *bundle, fk_value item, size_t *total, fk_error *error) {
  fk_value shape, dimension;
  size_t size = 1;
  if (!fk_value_find(item, "shape", &shape)) return damaged(bundle, "model weights", error);
  while (fk_value_next_item(&shape, &dimension)) {
    double number;
    if (!fk_value_number(dimension, &number) || !(number >= 1 && number <= MAX_DIMENSION) ||
        (double)(size_t)number != number)
      return damaged(bundle, "model weights", error);
    if (size > MAX_WEIGHTS / (size_t)number) return too_many(bundle, SIZE_MAX, error);
    size *= (size_t)number;
  }
  *total += size;
  return *total > MAX_WEIGHTS ? too_many(bundle, *total, error) : FK_OK;
}

/* The numbers in all weights that the manifest lists. */
static fk_status count_listed(fk_bundle *bundle, fk_error *error) {
  fk_value list, item;
  if (!fk_value_find(fk_bundle_document(bundle), "model weights", &list)) return damaged(bundle, "model weights", error);
  while (fk_value_next_item(&list, &item)) FK_TRY(add_size(bundle, item, &bundle->info.num_weights, error));
  return FK_OK;
}

/* ---- next-word models ---- */

/* The default kind of network, whose manifest names no kind: its weights are known without a list. */
static fk_status read_default(fk_bundle *bundle, fk_error *error) {
  static const char NAMES[][FK_MAX_TENSOR_NAME + 1] = {"embedding", "kernel", "bias", "projection", "output_bias"};
  fk_bundle_info *info = &bundle->info;
  size_t words = (size_t)info->vocabulary_size, width = (size_t)info->embedding_size, cells = (size_t)info->num_cells;
  /* embedding, kernel and bias of three gates, projection, output bias */
  info->num_weights = words * width + 2 * width * 3 * cells + 3 * cells + cells * width + words;
  if (info->num_weights > MAX_WEIGHTS) return too_many(bundle, info->num_weights, error);
  bundle->weights.names = malloc(sizeof NAMES);
  if (!bundle->weights.names) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof NAMES);
  memcpy(bundle->weights.names, NAMES, sizeof NAMES);
  bundle->weights.count = sizeof NAMES / sizeof *NAMES;
  return FK_OK;
}

static fk_status read_words_model(fk_bundle *bundle, fk_error *error) {
  fk_bundle_info *info = &bundle->info;
  fk_value value;
  FK_TRY(get_whole(bundle, "model vocabulary_size", FK_NUM_SPECIAL + 1, MAX_DIMENSION, &info->vocabulary_size, error));
  FK_TRY(get_whole(bundle, "model embedding_size", 1, MAX_DIMENSION, &info->embedding_size, error));
  FK_TRY(get_whole(bundle, "model num_cells", 1, MAX_DIMENSION, &info->num_cells, error));
  FK_TRY(get_whole(bundle, "model max_words", 1, MAX_POSITIONS, &info->max_words, error));
  FK_TRY(get_number(bundle, "phase plan learning_rate", 0, 1e9, &info->learning_rate, error));
  FK_TRY(get_number(bundle, "phase plan clip_norm", 0, 1e9, &info->clip_norm, error));
  FK_TRY(get_whole(bundle, "phase plan epochs", 1, MAX_REPEATS, &info->epochs, error));
  FK_TRY(get_whole(bundle, "phase plan batch_size", 1, MAX_REPEATS, &info->batch_size, error));
  FK_TRY(get_whole(bundle, "phase plan max_sentences", 1, MAX_REPEATS, &info->max_sentences, error));
  info->tokeniser = 1; /* of bundles that do not say it */
  if (fk_value_find(fk_bundle_document(bundle), "tokeniser", &value))
    FK_TRY(get_whole(bundle, "tokeniser", 1, MAX_REPEATS, &info->tokeniser, error));
  if (fk_value_find(fk_bundle_document(bundle), "segmenter", &value))
    return fk_fail(error, FK_UNSUPPORTED,
                   "%s/manifest.json asks for a segmenter of words, which this client has not: use Python's",
                   fk_tail(bundle->folder));
  if (!fk_value_find(fk_bundle_document(bundle), "model kind", &value)) return read_default(bundle, error);
  FK_TRY(count_listed(bundle, error));
  return fk_bundle_names(bundle, "model weights", &bundle->weights, error);
}

/* ---- Keras models ---- */

static fk_status read_keras_model(fk_bundle *bundle, fk_error *error) {
  fk_bundle_info *info = &bundle->info;
  int32_t frozen;
  info->is_keras = true;
  FK_TRY(get_number(bundle, "plan learning_rate", 0, 1e9, &info->learning_rate, error));
  FK_TRY(get_whole(bundle, "plan epochs", 1, MAX_REPEATS, &info->epochs, error));
  FK_TRY(get_whole(bundle, "plan batch_size", 1, MAX_REPEATS, &info->batch_size, error));
  FK_TRY(get_whole(bundle, "model num_frozen", 0, (int32_t)MAX_WEIGHTS, &frozen, error));
  bundle->num_frozen = (size_t)frozen;
  FK_TRY(count_listed(bundle, error));
  /* The signatures call the weights by other names than Keras does. */
  return fk_bundle_names(bundle, "signatures train.tflite get_weights outputs", &bundle->weights, error);
}

fk_status fk_bundle_read_model(fk_bundle *bundle, fk_error *error) {
  double schema;
  fk_value kind;
  const char *text;
  size_t length;
  FK_TRY(get_number(bundle, "schema", -INT_MAX, INT_MAX, &schema, error));
  if (schema != SCHEMA)
    return fk_fail(error, FK_UNSUPPORTED,
                   "%s/manifest.json has schema %g, this client reads %d: use the client of that fedkeys",
                   fk_tail(bundle->folder), schema, SCHEMA);
  if (!fk_value_find(fk_bundle_document(bundle), "kind", &kind)) return read_words_model(bundle, error);
  if (fk_value_string(kind, &text, &length) && fk_value_is(text, length, "keras"))
    return read_keras_model(bundle, error);
  return fk_fail(error, FK_UNSUPPORTED, "%s holds a kind of model that this client has not: use that of its fedkeys",
                 fk_tail(bundle->folder));
}

fk_status fk_require_words(const fk_bundle_info *info, const char *what, fk_error *error) {
  if (!info->is_keras) return FK_OK;
  return fk_fail(error, FK_UNSUPPORTED, "the bundle holds a Keras model, and %s takes a next-word model: open its signatures "
                 "with fk_function_open", what);
}
