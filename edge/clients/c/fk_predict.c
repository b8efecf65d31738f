/* The next word: one run of the model a word, since the state after each word typed is kept. */
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"
#include "fk_protocol_parts.h"

/* Words of a sentence whose states are kept. A longer one is read from where its last words begin, which moves on by
 * half as many words at once: else each word would have all before it read anew. */
enum { MAX_KEPT = 256, MOVES_BY = MAX_KEPT / 2 };

/* A word read, and what the model made of it. */
typedef struct {
  int32_t id;
  fk_prediction predictions[FK_NUM_PREDICTIONS];
} stroke;

struct fk_predictor {
  fk_model *model;
  fk_signature infer;
  size_t hidden_bytes, cell_bytes;
  size_t num_read;
  stroke strokes[MAX_KEPT];
  uint8_t *states; /* after each stroke: hidden, then cell; the first is the state before all, zeros */
};

static uint8_t *state(const fk_predictor *predictor, size_t strokes) {
  return predictor->states + strokes * (predictor->hidden_bytes + predictor->cell_bytes);
}

static fk_status begin(fk_predictor *predictor, fk_error *error) {
  const fk_tensor *hidden = NULL, *cell = NULL;
  FK_TRY(fk_signature_open(predictor->model, "infer", 1, &predictor->infer, error));
  FK_TRY(fk_signature_input(&predictor->infer, "hidden", &hidden, error));
  FK_TRY(fk_signature_input(&predictor->infer, "cell", &cell, error));
  predictor->hidden_bytes = hidden->bytes;
  predictor->cell_bytes = cell->bytes;
  predictor->states = calloc(MAX_KEPT + 1, hidden->bytes + cell->bytes);
  if (!predictor->states)
    return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", (MAX_KEPT + 1) * (hidden->bytes + cell->bytes));
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
  size_t bytes = predictor->hidden_bytes + predictor->cell_bytes;
  fk_wipe(predictor->strokes, sizeof predictor->strokes);
  fk_wipe(predictor->states, (MAX_KEPT + 1) * bytes);
  predictor->num_read = 0;
}

/* Reads one word more. */
static fk_status read_word(fk_predictor *predictor, int32_t id, fk_error *error) {
  const fk_signature *infer = &predictor->infer;
  size_t hidden_bytes = predictor->hidden_bytes, cell_bytes = predictor->cell_bytes;
  uint8_t *before = state(predictor, predictor->num_read), *after = state(predictor, predictor->num_read + 1);
  stroke *read = &predictor->strokes[predictor->num_read];
  int32_t ids[FK_NUM_PREDICTIONS];
  float probabilities[FK_NUM_PREDICTIONS];
  FK_TRY(fk_signature_put(infer, "token", &id, sizeof id, error));
  FK_TRY(fk_signature_put(infer, "hidden", before, hidden_bytes, error));
  FK_TRY(fk_signature_put(infer, "cell", before + hidden_bytes, cell_bytes, error));
  FK_TRY(fk_signature_run(infer, error));
  FK_TRY(fk_signature_get(infer, "next_hidden", after, hidden_bytes, error));
  FK_TRY(fk_signature_get(infer, "next_cell", after + hidden_bytes, cell_bytes, error));
  FK_TRY(fk_signature_get(infer, "ids", ids, sizeof ids, error));
  FK_TRY(fk_signature_get(infer, "probabilities", probabilities, sizeof probabilities, error));
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
