/* A round's batches from sentences, as models/batches.py makes them. */
#include <stdlib.h>
#include <string.h>

#include "fk_batches.h"
#include "fk_protocol_parts.h"

enum { MAX_POSITIONS = 1 << 16, MAX_SENTENCES = 1 << 20, MAX_BYTES = 1 << 28 };

/* Numbers from a seed, so that a training can be repeated; they hide nothing. Source: mulberry32 (public domain), as the
 * browser's client draws. */
static uint32_t draw(uint32_t *seed) {
  uint32_t mixed = *seed += 0x6d2b79f5u;
  mixed = (mixed ^ mixed >> 15) * (mixed | 1);
  mixed ^= mixed + (mixed ^ mixed >> 7) * (mixed | 61);
  return mixed ^ mixed >> 14;
}

static void shuffle(size_t *values, size_t count, uint32_t *seed) {
  for (size_t last = count; last-- > 1;) {
    size_t other = (size_t)((uint64_t)draw(seed) * (last + 1) >> 32), moved = values[last];
    values[last] = values[other];
    values[other] = moved;
  }
}

typedef struct {
  const int32_t *const *ids; /* of all sentences */
  const size_t *lengths;
  const fk_drawing *how;
  uint32_t seed;
  size_t *order, *scratch; /* of an epoch */
  size_t count; /* of sentences in an epoch */
} drawn;

/* Sorts `order` by length; sentences of the same length stay in their order. A merge sort. */
static void sort_by_length(const drawn *from, size_t *order, size_t *scratch, size_t count) {
  if (count < 2) return;
  size_t half = count / 2, left = 0, right = half;
  sort_by_length(from, order, scratch, half);
  sort_by_length(from, order + half, scratch, count - half);
  for (size_t i = 0; i < count; i++) {
    bool takes_left = right == count || (left < half && from->lengths[order[left]] <= from->lengths[order[right]]);
    scratch[i] = takes_left ? order[left++] : order[right++];
  }
  memcpy(order, scratch, count * sizeof *order);
}

/* Puts sentences into groups alike in length, whose sizes differ by 1 at most. */
static void put_into_buckets(drawn *from) {
  size_t buckets = (size_t)from->how->length_buckets, size = from->count / buckets, rest = from->count % buckets;
  sort_by_length(from, from->order, from->scratch, from->count);
  for (size_t bucket = 0, at = 0; bucket < buckets; bucket++) {
    size_t end = at + size + (bucket < rest);
    shuffle(from->order + at, end - at, &from->seed);
    at = end;
  }
}

/* Writes a sentence w1..wn as the tokens <bos> w1 .. and the targets w1 .. wn <eos>, cut to `time` positions. */
static void write_row(const drawn *from, size_t sentence, int32_t *tokens, int32_t *targets, float *mask) {
  size_t time = (size_t)from->how->time, length = from->lengths[sentence];
  size_t num_words = length < time ? length : time, real = num_words + 1 < time ? num_words + 1 : time;
  tokens[0] = FK_BOS;
  for (size_t i = 0; i < num_words; i++) {
    int32_t id = from->ids[sentence][i];
    targets[i] = id >= from->how->vocabulary_size ? FK_UNK : id;
    if (i + 1 < real) tokens[i + 1] = targets[i];
  }
  if (num_words < time) targets[num_words] = FK_EOS;
  for (size_t i = 0; i < real; i++) mask[i] = 1.0f;
}

static void write_batch(const drawn *from, const size_t *sentences, size_t count, uint8_t *batch) {
  size_t time = (size_t)from->how->time, positions = time * (size_t)from->how->batch_size;
  int32_t *tokens = (int32_t *)(void *)batch, *targets = tokens + positions;
  float *mask = (float *)(void *)(targets + positions);
  for (size_t row = 0; row < count; row++)
    write_row(from, sentences[row], tokens + row * time, targets + row * time, mask + row * time);
}

