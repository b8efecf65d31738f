/* A TFLite file in LiteRT and its signatures, whose tensors are read and written by name. */
#ifndef FEDKEYS_MODEL_H
#define FEDKEYS_MODEL_H

#include "bundle.h"
#include "litert.h"

enum { MAX_TENSORS = 8 };

typedef struct {
  File file; /* LiteRT reads it in place */
  LiteRtEnvironment environment;
  LiteRtModel model;
  LiteRtOptions options;
  LiteRtCompiledModel compiled;
} Model;

typedef struct {
  const char *name;
  LiteRtRankedTensorType type;
  LiteRtTensorBuffer buffer;
  size_t bytes;
} Tensor;

typedef struct {
  const Model *model;
  LiteRtParamIndex index, num_inputs, num_outputs;
  Tensor inputs[MAX_TENSORS], outputs[MAX_TENSORS];
} Signature;

/* Opens a file of the bundle, to run with so many threads. */
Model open_model(const Bundle *bundle, const char *name, int threads);
void close_model(Model *model);

/* The signature called `key`, ready to run on `batch` sentences; `batch` has no effect where no dimension is free. */
Signature open_signature(const Model *model, const char *key, int32_t batch);
void close_signature(Signature *signature);
Tensor *find_input(Signature *signature, const char *name);
Tensor *find_output(Signature *signature, const char *name);

/* Copies an input's values in; runs; copies an output's values out. `bytes` must be the tensor's size. */
void put(Signature *signature, const char *name, const void *values, size_t bytes);
void run(Signature *signature);
void get(Signature *signature, const char *name, void *values, size_t bytes);

#endif
