/* Whether this device's LiteRT computes what TensorFlow does: a training on the bundle's golden batches, which are batches
 * of words, or of a Keras model the arrays that its train signature takes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fk_batches.h"
#include "fk_model.h"
#include "fk_values.h"

enum { MAX_GOLDEN = 16 };
static const double MAX_TOLERANCE = 1e-5; /* what an export writes */

/* The golden batches and what they must give. */
typedef struct {
  uint8_t *batches;
  size_t batches_bytes;
  double learning_rate, tolerance, losses[MAX_GOLDEN];
  int num_losses;
  uint8_t *weights; /* float32 */
  size_t weights_bytes;
} golden;

/* What to train, and where. */
typedef struct {
  const fk_bundle *bundle;
  const fk_litert *litert;
  int32_t threads;
} place;

/* What a training on them gave. */
typedef struct {
  double losses[MAX_GOLDEN], ms;
  int num_losses;
} outcome;

/* golden/expected.txt: a name and a number a line. Returns how many losses it holds. */
static int read_expected(const char *text, size_t size, golden *expected) {
  int count = 0;
  for (const char *line = text, *end; line < text + size; line = end + 1) {
    const char *space = memchr(line, ' ', (size_t)(text + size - line));
    end = memchr(line, '\n', (size_t)(text + size - line));
    if (!end) end = text + size;
    double number;
    if (!space || space > end || !fk_parse_number(space + 1, (size_t)(end - space - 1), &number)) continue;
    size_t length = (size_t)(space - line);
    if (length == 13 && memcmp(line, "learning_rate", length) == 0) expected->learning_rate = number;
    if (length == 9 && memcmp(line, "tolerance", length) == 0) expected->tolerance = number;
    if (length == 4 && memcmp(line, "loss", length) == 0 && count < MAX_GOLDEN) expected->losses[count++] = number;
  }
  return count;
}

static fk_status does_not_fit(fk_error *error) {
  return fk_fail(error, FK_DAMAGED, "golden/expected.txt does not fit golden/batches.bin: export the run again");
}

static fk_status read_golden(const fk_bundle *bundle, golden *expected, fk_error *error) {
  uint8_t *text;
  size_t size;
  FK_TRY(fk_bundle_read(bundle, "golden/batches.bin", &expected->batches, &expected->batches_bytes, error));
  FK_TRY(fk_bundle_read(bundle, "golden/expected.txt", &text, &size, error));
  expected->num_losses = read_expected((const char *)text, size, expected);
  free(text);
  FK_TRY(fk_bundle_read(bundle, "golden/weights_after.bin", &expected->weights, &expected->weights_bytes, error));
  double rate = expected->learning_rate, tolerance = expected->tolerance;
  if (expected->num_losses == 0 || rate == 0 || tolerance == 0) return does_not_fit(error);
  if (!(rate > 0 && isfinite(rate) && tolerance > 0 && tolerance <= MAX_TOLERANCE))
    return fk_fail(error, FK_UNTRUSTED,
                   "golden/expected.txt allows a difference of %g at a rate of %g: do not use this bundle", tolerance,
                   rate);
  return FK_OK;
}

/* Compares; each comparison is false for a NaN. `trained`: the weights that it ended at. */
static fk_status compare(const golden *expected, const outcome *found, const float *trained, size_t count,
                         fk_self_test_result *result, fk_error *error) {
  const float *wanted = (const float *)(const void *)expected->weights;
  bool ok = found->num_losses == expected->num_losses;
  for (int i = 0; i < found->num_losses; i++) {
    double off = fabs(found->losses[i] - expected->losses[i]) / fmax(1, fabs(expected->losses[i]));
    ok = ok && off <= expected->tolerance;
    result->loss_off = fmax(result->loss_off, off);
  }
  for (size_t i = 0; i < count; i++) {
    double off = fabs((double)trained[i] - (double)wanted[i]);
    ok = ok && off <= expected->tolerance;
    result->weights_off = fmax(result->weights_off, off);
  }
  if (ok) return FK_OK;
  return fk_fail(error, FK_DIFFERS,
                 "self-test failed: weights %.1e off and loss %.1e off, %.0e is allowed: use LiteRT " LITERT_VERSION,
                 result->weights_off, result->loss_off, expected->tolerance);
}

/* ---- a next-word model ---- */

/* One step, in a model that is opened for it and takes up the weights of the step before: so each signature is tested, and
 * the device has memory for one of them only. */
static fk_status take_step(const place *here, const fk_batches *batches, double learning_rate, float *weights,
                           bool is_first, outcome *found, fk_error *error) {
  fk_model *model = NULL;
  fk_training *training = NULL;
  fk_progress progress;
  size_t count = fk_bundle_get_info(here->bundle)->num_weights, steps;
  fk_status status = fk_model_open(here->bundle, "train.tflite", here->litert, here->threads, &model, error);
  if (status == FK_OK && !is_first) status = fk_model_set_weights(model, weights, count, error);
  if (status == FK_OK) status = fk_training_open(model, batches, learning_rate, &training, error);
  if (status == FK_OK) status = fk_training_run(training, 0, 0, &progress, error);
  if (status == FK_OK) status = fk_model_copy_weights(model, weights, error);
  if (status == FK_OK) {
    found->losses[found->num_losses++] = fk_training_losses(training, &steps)[0];
    found->ms += progress.ms;
  }
  fk_training_close(training);
  fk_model_close(model);
  return status;
}

