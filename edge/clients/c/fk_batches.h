/* Token batches, laid out as the file is. Not for apps. */
#ifndef FK_BATCHES_H
#define FK_BATCHES_H

#include "fedkeys.h"

typedef struct {
  char magic[8];
  int32_t num_batches, batch_size, time, vocabulary_size;
} fk_batches_header;

typedef enum { FK_TOKENS, FK_TARGETS, FK_MASK, FK_NUM_PARTS } fk_part;

enum { FK_MAX_BATCH = 256, FK_MAX_NAME = 160 };

struct fk_batches {
  char name[FK_MAX_NAME]; /* what to call them in an error */
  fk_batches_info info;
  size_t positions; /* of a batch */
  uint8_t *bytes;   /* header, then for each batch its tokens, targets and mask */
  size_t size;
};

/* Checks batches in memory from malloc, which they own from then on; also after a failure it is taken care of. */
fk_status fk_batches_take(uint8_t *bytes, size_t size, const char *name, fk_batches **batches, fk_error *error);
/* Where a part of a batch begins: positions int32, or float32 for the mask. */
const void *fk_batches_part(const fk_batches *batches, int32_t batch, fk_part part);
/* Sentences in a batch, and words. */
void fk_batches_count(const fk_batches *batches, int32_t batch, int32_t *num_examples, int32_t *num_tokens);

#endif
