#include "fk_batches.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fk_fail.h"

static const char MAGIC[] = "FKBATCH1";
_Static_assert(sizeof(fk_batches_header) == 24, "the header has no gaps");

const void *fk_batches_part(const fk_batches *batches, int32_t batch, fk_part part) {
  size_t parts_before = FK_NUM_PARTS * (size_t)batch + (size_t)part;
  return batches->bytes + sizeof(fk_batches_header) + 4 * batches->positions * parts_before;
}

void fk_batches_count(const fk_batches *batches, int32_t batch, int32_t *num_examples, int32_t *num_tokens) {
  const float *mask = fk_batches_part(batches, batch, FK_MASK);
  *num_examples = *num_tokens = 0;
  for (size_t i = 0; i < batches->positions; i++) {
    *num_tokens += mask[i] == 1.0f;
    *num_examples += i % (size_t)batches->info.time == 0 && mask[i] == 1.0f;
  }
}

static fk_status check_batch(const fk_batches *batches, int32_t batch, fk_error *error) {
  const int32_t *tokens = fk_batches_part(batches, batch, FK_TOKENS);
  const int32_t *targets = fk_batches_part(batches, batch, FK_TARGETS);
  const float *mask = fk_batches_part(batches, batch, FK_MASK);
  int32_t size = batches->info.vocabulary_size;
  for (size_t i = 0; i < batches->positions; i++) {
    bool token_is_bad = tokens[i] < 0 || tokens[i] >= size;
    if (token_is_bad || targets[i] < 0 || targets[i] >= size)
      return fk_fail(error, FK_DAMAGED, "%s holds the %s id %d: ids go from 0 to %d", batches->name,
                     token_is_bad ? "token" : "target", token_is_bad ? tokens[i] : targets[i], size - 1);
    bool is_first = i % (size_t)batches->info.time == 0;
    if (mask[i] != 0.0f && mask[i] != 1.0f)
      return fk_fail(error, FK_DAMAGED, "%s holds a mask that is neither 0 nor 1", batches->name);
    if (!is_first && mask[i] > mask[i - 1])
      return fk_fail(error, FK_DAMAGED, "%s holds a mask with a 1 after a 0", batches->name);
  }
  return FK_OK;
}

static fk_status check_header(fk_batches *batches, size_t size, fk_error *error) {
  const char *name = batches->name;
  fk_batches_header header;
  if (size < sizeof header || memcmp(batches->bytes, MAGIC, sizeof header.magic) != 0)
    return fk_fail(error, FK_DAMAGED, "%s holds no token batches: it must begin with %s", name, MAGIC);
  memcpy(&header, batches->bytes, sizeof header);
  if (header.num_batches < 1 || header.batch_size < 1 || header.batch_size > FK_MAX_BATCH || header.time < 1)
    return fk_fail(error, FK_UNSUPPORTED,
                   "%s holds %d batches of %d sentences of %d positions: at least 1 of each, and at most %d sentences, "
                   "can be",
                   name, header.num_batches, header.batch_size, header.time, FK_MAX_BATCH);
  batches->info = (fk_batches_info){.num_batches = header.num_batches,
                                    .batch_size = header.batch_size,
                                    .time = header.time,
                                    .vocabulary_size = header.vocabulary_size};
  /* What a header claims may take more bytes than a size_t of 32 bits counts. */
  uint64_t body = size - sizeof header, positions = (uint64_t)header.batch_size * (uint64_t)header.time;
  uint64_t bytes_per_batch = 4 * FK_NUM_PARTS * positions;
  if (body % bytes_per_batch != 0 || body / bytes_per_batch != (uint64_t)header.num_batches)
    return fk_fail(error, FK_DAMAGED,
                   "%s is cut off or too long: %zu bytes, of which each of its %d batches takes %" PRIu64 "; write it again",
                   name, size, header.num_batches, bytes_per_batch);
  batches->positions = (size_t)positions;
  return FK_OK;
}

static fk_status check(fk_batches *batches, fk_error *error) {
  FK_TRY(check_header(batches, batches->size, error));
  for (int32_t batch = 0; batch < batches->info.num_batches; batch++) {
    int32_t num_examples, num_tokens;
    FK_TRY(check_batch(batches, batch, error));
    fk_batches_count(batches, batch, &num_examples, &num_tokens);
    if (num_tokens > INT32_MAX - batches->info.num_tokens)
      return fk_fail(error, FK_UNSUPPORTED, "%s holds more than %d words", batches->name, INT32_MAX);
    batches->info.num_examples += num_examples;
    batches->info.num_tokens += num_tokens;
  }
  return FK_OK;
}

fk_status fk_batches_take(uint8_t *bytes, size_t size, const char *name, fk_batches **batches, fk_error *error) {
  fk_batches *taken = calloc(1, sizeof *taken);
  if (!taken) {
    free(bytes);
    return fk_fail(error, FK_NO_MEMORY, "out of memory");
  }
  taken->bytes = bytes;
  taken->size = size;
  const char *tail = fk_tail(name);
  memcpy(taken->name, tail, strlen(tail) + 1);
  fk_status status = check(taken, error);
  if (status != FK_OK) {
    fk_batches_close(taken);
    return status;
  }
  *batches = taken;
  return fk_ok(error);
}

fk_status fk_batches_parse(const uint8_t *bytes, size_t size, const char *name, fk_batches **batches,
                           fk_error *error) {
  if (!bytes || !name || !batches) return fk_fail(error, FK_BAD_ARGUMENT, "batches need bytes, a name and a place");
  *batches = NULL;
  uint8_t *copy = malloc(size + 1);
  if (!copy) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", size);
  memcpy(copy, bytes, size);
  return fk_batches_take(copy, size, name, batches, error);
}

const uint8_t *fk_batches_bytes(const fk_batches *batches, size_t *size) {
  *size = batches->size;
  return batches->bytes;
}

void fk_batches_close(fk_batches *batches) {
  if (!batches) return;
  free(batches->bytes);
  free(batches);
}

const fk_batches_info *fk_batches_get_info(const fk_batches *batches) { return &batches->info; }
