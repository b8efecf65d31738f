#include "fk_packing.h"

#include <stdlib.h>
#include <string.h>

static bool read_count(const char **text, int32_t *count) {
  enum { MAX_COUNT = 999999 };
  const char *at = *text;
  for (*count = 0; *at >= '0' && *at <= '9' && *count <= MAX_COUNT; at++) *count = 10 * *count + (*at - '0');
  bool is_count = at > *text && **text != '0' && *count <= MAX_COUNT;
  *text = at;
  return is_count;
}

static bool read_shape(const char *signature, fk_shape *shape) {
  static const char BEFORE[] = "train_";
  if (strncmp(signature, BEFORE, sizeof BEFORE - 1) != 0) return false;
  const char *at = signature + sizeof BEFORE - 1;
  shape->signature = signature;
  return read_count(&at, &shape->rows) && *at++ == 'x' && read_count(&at, &shape->time) && *at == 0;
}

static int64_t size_of(const fk_shape *shape) { return (int64_t)shape->rows * shape->time; }

static int in_order(const void *one, const void *other) {
  const fk_shape *a = one, *b = other;
  if (size_of(a) != size_of(b)) return size_of(a) < size_of(b) ? -1 : 1;
  return (a->time > b->time) - (a->time < b->time);
}

static fk_status find_shapes(const fk_model *model, fk_packing *packing, fk_error *error) {
  size_t count;
  FK_TRY(fk_model_count_signatures(model, &count, error));
  for (size_t i = 0; i < count && packing->num_shapes < FK_MAX_SHAPES; i++) {
    const char *signature;
    FK_TRY(fk_model_signature_name(model, i, &signature, error));
    fk_shape *shape = &packing->shapes[packing->num_shapes];
    if (read_shape(signature, shape) && (uint64_t)size_of(shape) < packing->batches->positions) packing->num_shapes++;
  }
  qsort(packing->shapes, (size_t)packing->num_shapes, sizeof *packing->shapes, in_order);
  return FK_OK;
}

void fk_packing_close(fk_packing *packing) {
  free(packing->lengths);
  *packing = (fk_packing){0};
}

/* Measures each row's sentence; false if a row holds anything but a sentence that begins at <bos>. The mask was checked
 * when the batches were read: its ones come first. */
static bool measure(fk_packing *packing, int32_t batch) {
  const int32_t *tokens = fk_batches_part(packing->batches, batch, FK_TOKENS), time = packing->batches->info.time;
  const float *mask = fk_batches_part(packing->batches, batch, FK_MASK);
  for (int32_t row = 0; row < packing->batches->info.batch_size; row++, tokens += time, mask += time) {
    int32_t length = 0;
    for (; length < time && mask[length] == 1.0f; length++)
      if ((tokens[length] == FK_BOS) != (length == 0)) return false;
    packing->lengths[row] = length;
  }
  return true;
}

/* The longest sentence first; of two as long, that which stands first. */
static void sort(fk_packing *packing) {
  for (int32_t sentence = 0; sentence < packing->batches->info.batch_size; sentence++) {
    int32_t at = sentence;
    for (; at > 0 && packing->lengths[packing->order[at - 1]] < packing->lengths[sentence]; at--)
      packing->order[at] = packing->order[at - 1];
    packing->order[at] = sentence;
  }
}

/* Gives each sentence the first row that has room; false if one finds none. */
static bool place(fk_packing *packing, const fk_shape *shape) {
  memset(packing->used, 0, (size_t)shape->rows * sizeof *packing->used);
  for (int32_t i = 0; i < packing->batches->info.batch_size; i++) {
    int32_t sentence = packing->order[i], length = packing->lengths[sentence], row = 0;
    if (length == 0) break;
    while (row < shape->rows && length > shape->time - packing->used[row]) row++;
    if (row == shape->rows) return false;
    packing->rows[sentence] = row;
    packing->starts[sentence] = packing->used[row];
    packing->used[row] += length;
  }
  return true;
}

static void copy(fk_packing *packing, int32_t batch, const fk_shape *shape) {
  void *to[FK_NUM_PARTS] = {packing->tokens, packing->targets, packing->mask};
  _Static_assert(FK_PAD == 0 && sizeof(int32_t) == sizeof(float), "padding is zero bytes in all three");
  for (fk_part part = 0; part < FK_NUM_PARTS; part++) {
    const uint8_t *from = fk_batches_part(packing->batches, batch, part);
    memset(to[part], 0, (size_t)size_of(shape) * sizeof(int32_t));
    for (int32_t sentence = 0; sentence < packing->batches->info.batch_size; sentence++) {
      size_t length = (size_t)packing->lengths[sentence];
      if (length == 0) continue;
      size_t place = (size_t)packing->rows[sentence] * (size_t)shape->time + (size_t)packing->starts[sentence];
      size_t before = (size_t)sentence * (size_t)packing->batches->info.time;
      memcpy((uint8_t *)to[part] + 4 * place, from + 4 * before, 4 * length);
    }
  }
}

