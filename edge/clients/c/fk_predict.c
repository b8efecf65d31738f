/* The next word: one run of the model a word, since the state after each word typed is kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"
#include "fk_protocol_parts.h"

/* Words of a sentence whose states are kept. A longer one is read from where its last words begin, which moves on by
 * half as many words at once: else each word would have all before it read anew. */
enum { MAX_KEPT = 256, MOVES_BY = MAX_KEPT / 2, MAX_STATE = 1 << 20 /* bytes */ };

/* A word read, and what the model made of it. */
typedef struct {
  int32_t id;
  fk_prediction predictions[FK_NUM_PREDICTIONS];
} stroke;

struct fk_predictor {
  fk_model *model;
  fk_signature infer;
  size_t state_bytes;
  size_t num_read;
  stroke strokes[MAX_KEPT];
  uint8_t *states; /* after each stroke: the signature's inputs but the token; the first is the one before all, zeros */
};

static const char TOKEN[] = "token";

static uint8_t *state(const fk_predictor *predictor, size_t strokes) {
  return predictor->states + strokes * predictor->state_bytes;
}

/* The output that becomes an input of the next stroke. */
static fk_status find_next(const fk_signature *infer, const fk_tensor *input, const fk_tensor **next, fk_error *error) {
  char name[FK_MAX_TENSOR_NAME + sizeof "next_"];
  int length = snprintf(name, sizeof name, "next_%s", input->name);
  if (length < 0 || (size_t)length >= sizeof name)
    return fk_fail(error, FK_UNSUPPORTED, "the model has a state of a longer name than %d bytes: export the bundle again",
                   FK_MAX_TENSOR_NAME);
  FK_TRY(fk_signature_output(infer, name, next, error));
  if ((*next)->bytes == input->bytes) return FK_OK;
  return fk_fail(error, FK_UNSUPPORTED, "the model's %s has %zu bytes instead of %zu", name, (*next)->bytes, input->bytes);
}

/* Counts the bytes of the state, which may have any names and shapes. */
static fk_status measure_state(fk_predictor *predictor, fk_error *error) {
  const fk_signature *infer = &predictor->infer;
  const fk_tensor *token = NULL, *next = NULL;
  FK_TRY(fk_signature_input(infer, TOKEN, &token, error));
  for (size_t i = 0; i < infer->num_inputs; i++) {
    if (&infer->inputs[i] == token) continue;
    FK_TRY(find_next(infer, &infer->inputs[i], &next, error));
    if (predictor->state_bytes > MAX_STATE - infer->inputs[i].bytes)
      return fk_fail(error, FK_UNSUPPORTED, "the model's state has more than %d bytes: export the bundle again", MAX_STATE);
    predictor->state_bytes += infer->inputs[i].bytes;
  }
  return FK_OK;
}

static fk_status begin(fk_predictor *predictor, fk_error *error) {
  FK_TRY(fk_require_words(&predictor->model->info, "fk_predictor_open", error));
  FK_TRY(fk_signature_open(predictor->model, "infer", 1, &predictor->infer, error));
  FK_TRY(measure_state(predictor, error));
  predictor->states = calloc(MAX_KEPT + 1, predictor->state_bytes + 1); /* a model may have no state */
  if (!predictor->states)
    return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu states of %zu bytes", (size_t)MAX_KEPT + 1, predictor->state_bytes);
  return FK_OK;
}

fk_status fk_predictor_open(fk_model *model, fk_predictor **predictor, fk_error *error) {
  if (!model || !predictor) return fk_fail(error, FK_BAD_ARGUMENT, "a predictor needs a model and a place");
  *predictor = NULL;
  fk_predictor *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  opened->model = model;
  fk_status status = begin(opened, error);
  if (status != FK_OK) {
    fk_predictor_close(opened);
    return status;
  }
  *predictor = opened;
  return fk_ok(error);
}

