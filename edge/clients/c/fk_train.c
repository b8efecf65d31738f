/* A client's part of a round: a step of SGD a batch, in slices. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fk_batches.h"
#include "fk_digest.h"
#include "fk_files.h"
#include "fk_model.h"
#include "fk_packing.h"
#include "fk_saved.h"

enum { MAX_RATE = 1000 };

struct fk_training {
  fk_model *model;
  const fk_batches *batches;
  fk_packing packing;
  fk_signature whole;                  /* a step on a batch as it is */
  fk_signature smaller[FK_MAX_SHAPES]; /* of the packing's shapes, opened when they are needed */
  float learning_rate;
  float *start;   /* the weights that it began from */
  double *losses; /* of the steps done */
  fk_progress progress;
  double slowest_ms;
  atomic_bool cancel;
};

static fk_status check_fit(const fk_training *training, fk_error *error) {
  const fk_batches *batches = training->batches;
  const fk_tensor *tokens = NULL;
  FK_TRY(fk_signature_input(&training->whole, "tokens", &tokens, error));
  int32_t time = tokens->type.layout.dimensions[1], words = training->model->info.vocabulary_size;
  if (batches->info.time == time && batches->info.vocabulary_size == words) return FK_OK;
  return fk_fail(error, FK_DAMAGED,
                 "%s was made for %d positions and %d words, the model has %d and %d: make it again with this bundle",
                 batches->name, batches->info.time, batches->info.vocabulary_size, time, words);
}

/* Opens a signature that trains; after a failure it is closed. */
static fk_status open_step(const fk_training *training, const char *key, int32_t rows, fk_signature *step,
                           fk_error *error) {
  fk_status status = fk_signature_open(training->model, key, rows, step, error);
  if (status == FK_OK)
    status = fk_signature_put(step, "learning_rate", &training->learning_rate, sizeof(float), error);
  if (status != FK_OK) fk_signature_close(step);
  return status;
}

/* How many signatures may train. Each that ran holds on to 12 bytes a weight, measured with LiteRT 2.3. */
static int32_t most_signatures(size_t num_weights) {
  enum { BYTES_PER_WEIGHT = 12, BYTES_TO_SPARE = 16 << 20 };
  size_t most = 1 + BYTES_TO_SPARE / (BYTES_PER_WEIGHT * num_weights);
  return most < FK_MAX_SHAPES ? (int32_t)most : FK_MAX_SHAPES;
}

static fk_status begin(fk_training *training, fk_error *error) {
  fk_model *model = training->model;
  size_t count = model->info.num_weights, steps = (size_t)training->batches->info.num_batches;
  training->start = malloc(count * sizeof(float));
  training->losses = malloc(steps * sizeof(double));
  if (!training->start || !training->losses)
    return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", count * sizeof(float));
  FK_TRY(fk_model_get_weights(model, training->start, count, error));
  FK_TRY(fk_packing_open(model, training->batches, most_signatures(count), &training->packing, error));
  FK_TRY(open_step(training, "train", training->batches->info.batch_size, &training->whole, error));
  return check_fit(training, error);
}

fk_status fk_training_open(fk_model *model, const fk_batches *batches, double learning_rate, fk_training **training,
                           fk_error *error) {
  if (!model || !batches || !training)
    return fk_fail(error, FK_BAD_ARGUMENT, "a training needs a model, batches and a place");
  *training = NULL;
  FK_TRY(fk_require_words(&model->info, "fk_training_open", error));
  if (!(learning_rate > 0 && learning_rate <= MAX_RATE))
    return fk_fail(error, FK_BAD_ARGUMENT, "the learning rate must be above 0 and at most %d, got %g", MAX_RATE,
                   learning_rate);
  fk_training *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  opened->model = model;
  opened->batches = batches;
  opened->learning_rate = (float)learning_rate;
  opened->progress.num_steps = batches->info.num_batches;
  atomic_init(&opened->cancel, false);
  fk_status status = begin(opened, error);
  if (status != FK_OK) {
    fk_training_close(opened);
    return status;
  }
  *training = opened;
  return fk_ok(error);
}

void fk_training_close(fk_training *training) {
  if (!training) return;
  fk_signature_close(&training->whole);
  for (int i = 0; i < FK_MAX_SHAPES; i++) fk_signature_close(&training->smaller[i]);
  fk_packing_close(&training->packing);
  free(training->start);
  free(training->losses);
  free(training);
}