const fk_shape *fk_packing_pack(fk_packing *packing, int32_t batch) {
  if (!measure(packing, batch)) return NULL;
  sort(packing);
  for (int32_t i = 0; i < packing->num_shapes; i++) {
    if (!place(packing, &packing->shapes[i])) continue;
    copy(packing, batch, &packing->shapes[i]);
    return &packing->shapes[i];
  }
  return NULL;
}

/* ---- which shapes ---- */

/* Positions that the batches take in a set of shapes, a bit each; `holds`: the shapes that hold each batch. */
static uint64_t cost(const fk_packing *packing, const uint32_t *holds, uint32_t set) {
  uint64_t total = 0;
  for (int32_t batch = 0; batch < packing->batches->info.num_batches; batch++) {
    int32_t i = 0;
    while (i < packing->num_shapes && !(holds[batch] & set & (uint32_t)1 << i)) i++;
    total += i < packing->num_shapes ? (uint64_t)size_of(&packing->shapes[i]) : packing->batches->positions;
  }
  return total;
}

/* The shape whose addition to a set saves the most positions; -1 if none saves any. */
static int32_t best_to_add(const fk_packing *packing, const uint32_t *holds, uint32_t set) {
  uint64_t least = cost(packing, holds, set);
  int32_t best = -1;
  for (int32_t i = 0; i < packing->num_shapes; i++) {
    uint64_t with = cost(packing, holds, set | (uint32_t)1 << i);
    if (with < least) least = with, best = i;
  }
  return best;
}

/* Keeps the shapes of a set. */
static void keep(fk_packing *packing, uint32_t set) {
  int32_t kept = 0;
  for (int32_t i = 0; i < packing->num_shapes; i++)
    if (set & (uint32_t)1 << i) packing->shapes[kept++] = packing->shapes[i];
  packing->num_shapes = kept;
}

/* First that which holds every batch, or "train"; then whatever saves most. */
static fk_status choose(fk_packing *packing, int32_t most, fk_error *error) {
  int32_t num_batches = packing->batches->info.num_batches, first = 0;
  uint32_t *holds = calloc((size_t)num_batches, sizeof *holds), all = UINT32_MAX;
  if (!holds) return fk_fail(error, FK_NO_MEMORY, "out of memory: %d batches", num_batches);
  for (int32_t batch = 0; batch < num_batches; batch++) {
    bool are_sentences = measure(packing, batch);
    sort(packing);
    for (int32_t i = 0; are_sentences && i < packing->num_shapes; i++)
      if (place(packing, &packing->shapes[i])) holds[batch] |= (uint32_t)1 << i;
    all &= holds[batch];
  }
  while (first < packing->num_shapes && !(all & (uint32_t)1 << first)) first++;
  uint32_t set = first < packing->num_shapes ? (uint32_t)1 << first : 0;
  for (int32_t chosen = 1, next; chosen < most && (next = best_to_add(packing, holds, set)) >= 0; chosen++)
    set |= (uint32_t)1 << next;
  free(holds);
  keep(packing, set);
  return FK_OK;
}

fk_status fk_packing_open(const fk_model *model, const fk_batches *batches, int32_t most, fk_packing *packing,
                          fk_error *error) {
  size_t sentences = (size_t)batches->info.batch_size, positions = batches->positions;
  *packing = (fk_packing){.batches = batches};
  FK_TRY(find_shapes(model, packing, error));
  packing->lengths = calloc(4 * (sentences + positions), sizeof(int32_t));
  if (!packing->lengths) return fk_fail(error, FK_NO_MEMORY, "out of memory: a batch of %zu positions", positions);
  packing->order = packing->lengths + sentences;
  packing->rows = packing->order + sentences;
  packing->starts = packing->rows + sentences;
  packing->used = packing->starts + sentences;
  packing->tokens = packing->used + positions;
  packing->targets = packing->tokens + positions;
  packing->mask = (float *)(void *)(packing->targets + positions);
  return choose(packing, most, error);
}