void fk_predictor_close(fk_predictor *predictor) {
  if (!predictor) return;
  if (predictor->states) fk_predictor_forget(predictor);
  fk_signature_close(&predictor->infer);
  free(predictor->states);
  free(predictor);
}

void fk_predictor_forget(fk_predictor *predictor) {
  if (!predictor) return;
  fk_wipe(predictor->strokes, sizeof predictor->strokes);
  fk_wipe(predictor->states, (MAX_KEPT + 1) * predictor->state_bytes);
  predictor->num_read = 0;
}

/* Runs the model on a word and the state before it, and keeps the state after it. */
static fk_status run_stroke(const fk_predictor *predictor, int32_t id, fk_error *error) {
  const fk_signature *infer = &predictor->infer;
  const uint8_t *before = state(predictor, predictor->num_read);
  uint8_t *after = state(predictor, predictor->num_read + 1);
  for (size_t i = 0; i < infer->num_inputs; i++) {
    const fk_tensor *input = &infer->inputs[i];
    bool is_token = strcmp(input->name, TOKEN) == 0;
    FK_TRY(fk_signature_put(infer, input->name, is_token ? (const void *)&id : before, is_token ? sizeof id : input->bytes, error));
    if (!is_token) before += input->bytes;
  }
  FK_TRY(fk_signature_run(infer, error));
  for (size_t i = 0; i < infer->num_inputs; i++) {
    const fk_tensor *input = &infer->inputs[i], *next = NULL;
    if (strcmp(input->name, TOKEN) == 0) continue;
    FK_TRY(find_next(infer, input, &next, error));
    FK_TRY(fk_signature_get(infer, next->name, after, next->bytes, error));
    after += next->bytes;
  }
  return FK_OK;
}

/* Reads one word more. */
static fk_status read_word(fk_predictor *predictor, int32_t id, fk_error *error) {
  stroke *read = &predictor->strokes[predictor->num_read];
  int32_t ids[FK_NUM_PREDICTIONS];
  float probabilities[FK_NUM_PREDICTIONS];
  FK_TRY(run_stroke(predictor, id, error));
  FK_TRY(fk_signature_get(&predictor->infer, "ids", ids, sizeof ids, error));
  FK_TRY(fk_signature_get(&predictor->infer, "probabilities", probabilities, sizeof probabilities, error));
  read->id = id;
  for (size_t i = 0; i < FK_NUM_PREDICTIONS; i++) read->predictions[i] = (fk_prediction){ids[i], probabilities[i]};
  predictor->num_read++;
  return FK_OK;
}

fk_status fk_predictor_after(fk_predictor *predictor, const int32_t *ids, size_t count,
                             fk_prediction predictions[FK_NUM_PREDICTIONS], fk_error *error) {
  if (!predictor || (!ids && count) || !predictions)
    return fk_fail(error, FK_BAD_ARGUMENT, "a prediction needs a predictor, ids and a place");
  int32_t size = predictor->model->info.vocabulary_size;
  for (size_t i = 0; i < count; i++)
    if (ids[i] < 0 || ids[i] >= size)
      return fk_fail(error, FK_BAD_ARGUMENT, "there is no id %d: ids go from 0 to %d", ids[i], size - 1);
  size_t left_out = count < MAX_KEPT ? 0 : (count / MOVES_BY - 1) * MOVES_BY;
  if (left_out) ids += left_out;
  count -= left_out;
  size_t known = 0;
  while (known < predictor->num_read && known <= count &&
         predictor->strokes[known].id == (known ? ids[known - 1] : FK_BOS))
    known++;
  predictor->num_read = known;
  while (predictor->num_read <= count)
    FK_TRY(read_word(predictor, predictor->num_read ? ids[predictor->num_read - 1] : FK_BOS, error));
  memcpy(predictions, predictor->strokes[count].predictions, sizeof predictor->strokes[count].predictions);
  return fk_ok(error);
}
