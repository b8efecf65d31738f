/* A bundle that is open. Not for apps. */
#ifndef FK_BUNDLE_H
#define FK_BUNDLE_H

#include "fk_files.h"
#include "fk_model.h"
#include "fk_values.h"

enum { FK_MAX_FILES = 64, FK_MAX_FILE_NAME = 200 };

/* A file that the manifest lists. */
typedef struct {
  char name[FK_MAX_FILE_NAME + 1];
  size_t bytes;
  uint8_t sha256[FK_DIGEST_BYTES];
} fk_entry;

struct fk_bundle {
  char *folder;
  fk_file manifest;
  fk_bundle_info info;
  fk_names weights;  /* that train and travel */
  size_t num_frozen; /* numbers that stay as they are */
  size_t num_entries;
  fk_entry entries[FK_MAX_FILES];
};

/* The manifest. */
fk_value fk_bundle_document(const fk_bundle *bundle);
/* Reads what the manifest says of the model and the plan. */
fk_status fk_bundle_read_model(fk_bundle *bundle, fk_error *error);

#endif