/* ---- steps ---- */

static fk_status run_step(const fk_signature *step, const void *tokens, const void *targets, const void *mask,
                          size_t positions, fk_error *error) {
  FK_TRY(fk_signature_put(step, "tokens", tokens, 4 * positions, error));
  FK_TRY(fk_signature_put(step, "targets", targets, 4 * positions, error));
  FK_TRY(fk_signature_put(step, "mask", mask, 4 * positions, error));
  return fk_signature_run(step, error);
}

/* Trains on a batch in the smallest shape; `step` becomes the signature that ran. */
static fk_status run_batch(fk_training *training, int32_t batch, const fk_signature **step, fk_error *error) {
  const fk_batches *batches = training->batches;
  fk_packing *packing = &training->packing;
  const fk_shape *shape = fk_packing_pack(packing, batch);
  if (!shape) {
    *step = &training->whole;
    return run_step(*step, fk_batches_part(batches, batch, FK_TOKENS), fk_batches_part(batches, batch, FK_TARGETS),
                    fk_batches_part(batches, batch, FK_MASK), batches->positions, error);
  }
  fk_signature *smaller = &training->smaller[shape - packing->shapes];
  *step = smaller;
  if (!smaller->model) FK_TRY(open_step(training, shape->signature, shape->rows, smaller, error));
  size_t positions = (size_t)shape->rows * (size_t)shape->time;
  return run_step(smaller, packing->tokens, packing->targets, packing->mask, positions, error);
}

static fk_status train_step(fk_training *training, fk_error *error) {
  fk_progress *progress = &training->progress;
  const fk_batches *batches = training->batches;
  const fk_signature *step;
  int32_t batch = progress->step, num_examples, num_words;
  float loss, num_tokens;
  double before = fk_now_ms();
  FK_TRY(run_batch(training, batch, &step, error));
  FK_TRY(fk_signature_get(step, "loss", &loss, sizeof loss, error));
  FK_TRY(fk_signature_get(step, "num_tokens", &num_tokens, sizeof num_tokens, error));
  fk_batches_count(batches, batch, &num_examples, &num_words);
  double ms = fk_now_ms() - before;
  training->losses[batch] = (double)loss;
  training->slowest_ms = fmax(training->slowest_ms, ms);
  progress->loss_sum += (double)loss * (double)num_tokens;
  progress->num_tokens += num_words;
  progress->num_examples += num_examples;
  progress->ms += ms;
  progress->step++;
  return FK_OK;
}

fk_status fk_training_run(fk_training *training, uint32_t max_steps, uint32_t budget_ms, fk_progress *progress,
                          fk_error *error) {
  if (!training) return fk_fail(error, FK_BAD_ARGUMENT, "fk_training_run needs a training");
  double start = fk_now_ms();
  bool may_go_on = true;
  uint32_t steps = 0;
  training->progress.was_cancelled = false;
  while (may_go_on && training->progress.step < training->progress.num_steps) {
    if (atomic_exchange(&training->cancel, false)) {
      training->progress.was_cancelled = true;
      break;
    }
    FK_TRY(train_step(training, error));
    bool has_time = budget_ms == 0 || fk_now_ms() - start + training->slowest_ms <= (double)budget_ms;
    may_go_on = has_time && ++steps != max_steps;
  }
  training->progress.is_done = training->progress.step == training->progress.num_steps;
  if (progress) *progress = training->progress;
  return fk_ok(error);
}

void fk_training_cancel(fk_training *training) {
  if (training) atomic_store(&training->cancel, true);
}

const double *fk_training_losses(const fk_training *training, size_t *count) {
  *count = (size_t)training->progress.step;
  return training->losses;
}

/* ---- going on in another process ---- */

static fk_saved_header header_of(const fk_training *training) {
  const fk_progress *progress = &training->progress;
  fk_saved_header header = {.start_crc32 = fk_crc32(training->start, training->model->info.num_weights * sizeof(float)),
                         .batches_crc32 = fk_crc32(training->batches->bytes, training->batches->size),
                         .learning_rate = training->learning_rate,
                         .step = progress->step,
                         .num_examples = progress->num_examples,
                         .num_tokens = progress->num_tokens,
                         .num_weights = training->model->info.num_weights,
                         .loss_sum = progress->loss_sum};
  memcpy(header.magic, FK_SAVED_MAGIC, sizeof header.magic);
  return header;
}