/* Writes an epoch's batches, one after the other; in a random order if there are buckets. */
static void write_epoch(drawn *from, const size_t *chosen, uint8_t *batches) {
  size_t rows = (size_t)from->how->batch_size, bytes = 4 * FK_NUM_PARTS * rows * (size_t)from->how->time;
  size_t num_batches = (from->count + rows - 1) / rows, *which = from->scratch;
  memcpy(from->order, chosen, from->count * sizeof *chosen);
  shuffle(from->order, from->count, &from->seed);
  if (from->how->length_buckets > 1) put_into_buckets(from);
  for (size_t i = 0; i < num_batches; i++) which[i] = i;
  if (from->how->length_buckets > 1) shuffle(which, num_batches, &from->seed);
  for (size_t i = 0; i < num_batches; i++) {
    size_t first = which[i] * rows, left = from->count - first;
    write_batch(from, from->order + first, left < rows ? left : rows, batches + i * bytes);
  }
}

static fk_status check_drawing(const int32_t *const *ids, const size_t *lengths, size_t count, const fk_drawing *how,
                               fk_error *error) {
  if (!ids || !lengths || !how || count < 1 || count > MAX_SENTENCES)
    return fk_fail(error, FK_BAD_ARGUMENT, "batches need 1 to %d sentences and a drawing", MAX_SENTENCES);
  if (how->epochs < 1 || how->batch_size < 1 || how->batch_size > FK_MAX_BATCH || how->max_sentences < 1 ||
      how->time < 1 || how->time > MAX_POSITIONS || how->vocabulary_size <= FK_NUM_SPECIAL || how->length_buckets < 1)
    return fk_fail(error, FK_BAD_ARGUMENT, "a drawing has epochs, sentences, positions and words, and at most %d rows",
                   FK_MAX_BATCH);
  for (size_t i = 0; i < count; i++)
    for (size_t at = 0; at < lengths[i]; at++)
      if (ids[i][at] < 0) return fk_fail(error, FK_BAD_ARGUMENT, "there is no id %d", ids[i][at]);
  return FK_OK;
}

/* `room`: three numbers a sentence. */
static fk_status draw_into(drawn *from, size_t *room, size_t count, fk_batches **batches, fk_error *error) {
  const fk_drawing *how = from->how;
  size_t *chosen = room, rows = (size_t)how->batch_size;
  from->order = room + count;
  from->scratch = room + 2 * count;
  for (size_t i = 0; i < count; i++) chosen[i] = i;
  shuffle(chosen, count, &from->seed);
  from->count = count < (size_t)how->max_sentences ? count : (size_t)how->max_sentences;
  size_t in_epoch = (from->count + rows - 1) / rows, bytes = 4 * FK_NUM_PARTS * rows * (size_t)how->time;
  if ((size_t)how->epochs > MAX_BYTES / bytes / in_epoch)
    return fk_fail(error, FK_UNSUPPORTED, "%d epochs of %zu batches take more than %d bytes", how->epochs, in_epoch,
                   MAX_BYTES);
  size_t num_batches = (size_t)how->epochs * in_epoch, size = sizeof(fk_batches_header) + num_batches * bytes;
  uint8_t *content = calloc(1, size); /* <pad> and a mask of 0 wherever nothing is written */
  if (!content) return fk_no_memory(error);
  fk_batches_header header = {{'F', 'K', 'B', 'A', 'T', 'C', 'H', '1'},
                              (int32_t)num_batches,
                              how->batch_size,
                              how->time,
                              how->vocabulary_size};
  memcpy(content, &header, sizeof header);
  for (size_t epoch = 0; epoch < (size_t)how->epochs; epoch++)
    write_epoch(from, chosen, content + sizeof header + epoch * in_epoch * bytes);
  return fk_batches_take(content, size, "the batches drawn", batches, error);
}

fk_status fk_batches_draw(const int32_t *const *ids, const size_t *lengths, size_t count, const fk_drawing *drawing,
                          fk_batches **batches, fk_error *error) {
  if (!batches) return fk_fail(error, FK_BAD_ARGUMENT, "fk_batches_draw needs a place");
  *batches = NULL;
  FK_TRY(check_drawing(ids, lengths, count, drawing, error));
  drawn from = {.ids = ids, .lengths = lengths, .how = drawing, .seed = drawing->seed};
  size_t *room = fk_array(3 * count, sizeof *room);
  if (!room) return fk_no_memory(error);
  fk_status status = draw_into(&from, room, count, batches, error);
  free(room);
  return status;
}
