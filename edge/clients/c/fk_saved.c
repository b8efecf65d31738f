#include "fk_saved.h"

#include <math.h>
#include <string.h>

static bool is_possible(const fk_saved_header *saved, const fk_batches_info *batches) {
  return saved->step >= 0 && saved->step <= batches->num_batches && saved->num_examples >= 0 &&
         saved->num_examples <= batches->num_examples && saved->num_tokens >= 0 &&
         saved->num_tokens <= batches->num_tokens && isfinite(saved->loss_sum);
}

fk_status fk_saved_read(const uint8_t *bytes, size_t size, const fk_saved_header *here, const fk_batches_info *batches,
                        fk_saved *saved, fk_error *error) {
  fk_saved_header *header = &saved->header;
  if (size < sizeof *header || memcmp(bytes, FK_SAVED_MAGIC, sizeof header->magic) != 0)
    return fk_fail(error, FK_DAMAGED, "the saved training must begin with %s: begin it anew", FK_SAVED_MAGIC);
  memcpy(header, bytes, sizeof *header);
  if (header->start_crc32 != here->start_crc32 || header->batches_crc32 != here->batches_crc32 ||
      header->num_weights != here->num_weights || header->learning_rate != here->learning_rate)
    return fk_fail(error, FK_UNSUPPORTED, "the saved training has other weights, batches or rate: begin it anew");
  size_t losses = (size_t)header->step * sizeof(double), weights = (size_t)header->num_weights * sizeof(float);
  if (!is_possible(header, batches) || size - sizeof *header < losses || size - sizeof *header - losses != weights)
    return fk_fail(error, FK_DAMAGED, "the saved training is damaged: begin it anew");
  saved->losses = bytes + sizeof *header;
  saved->weights = saved->losses + losses;
  return FK_OK;
}
