/* Whether this device's LiteRT computes what TensorFlow does: a training on the bundle's golden batches. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"
#include "fk_values.h"

enum { MAX_GOLDEN = 16 };
static const double MAX_TOLERANCE = 1e-5; /* what an export writes */

/* The golden batches and what they must give. */
typedef struct {
  fk_batches *batches;
  double learning_rate, tolerance, losses[MAX_GOLDEN];
  uint8_t *weights; /* float32 */
  size_t weights_bytes;
} golden;

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

static fk_status read_golden(const fk_bundle *bundle, golden *expected, fk_error *error) {
  uint8_t *bytes;
  size_t size;
  FK_TRY(fk_bundle_read(bundle, "golden/batches.bin", &bytes, &size, error));
  fk_status status = fk_batches_parse(bytes, size, "golden/batches.bin", &expected->batches, error);
  free(bytes);
  FK_TRY(status);
  FK_TRY(fk_bundle_read(bundle, "golden/expected.txt", &bytes, &size, error));
  int count = read_expected((const char *)bytes, size, expected);
  free(bytes);
  FK_TRY(fk_bundle_read(bundle, "golden/weights_after.bin", &expected->weights, &expected->weights_bytes, error));
  double rate = expected->learning_rate, tolerance = expected->tolerance;
  if (count != fk_batches_get_info(expected->batches)->num_batches || rate == 0 || tolerance == 0)
    return fk_fail(error, FK_DAMAGED, "golden/expected.txt does not fit golden/batches.bin: export the run again");
  if (!(rate > 0 && isfinite(rate) && tolerance > 0 && tolerance <= MAX_TOLERANCE))
    return fk_fail(error, FK_UNTRUSTED,
                   "golden/expected.txt allows a difference of %g at a rate of %g: do not use this bundle", tolerance,
                   rate);
  return FK_OK;
}

/* Compares; each comparison is false for a NaN. `trained`: the weights that it ended at. */
static fk_status compare(const golden *expected, fk_training *training, float *trained, size_t count,
                         fk_self_test_result *result, fk_error *error) {
  const float *wanted = (const float *)(const void *)expected->weights;
  size_t steps;
  const double *losses = fk_training_losses(training, &steps);
  bool ok = true;
  for (size_t i = 0; i < steps; i++) {
    double off = fabs(losses[i] - expected->losses[i]) / fmax(1, fabs(expected->losses[i]));
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

static fk_status train(const golden *expected, fk_model *model, fk_self_test_result *result, fk_error *error) {
  size_t count = model->info.num_weights;
  fk_training *training;
  fk_progress progress;
  FK_TRY(fk_training_open(model, expected->batches, expected->learning_rate, &training, error));
  float *trained = malloc(count * sizeof(float));
  fk_status status = trained ? FK_OK : fk_fail(error, FK_NO_MEMORY, "out of memory");
  if (status == FK_OK) status = fk_training_run(training, 0, 0, &progress, error);
  if (status == FK_OK) status = fk_model_copy_weights(model, trained, error);
  if (status == FK_OK && expected->weights_bytes != count * sizeof(float))
    status = fk_fail(error, FK_DAMAGED, "golden/weights_after.bin is of another model");
  if (status == FK_OK) {
    result->num_steps = progress.step;
    result->ms = progress.ms;
    status = compare(expected, training, trained, count, result, error);
  }
  free(trained);
  fk_training_close(training);
  return status;
}

fk_status fk_self_test(const fk_bundle *bundle, const fk_litert *litert, int32_t threads, fk_self_test_result *result,
                       fk_error *error) {
  golden expected = {0};
  fk_self_test_result found = {0};
  fk_model *model = NULL;
  if (!bundle) return fk_fail(error, FK_BAD_ARGUMENT, "fk_self_test needs a bundle");
  fk_status status = read_golden(bundle, &expected, error);
  if (status == FK_OK) status = fk_model_open(bundle, "train.tflite", litert, threads, &model, error);
  if (status == FK_OK) status = train(&expected, model, &found, error);
  fk_model_close(model);
  fk_batches_close(expected.batches);
  free(expected.weights);
  if (result) *result = found;
  return status == FK_OK ? fk_ok(error) : status;
}
