/* A TFLite file in LiteRT and its signatures, whose tensors are read and written by name. Not for apps. */
#ifndef FK_MODEL_H
#define FK_MODEL_H

#include "fedkeys.h"
#include "fk_fail.h"
#include "litert.h"

enum { FK_MAX_TENSORS = 8, FK_NUM_WEIGHTS = 5 };

struct fk_litert {
  void *library; /* NULL if it is linked to the process */
  LiteRt calls;
};

struct fk_model {
  const LiteRt *litert;
  fk_bundle_info info;
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
  fk_tensor inputs[FK_MAX_TENSORS], outputs[FK_MAX_TENSORS];
} fk_signature;

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
