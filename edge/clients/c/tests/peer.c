/* libfedkeys' client of the protocol as a process, for tests: frames in and out. It answers until its input ends. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"

long allocations_left = 0, syncs_left = 0;

static bool is_starved(void) { return allocations_left > 0 && --allocations_left == 0; }

/* The linker puts these in the place of the library's own calls. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size) { return is_starved() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return is_starved() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return is_starved() ? NULL : __real_realloc(memory, size); }
int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor);
int __wrap_fsync(int descriptor) {
  if (syncs_left == 0 || --syncs_left > 0) return __real_fsync(descriptor);
  errno = EIO;
  return -1;
}

recorded record(fk_bytes draws) {
  recorded found = {malloc(draws.size + 1), draws.size, 0};
  if (!found.left) give_up("out of memory");
  memcpy(found.left, draws.data, draws.size);
  return found;
}

fk_status replay(void *context, void *out, size_t size, fk_error *error) {
  recorded *draws = context;
  if (!draws->left) return fk_random_bytes(NULL, out, size, error);
  if (size > draws->size - draws->at) return fk_fail(error, FK_CRYPTO, "more draws than recorded");
  memcpy(out, draws->left + draws->at, size);
  draws->at += size;
  return FK_OK;
}

static fk_status rounding_float32s(void *context, float *out, size_t count, fk_error *error) {
  rounding *draws = context;
  size_t size = count * sizeof *out;
  if (size > draws->size - draws->at) return fk_fail(error, FK_BAD_ARGUMENT, "more draws than recorded");
  memcpy(out, draws->float32s + draws->at, size);
  draws->at += size;
  return FK_OK;
}

static fk_status rounding_float64(void *context, double *out, fk_error *error) {
  (void)error;
  *out = ((rounding *)context)->float64;
  return FK_OK;
}

fk_uniform rounding_of(rounding *draws) { return (fk_uniform){rounding_float32s, rounding_float64, draws}; }

fk_policy policy_field(const frame *asked, size_t place) {
  return (fk_policy){
      .corrupt_share = number_field(asked, place),
      .dropout_share = number_field(asked, place + 1),
      .security_bits = uint_field(asked, place + 2),
      .correctness_bits = uint_field(asked, place + 3),
      .semi_malicious = uint_field(asked, place + 4) != 0,
      .complete_up_to = uint_field(asked, place + 5),
      .min_survivors = uint_field(asked, place + 6),
      .max_clients = uint_field(asked, place + 7),
  };
}

int main(void) {
  frame asked;
  while (frame_read(&asked)) {
    char *name = text_field(&asked, 0);
    reply_begin("ok");
    bool is_known = primitives_part(name, &asked) || secagg_part(name, &asked) || participant_part(name, &asked) ||
                    parsers_part(name, &asked) || roster_part(name, &asked) || split_part(name, &asked) || journal_part(name, &asked);
    if (!is_known) give_up("a question that nobody knows");
    reply_send();
    free(name);
    frame_free(&asked);
  }
  secagg_end();
  participant_end();
  journal_end();
  return 0;
}
