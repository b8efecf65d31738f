/* A model's weights: all in one array, in the manifest's order. */
#define _POSIX_C_SOURCE 200809L
#include "fk_model.h"

#include <math.h>
#include <time.h>

double fk_now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + (double)time.tv_nsec / 1e6;
}

bool fk_all_finite(const float *values, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (!isfinite(values[i])) return false;
  return true;
}

typedef fk_status (*find_tensor)(const fk_signature *, const char *, const fk_tensor **, fk_error *);

/* Refuses a model that has another number of weights than its bundle's manifest says. */
static fk_status check_count(const fk_signature *signature, find_tensor find, fk_error *error) {
  const fk_names *weights = &signature->model->weights;
  size_t count = 0, expected = signature->model->info.num_weights;
  for (size_t i = 0; i < weights->count; i++) {
    const fk_tensor *tensor = NULL;
    FK_TRY(find(signature, weights->names[i], &tensor, error));
    count += tensor->bytes / sizeof(float);
  }
  if (count == expected) return FK_OK;
  return fk_fail(error, FK_DAMAGED, "the model has %zu weights, its manifest says %zu: export the bundle again", count,
                 expected);
}

static fk_status copy_out(const fk_signature *signature, float *weights, fk_error *error) {
  const fk_names *names = &signature->model->weights;
  FK_TRY(check_count(signature, fk_signature_output, error));
  FK_TRY(fk_signature_run(signature, error));
  for (size_t i = 0; i < names->count; i++) {
    const fk_tensor *tensor = NULL;
    FK_TRY(fk_signature_output(signature, names->names[i], &tensor, error));
    FK_TRY(fk_signature_get(signature, names->names[i], weights, tensor->bytes, error));
    weights += tensor->bytes / sizeof(float);
  }
  return FK_OK;
}

static fk_status copy_in(const fk_signature *signature, const float *weights, fk_error *error) {
  const fk_names *names = &signature->model->weights;
  FK_TRY(check_count(signature, fk_signature_input, error));
  for (size_t i = 0; i < names->count; i++) {
    const fk_tensor *tensor = NULL;
    FK_TRY(fk_signature_input(signature, names->names[i], &tensor, error));
    FK_TRY(fk_signature_put(signature, names->names[i], weights, tensor->bytes, error));
    weights += tensor->bytes / sizeof(float);
  }
  return fk_signature_run(signature, error);
}

fk_status fk_model_copy_weights(const fk_model *model, float *weights, fk_error *error) {
  fk_signature signature;
  fk_status status = fk_signature_open(model, "get_weights", 1, &signature, error);
  if (status == FK_OK) status = copy_out(&signature, weights, error);
  fk_signature_close(&signature);
  return status;
}

static fk_status check_weights(const fk_model *model, const float *weights, size_t count, fk_error *error) {
  if (!model || !weights || count != model->info.num_weights)
    return fk_fail(error, FK_BAD_ARGUMENT, "the model has %zu weights, not %zu", model ? model->info.num_weights : 0,
                   count);
  return FK_OK;
}

static fk_status check_finite(const float *weights, size_t count, fk_error *error) {
  if (fk_all_finite(weights, count)) return FK_OK;
  return fk_fail(error, FK_DAMAGED, "the weights to start from are not finite: ask the server for this round's anew");
}

fk_status fk_model_get_weights(fk_model *model, float *weights, size_t count, fk_error *error) {
  FK_TRY(check_weights(model, weights, count, error));
  FK_TRY(fk_model_copy_weights(model, weights, error));
  FK_TRY(check_finite(weights, count, error));
  return fk_ok(error);
}

fk_status fk_model_set_weights(fk_model *model, const float *weights, size_t count, fk_error *error) {
  FK_TRY(check_weights(model, weights, count, error));
  FK_TRY(check_finite(weights, count, error));
  fk_signature signature;
  fk_status status = fk_signature_open(model, "set_weights", 1, &signature, error);
  if (status == FK_OK) status = copy_in(&signature, weights, error);
  fk_signature_close(&signature);
  return status == FK_OK ? fk_ok(error) : status;
}