fk_status fk_training_save(fk_training *training, uint8_t **bytes, size_t *size, fk_error *error) {
  if (!training || !bytes || !size) return fk_fail(error, FK_BAD_ARGUMENT, "fk_training_save needs a training");
  fk_saved_header header = header_of(training);
  size_t losses = (size_t)header.step * sizeof(double), weights = (size_t)header.num_weights * sizeof(float);
  *size = sizeof header + losses + weights;
  *bytes = malloc(*size);
  if (!*bytes) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", *size);
  memcpy(*bytes, &header, sizeof header);
  memcpy(*bytes + sizeof header, training->losses, losses);
  fk_status status =
      fk_model_copy_weights(training->model, (float *)(void *)(*bytes + sizeof header + losses), error);
  if (status == FK_OK) return fk_ok(error);
  free(*bytes);
  *bytes = NULL;
  return status;
}

static fk_status take_up(fk_training *training, const uint8_t *bytes, size_t size, fk_error *error) {
  fk_saved_header here = header_of(training);
  fk_saved saved;
  FK_TRY(fk_saved_read(bytes, size, &here, &training->batches->info, &saved, error));
  size_t count = (size_t)here.num_weights;
  float *weights = malloc(count * sizeof(float)); /* a copy: the bytes may lie anywhere */
  if (!weights) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", count * sizeof(float));
  memcpy(training->losses, saved.losses, (size_t)saved.header.step * sizeof(double));
  memcpy(weights, saved.weights, count * sizeof(float));
  fk_status status = fk_model_set_weights(training->model, weights, count, error);
  free(weights);
  fk_progress *progress = &training->progress;
  progress->step = saved.header.step;
  progress->num_examples = saved.header.num_examples;
  progress->num_tokens = saved.header.num_tokens;
  progress->loss_sum = saved.header.loss_sum;
  progress->is_done = progress->step == progress->num_steps;
  return status;
}

fk_status fk_training_resume(fk_model *model, const fk_batches *batches, double learning_rate, const uint8_t *bytes,
                             size_t size, fk_training **training, fk_error *error) {
  if (!bytes) return fk_fail(error, FK_BAD_ARGUMENT, "fk_training_resume needs bytes");
  FK_TRY(fk_training_open(model, batches, learning_rate, training, error));
  fk_status status = take_up(*training, bytes, size, error);
  if (status == FK_OK) return fk_ok(error);
  fk_training_close(*training);
  *training = NULL;
  return status;
}

/* ---- the update ---- */

fk_status fk_training_update(fk_training *training, float *update, size_t count, fk_error *error) {
  if (!training || !update || count != training->model->info.num_weights)
    return fk_fail(error, FK_BAD_ARGUMENT, "the update has as many numbers as the model has weights, not %zu", count);
  FK_TRY(fk_model_copy_weights(training->model, update, error));
  if (!fk_all_finite(update, count))
    return fk_fail(error, FK_DAMAGED, "training made weights that are not finite: train with a smaller --learning-rate");
  for (size_t i = 0; i < count; i++) update[i] = training->start[i] - update[i];
  return fk_ok(error);
}

fk_status fk_training_write_update(fk_training *training, const char *path, fk_error *error) {
  if (!training || !path) return fk_fail(error, FK_BAD_ARGUMENT, "an update needs a training and a path");
  const fk_progress *progress = &training->progress;
  size_t count = training->model->info.num_weights, bytes = count * sizeof(float);
  struct {
    char magic[8];
    uint32_t crc32;
    int32_t num_weights, num_examples, num_tokens;
    double loss_sum;
  } header = {{'F', 'K', 'U', 'P', 'D', 'A', 'T', '1'}, fk_crc32(training->start, bytes), (int32_t)count,
              progress->num_examples, progress->num_tokens, progress->loss_sum};
  _Static_assert(sizeof header == 32, "the update's header has no gaps");
  float *update = malloc(bytes);
  if (!update) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", bytes);
  fk_status status = fk_training_update(training, update, count, error);
  if (status == FK_OK) status = fk_write_file(path, &header, sizeof header, update, bytes, true, error);
  free(update);
  return status;
}
