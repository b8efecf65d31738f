#define _POSIX_C_SOURCE 200809L
#include "model.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* LiteRT itself failed: exit code 1, since what the user gave has been checked by now. */
static void check(LiteRtStatus status, const char *call) {
  if (status == 0) return;
  fprintf(stderr, "fedkeys_client: LiteRT ended %s with status %d\n", call, status);
  exit(1);
}
#define CHECK(call, ...) check(call(__VA_ARGS__), #call)

#define DEFINE(result, name, parameters) result(*name) parameters;
LITERT_CALLS(DEFINE)

static void load_litert(void) {
  const char *path = getenv("FEDKEYS_LITERT");
  void *library = dlopen(path ? path : LITERT_LIBRARY, RTLD_NOW), *symbol;
  if (!library) fail("LiteRT can't be loaded: %s; name libLiteRt.so in FEDKEYS_LITERT", dlerror());
#define LOAD(result, name, parameters)                                                           \
  symbol = dlsym(library, #name);                                                                \
  if (!symbol) fail("LiteRT has no %s: this client is made for version " LITERT_VERSION, #name); \
  memcpy(&name, &symbol, sizeof name);
  LITERT_CALLS(LOAD)
}

/* Compiles a model without LiteRT's greeting on standard error, which its log severity does not stop: the lines written
 * meanwhile go into a file, and all but "INFO: ..." are passed on. */
static LiteRtStatus compile_quietly(Model *model) {
  FILE *written = tmpfile();
  int standard_error = written ? dup(STDERR_FILENO) : -1;
  if (standard_error >= 0) dup2(fileno(written), STDERR_FILENO);
  LiteRtStatus status = LiteRtCreateCompiledModel(model->environment, model->model, model->options, &model->compiled);
  if (standard_error >= 0) dup2(standard_error, STDERR_FILENO), close(standard_error);
  if (written) {
    char line[1024];
    rewind(written);
    while (fgets(line, sizeof line, written))
      if (strncmp(line, "INFO: ", 6) != 0) fputs(line, stderr);
    fclose(written);
  }
  return status;
}

Model open_model(const Bundle *bundle, const char *name, int threads) {
  Model model = {.file = read_bundle_file(bundle, name)};
  /* Without the first option LiteRT looks for every accelerator there is. */
  const LiteRtEnvOption environment[] = {{kLiteRtTagAccelerators, {kLiteRtAnyInt, kLiteRtCpu}},
                                         {kLiteRtTagLogSeverity, {kLiteRtAnyInt, kLiteRtLogErrors}}};
  char *settings = allocate(32);
  snprintf(settings, 32, "num_threads = %d\n", threads);
  LiteRtOpaqueOptions cpu;
  load_litert();
  CHECK(LiteRtCreateEnvironment, 2, environment, &model.environment);
  CHECK(LiteRtCreateModelFromBuffer, model.environment, model.file.bytes, model.file.size, &model.model);
  CHECK(LiteRtCreateOptions, &model.options);
  CHECK(LiteRtSetOptionsHardwareAccelerators, model.options, kLiteRtCpu);
  CHECK(LiteRtCreateOpaqueOptions, "xnnpack", settings, free, &cpu);
  CHECK(LiteRtAddOpaqueOptions, model.options, cpu);
  check(compile_quietly(&model), "LiteRtCreateCompiledModel");
  return model;
}

void close_model(Model *model) {
  LiteRtDestroyCompiledModel(model->compiled);
  LiteRtDestroyOptions(model->options);
  LiteRtDestroyModel(model->model);
  LiteRtDestroyEnvironment(model->environment);
  free(model->file.bytes);
}

/* Gives a tensor its type and buffer; true if a free dimension took the value `batch`. */
static bool open_tensor(const Model *model, Tensor *tensor, LiteRtTensor handle, int32_t batch) {
  bool was_free = false;
  CHECK(LiteRtGetRankedTensorType, handle, &tensor->type);
  if (tensor->type.element_type != kLiteRtFloat32 && tensor->type.element_type != kLiteRtInt32)
    fail("the model's tensor %s is neither float32 nor int32: export the bundle again", tensor->name);
  tensor->bytes = 4;
  for (unsigned i = 0; i < tensor->type.layout.rank; i++) {
    int32_t *dimension = &tensor->type.layout.dimensions[i];
    if (*dimension < 0) *dimension = batch, was_free = true;
    tensor->bytes *= (size_t)*dimension;
  }
  CHECK(LiteRtCreateManagedTensorBuffer, model->environment, kLiteRtHostMemory, &tensor->type, tensor->bytes,
        &tensor->buffer);
  return was_free;
}

static LiteRtSignature find_signature(const Model *model, const char *key, LiteRtParamIndex *index) {
  LiteRtParamIndex count;
  CHECK(LiteRtGetNumModelSignatures, model->model, &count);
  for (*index = 0; *index < count; ++*index) {
    LiteRtSignature handle;
    const char *its_key;
    CHECK(LiteRtGetModelSignature, model->model, *index, &handle);
    CHECK(LiteRtGetSignatureKey, handle, &its_key);
    if (strcmp(its_key, key) == 0) return handle;
  }
  fail("the model has no signature %s: export the bundle again", key);
}

Signature open_signature(const Model *model, const char *key, int32_t batch) {
  Signature signature = {.model = model};
  LiteRtSignature handle = find_signature(model, key, &signature.index);
  LiteRtTensor tensor;
  CHECK(LiteRtGetNumSignatureInputs, handle, &signature.num_inputs);
  CHECK(LiteRtGetNumSignatureOutputs, handle, &signature.num_outputs);
  if (signature.num_inputs > MAX_TENSORS || signature.num_outputs > MAX_TENSORS)
    fail("the model's signature %s has more than %d tensors: export the bundle again", key, MAX_TENSORS);
  for (LiteRtParamIndex i = 0; i < signature.num_inputs; i++) {
    Tensor *input = &signature.inputs[i];
    CHECK(LiteRtGetSignatureInputName, handle, i, &input->name);
    CHECK(LiteRtGetSignatureInputTensorByIndex, handle, i, &tensor);
    if (open_tensor(model, input, tensor, batch))
      CHECK(LiteRtCompiledModelResizeInputTensor, model->compiled, signature.index, i, input->type.layout.dimensions,
            input->type.layout.rank);
  }
  for (LiteRtParamIndex i = 0; i < signature.num_outputs; i++) {
    Tensor *output = &signature.outputs[i];
    CHECK(LiteRtGetSignatureOutputName, handle, i, &output->name);
    CHECK(LiteRtGetSignatureOutputTensorByIndex, handle, i, &tensor);
    open_tensor(model, output, tensor, batch);
  }
  return signature;
}

void close_signature(Signature *signature) {
  for (LiteRtParamIndex i = 0; i < signature->num_inputs; i++) LiteRtDestroyTensorBuffer(signature->inputs[i].buffer);
  for (LiteRtParamIndex i = 0; i < signature->num_outputs; i++) LiteRtDestroyTensorBuffer(signature->outputs[i].buffer);
}

static Tensor *find(Tensor *tensors, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(tensors[i].name, name) == 0) return &tensors[i];
  fail("the model has no tensor %s: export the bundle again", name);
}

Tensor *find_input(Signature *signature, const char *name) {
  return find(signature->inputs, signature->num_inputs, name);
}

Tensor *find_output(Signature *signature, const char *name) {
  return find(signature->outputs, signature->num_outputs, name);
}

static void *lock(const Tensor *tensor, size_t bytes, int mode) {
  void *address;
  if (tensor->bytes != bytes) fail("the model's %s has %zu bytes instead of %zu", tensor->name, tensor->bytes, bytes);
  CHECK(LiteRtLockTensorBuffer, tensor->buffer, &address, mode);
  return address;
}

void put(Signature *signature, const char *name, const void *values, size_t bytes) {
  Tensor *input = find_input(signature, name);
  memcpy(lock(input, bytes, kLiteRtWrite), values, bytes);
  CHECK(LiteRtUnlockTensorBuffer, input->buffer);
}

void run(Signature *signature) {
  LiteRtTensorBuffer inputs[MAX_TENSORS], outputs[MAX_TENSORS];
  for (LiteRtParamIndex i = 0; i < signature->num_inputs; i++) inputs[i] = signature->inputs[i].buffer;
  for (LiteRtParamIndex i = 0; i < signature->num_outputs; i++) outputs[i] = signature->outputs[i].buffer;
  CHECK(LiteRtRunCompiledModel, signature->model->compiled, signature->index, signature->num_inputs, inputs,
        signature->num_outputs, outputs);
}

void get(Signature *signature, const char *name, void *values, size_t bytes) {
  Tensor *output = find_output(signature, name);
  memcpy(values, lock(output, bytes, kLiteRtRead), bytes);
  CHECK(LiteRtUnlockTensorBuffer, output->buffer);
}