/* Makes batches of one of the batches. */
static fk_status single_out(const fk_batches *batches, int32_t batch, fk_batches **one, fk_error *error) {
  fk_batches_header header;
  size_t body = FK_NUM_PARTS * 4 * batches->positions, size = sizeof header + body;
  uint8_t *bytes = malloc(size);
  if (!bytes) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", size);
  memcpy(&header, batches->bytes, sizeof header);
  header.num_batches = 1;
  memcpy(bytes, &header, sizeof header);
  memcpy(bytes + sizeof header, fk_batches_part(batches, batch, FK_TOKENS), body);
  return fk_batches_take(bytes, size, batches->name, one, error);
}

static fk_status train_on_words(const place *here, const golden *expected, float *weights, outcome *found,
                                fk_error *error) {
  fk_batches *batches = NULL, *one = NULL;
  FK_TRY(fk_batches_parse(expected->batches, expected->batches_bytes, "golden/batches.bin", &batches, error));
  fk_status status = FK_OK;
  if (batches->info.num_batches != expected->num_losses) status = does_not_fit(error);
  for (int32_t i = 0; status == FK_OK && i < expected->num_losses; i++) {
    status = single_out(batches, i, &one, error);
    if (status != FK_OK) break;
    status = take_step(here, one, expected->learning_rate, weights, i == 0, found, error);
    fk_batches_close(one);
  }
  fk_batches_close(batches);
  return status;
}

/* ---- a Keras model ---- */

static const char RATE[] = "learning_rate";

/* Puts a step's arrays, which stand one after the other, and moves on behind them. */
static fk_status put_arrays(const fk_signature *train, const fk_names *names, const uint8_t **at, size_t *left,
                            fk_error *error) {
  for (size_t i = 0; i < names->count; i++) {
    const fk_tensor *input = NULL;
    if (strcmp(names->names[i], RATE) == 0) continue;
    FK_TRY(fk_signature_input(train, names->names[i], &input, error));
    if (*left < input->bytes) return does_not_fit(error);
    FK_TRY(fk_signature_put(train, input->name, *at, input->bytes, error));
    *at += input->bytes;
    *left -= input->bytes;
  }
  return FK_OK;
}

static fk_status take_steps(const golden *expected, const fk_signature *train, const fk_names *names, outcome *found,
                            fk_error *error) {
  const uint8_t *at = expected->batches;
  size_t left = expected->batches_bytes;
  float rate = (float)expected->learning_rate, loss;
  double before = fk_now_ms();
  FK_TRY(fk_signature_put(train, RATE, &rate, sizeof rate, error));
  while (found->num_losses < expected->num_losses) {
    FK_TRY(put_arrays(train, names, &at, &left, error));
    FK_TRY(fk_signature_run(train, error));
    FK_TRY(fk_signature_get(train, "loss", &loss, sizeof loss, error));
    found->losses[found->num_losses++] = (double)loss;
  }
  found->ms = fk_now_ms() - before;
  return left == 0 ? FK_OK : does_not_fit(error);
}

static fk_status train_on_arrays(const place *here, const golden *expected, float *weights, outcome *found,
                                 fk_error *error) {
  fk_model *model = NULL;
  fk_signature train = {0};
  fk_names names = {0};
  fk_status status = fk_bundle_names(here->bundle, "signatures train.tflite train inputs", &names, error);
  if (status == FK_OK)
    status = fk_model_open(here->bundle, "train.tflite", here->litert, here->threads, &model, error);
  if (status == FK_OK) status = fk_signature_open(model, "train", 1, &train, error);
  if (status == FK_OK) status = take_steps(expected, &train, &names, found, error);
  if (status == FK_OK) status = fk_model_copy_weights(model, weights, error);
  fk_signature_close(&train);
  fk_model_close(model);
  fk_free(names.names);
  return status;
}

/* ---- either ---- */

static fk_status test(const place *here, const golden *expected, fk_self_test_result *result, fk_error *error) {
  const fk_bundle_info *info = fk_bundle_get_info(here->bundle);
  size_t count = info->num_weights;
  outcome found = {0};
  if (expected->weights_bytes != count * sizeof(float))
    return fk_fail(error, FK_DAMAGED, "golden/weights_after.bin is of another model");
  float *weights = malloc(count * sizeof(float));
  if (!weights) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu weights", count);
  fk_status status = info->is_keras ? train_on_arrays(here, expected, weights, &found, error)
                                    : train_on_words(here, expected, weights, &found, error);
  result->num_steps = found.num_losses;
  result->ms = found.ms;
  if (status == FK_OK) status = compare(expected, &found, weights, count, result, error);
  free(weights);
  return status;
}

fk_status fk_self_test(const fk_bundle *bundle, const fk_litert *litert, int32_t threads, fk_self_test_result *result,
                       fk_error *error) {
  golden expected = {0};
  fk_self_test_result found = {0};
  const place here = {bundle, litert, threads};
  if (!bundle) return fk_fail(error, FK_BAD_ARGUMENT, "fk_self_test needs a bundle");
  fk_status status = read_golden(bundle, &expected, error);
  if (status == FK_OK) status = test(&here, &expected, &found, error);
  free(expected.batches);
  free(expected.weights);
  if (result) *result = found;
  return status == FK_OK ? fk_ok(error) : status;
}
