/* A TFLite file in LiteRT and its signatures, whose tensors are read and written by name. Not for apps. */
#ifndef FK_MODEL_H
#define FK_MODEL_H

#include "fedkeys.h"
#include "fk_fail.h"
#include "litert.h"

enum { FK_MAX_TENSORS = 1024, FK_MAX_TENSOR_NAME = 127 };

/* Names of a model's tensors, in the manifest's order. */
typedef struct {
  size_t count;
  char (*names)[FK_MAX_TENSOR_NAME + 1];
} fk_names;

/* The names that an array of the manifest gives its tensors; `path` as in fk_value_find. Free them with fk_free. */
fk_status fk_bundle_names(const fk_bundle *bundle, const char *path, fk_names *names, fk_error *error);
/* Of the weights that train, in the order in which they travel; the bundle's own. */
const fk_names *fk_bundle_weights(const fk_bundle *bundle);
/* Refuses a model without words, for what takes some. */
fk_status fk_require_words(const fk_bundle_info *info, const char *what, fk_error *error);

struct fk_litert {
  void *library; /* NULL if it is linked to the process */
  LiteRt calls;
};

struct fk_model {
  const LiteRt *litert;
  fk_bundle_info info;
  fk_names weights;
  uint8_t *file; /* LiteRT reads it in place */
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
};

typedef struct {
  const char *name;
  LiteRtRankedTensorType type;
  LiteRtTensorBuffer buffer;
  size_t bytes;
} fk_tensor;

typedef struct {
  const fk_model *model;
  LiteRtParamIndex index, num_inputs, num_outputs;
  fk_tensor *inputs, *outputs;  /* of one allocation */
  LiteRtTensorBuffer *buffers; /* those of the inputs, then those of the outputs */
} fk_signature;

fk_status fk_model_count_signatures(const fk_model *model, size_t *count, fk_error *error);
/* Valid until the model is closed. */
fk_status fk_model_signature_name(const fk_model *model, size_t index, const char **name, fk_error *error);
/* The signature called `key`, ready to run on `batch` sentences; `batch` has no effect where no dimension is free. Close
 * it also after a failure. */
fk_status fk_signature_open(const fk_model *model, const char *key, int32_t batch, fk_signature *signature,
                            fk_error *error);
void fk_signature_close(fk_signature *signature);
fk_status fk_signature_input(const fk_signature *signature, const char *name, const fk_tensor **found, fk_error *error);
fk_status fk_signature_output(const fk_signature *signature, const char *name, const fk_tensor **found,
                              fk_error *error);

/* Copies an input's values in; runs; copies an output's values out. `bytes` must be the tensor's size. */
fk_status fk_signature_put(const fk_signature *signature, const char *name, const void *values, size_t bytes,
                           fk_error *error);
fk_status fk_signature_run(const fk_signature *signature, fk_error *error);
fk_status fk_signature_get(const fk_signature *signature, const char *name, void *values, size_t bytes,
                           fk_error *error);

/* fk_model_get_weights without a look at their values. */
fk_status fk_model_copy_weights(const fk_model *model, float *weights, fk_error *error);
bool fk_all_finite(const float *values, size_t count);
double fk_now_ms(void);

#endif
