/* A training that was saved, as bytes: what must fit for it to go on. Not for apps. */
#ifndef FK_SAVED_H
#define FK_SAVED_H

#include <stddef.h>
#include <stdint.h>

#include "fk_fail.h"
#include "fedkeys.h"

/* What fk_training_save writes first; the losses of the steps done and the weights follow. */
typedef struct {
  char magic[8];
  uint32_t start_crc32, batches_crc32;
  float learning_rate;
  int32_t step, num_examples, num_tokens;
  uint64_t num_weights;
  double loss_sum;
} fk_saved_header;
_Static_assert(sizeof(fk_saved_header) == 48, "the header has no gaps");
#define FK_SAVED_MAGIC "FKTRAIN1"

/* The parts of a saved training; losses and weights lie in its bytes, wherever these begin. */
typedef struct {
  fk_saved_header header;
  const uint8_t *losses, *weights;
} fk_saved;

/* Reads what was saved for a training like `here`, on batches of which there are so many. */
fk_status fk_saved_read(const uint8_t *bytes, size_t size, const fk_saved_header *here, const fk_batches_info *batches,
                        fk_saved *saved, fk_error *error);

#endif
