/* LiteRT: its library, its models, their signatures. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The files are little-endian, and so must the machine be"
#endif

static fk_status ended(LiteRtStatus status, const char *call, fk_error *error) {
  if (status == 0) return FK_OK;
  return fk_fail(error, FK_RUNTIME, "LiteRT ended %s with status %d", call, status);
}
#define CALL(litert, name, ...) FK_TRY(ended((litert)->name(__VA_ARGS__), #name, error))

fk_status fk_litert_open(const char *path, fk_litert **litert, fk_error *error) {
  if (!litert) return fk_fail(error, FK_BAD_ARGUMENT, "fk_litert_open needs a place");
  *litert = NULL;
  fk_litert *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  opened->library = dlopen(path, RTLD_NOW);
  if (!opened->library) {
    free(opened);
    return fk_fail(error, FK_IO, "LiteRT can't be loaded: %s; name libLiteRt.so in FEDKEYS_LITERT", dlerror());
  }
  const char *missing = NULL;
  void *symbol;
#define LOAD(result, name, parameters)                 \
  symbol = dlsym(opened->library, #name);              \
  if (!symbol && !missing) missing = #name;            \
  memcpy(&opened->calls.name, &symbol, sizeof symbol);
  LITERT_CALLS(LOAD)
#undef LOAD
  if (missing) {
    fk_litert_close(opened);
    return fk_fail(error, FK_UNSUPPORTED, "LiteRT has no %s: this client is made for version " LITERT_VERSION, missing);
  }
  *litert = opened;
  return fk_ok(error);
}

void fk_litert_close(fk_litert *litert) {
  if (!litert) return;
  dlclose(litert->library);
  free(litert);
}

/* ---- a model ---- */

static fk_status set_threads(fk_model *model, int32_t threads, fk_error *error) {
  const LiteRt *litert = model->litert;
  enum { SETTINGS = 32 };
  char *settings = malloc(SETTINGS);
  if (!settings) return fk_fail(error, FK_NO_MEMORY, "out of memory");
  snprintf(settings, SETTINGS, "num_threads = %d\n", (int)threads);
  LiteRtOpaqueOptions cpu;
  if (litert->LiteRtCreateOpaqueOptions("xnnpack", settings, free, &cpu) != 0) {
    free(settings);
    return fk_fail(error, FK_RUNTIME, "LiteRT made no options for its CPU");
  }
  CALL(litert, LiteRtAddOpaqueOptions, model->options, cpu);
  return FK_OK;
}

static fk_status compile(fk_model *model, size_t size, int32_t threads, fk_error *error) {
  const LiteRt *litert = model->litert;
  /* Without the first option LiteRT looks for every accelerator there is. */
  const LiteRtEnvOption environment[] = {{kLiteRtTagAccelerators, {kLiteRtAnyInt, kLiteRtCpu}},
                                         {kLiteRtTagLogSeverity, {kLiteRtAnyInt, kLiteRtLogErrors}}};
  CALL(litert, LiteRtCreateEnvironment, 2, environment, &model->environment);
  CALL(litert, LiteRtCreateModelFromBuffer, model->environment, model->file, size, &model->model);
  CALL(litert, LiteRtCreateOptions, &model->options);
  CALL(litert, LiteRtSetOptionsHardwareAccelerators, model->options, kLiteRtCpu);
  FK_TRY(set_threads(model, threads, error));
  CALL(litert, LiteRtCreateCompiledModel, model->environment, model->model, model->options, &model->compiled);
  return FK_OK;
}

static fk_status copy_names(const fk_names *names, fk_names *copy, fk_error *error) {
  copy->names = calloc(names->count, sizeof *names->names);
  if (!copy->names) return fk_fail(error, FK_NO_MEMORY, "out of memory: the names of %zu weights", names->count);
  memcpy(copy->names, names->names, names->count * sizeof *names->names);
  copy->count = names->count;
  return FK_OK;
}

fk_status fk_model_open(const fk_bundle *bundle, const char *name, const fk_litert *litert, int32_t threads,
                        fk_model **model, fk_error *error) {
  enum { MAX_THREADS = 64 };
  if (!bundle || !name || !litert || !model || threads < 1 || threads > MAX_THREADS)
    return fk_fail(error, FK_BAD_ARGUMENT, "a model needs a bundle, a name, LiteRT and 1 to %d threads", MAX_THREADS);
  *model = NULL;
  fk_model *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  opened->litert = &litert->calls;
  opened->info = *fk_bundle_get_info(bundle);
  size_t size = 0;
  fk_status status = copy_names(fk_bundle_weights(bundle), &opened->weights, error);
  if (status == FK_OK) status = fk_bundle_read(bundle, name, &opened->file, &size, error);
  if (status == FK_OK) status = compile(opened, size, threads, error);
  if (status != FK_OK) {
    fk_model_close(opened);
    return status;
  }
  *model = opened;
  return fk_ok(error);
}

void fk_model_close(fk_model *model) {
  if (!model) return;
  if (model->compiled) model->litert->LiteRtDestroyCompiledModel(model->compiled);
  if (model->options) model->litert->LiteRtDestroyOptions(model->options);
  if (model->model) model->litert->LiteRtDestroyModel(model->model);
  if (model->environment) model->litert->LiteRtDestroyEnvironment(model->environment);
  free(model->weights.names);
  free(model->file);
  free(model);
}

/* ---- a signature ---- */

/* Counts a tensor's bytes from its shape, which a hostile file may lie about. */
static fk_status size_tensor(fk_tensor *tensor, int32_t batch, bool *was_free, fk_error *error) {
  enum { MAX_BYTES = 1 << 29 }; /* twice what all the weights of a bundle take at most */
  LiteRtLayout *layout = &tensor->type.layout;
  bool fits = layout->rank <= sizeof layout->dimensions / sizeof *layout->dimensions;
  tensor->bytes = 4;
  for (unsigned i = 0; fits && i < layout->rank; i++) {
    int32_t *dimension = &layout->dimensions[i];
    if (*dimension < 0) *dimension = batch, *was_free = true;
    fits = *dimension > 0 && (size_t)*dimension <= MAX_BYTES / tensor->bytes;
    if (fits) tensor->bytes *= (size_t)*dimension;
  }
  if (fits) return FK_OK;
  return fk_fail(error, FK_UNSUPPORTED, "the model's tensor %s has a shape that none of fedkeys' has: export the bundle again",
                 tensor->name);
}

/* Gives a tensor its type and buffer; `was_free` says whether a free dimension took the value `batch`. */
static fk_status open_tensor(const fk_model *model, fk_tensor *tensor, LiteRtTensor handle, int32_t batch,
                             bool *was_free, fk_error *error) {
  *was_free = false;
  CALL(model->litert, LiteRtGetRankedTensorType, handle, &tensor->type);
  if (tensor->type.element_type != kLiteRtFloat32 && tensor->type.element_type != kLiteRtInt32)
    return fk_fail(error, FK_UNSUPPORTED, "the model's tensor %s is neither float32 nor int32: export the bundle again",
                   tensor->name);
  FK_TRY(size_tensor(tensor, batch, was_free, error));
  CALL(model->litert, LiteRtCreateManagedTensorBuffer, model->environment, kLiteRtHostMemory, &tensor->type,
       tensor->bytes, &tensor->buffer);
  return FK_OK;
}

fk_status fk_model_count_signatures(const fk_model *model, size_t *count, fk_error *error) {
  CALL(model->litert, LiteRtGetNumModelSignatures, model->model, count);
  return FK_OK;
}

fk_status fk_model_signature_name(const fk_model *model, size_t index, const char **name, fk_error *error) {
  LiteRtSignature handle;
  CALL(model->litert, LiteRtGetModelSignature, model->model, index, &handle);
  CALL(model->litert, LiteRtGetSignatureKey, handle, name);
  return FK_OK;
}

static fk_status find_signature(const fk_model *model, const char *key, LiteRtParamIndex *index,
                                LiteRtSignature *handle, fk_error *error) {
  size_t count;
  FK_TRY(fk_model_count_signatures(model, &count, error));
  for (*index = 0; *index < count; ++*index) {
    const char *its_key;
    CALL(model->litert, LiteRtGetModelSignature, model->model, *index, handle);
    CALL(model->litert, LiteRtGetSignatureKey, *handle, &its_key);
    if (strcmp(its_key, key) == 0) return FK_OK;
  }
  return fk_fail(error, FK_UNSUPPORTED, "the model has no signature %s: export the bundle again", key);
}

fk_status fk_signature_open(const fk_model *model, const char *key, int32_t batch, fk_signature *signature,
                            fk_error *error) {
  const LiteRt *litert = model->litert;
  LiteRtSignature handle;
  LiteRtTensor tensor;
  bool was_free;
  *signature = (fk_signature){.model = model};
  FK_TRY(find_signature(model, key, &signature->index, &handle, error));
  LiteRtParamIndex num_inputs, num_outputs;
  CALL(litert, LiteRtGetNumSignatureInputs, handle, &num_inputs);
  CALL(litert, LiteRtGetNumSignatureOutputs, handle, &num_outputs);
  if (num_inputs > FK_MAX_TENSORS || num_outputs > FK_MAX_TENSORS)
    return fk_fail(error, FK_UNSUPPORTED, "the model's signature %s has more than %d tensors: export the bundle again",
                   key, FK_MAX_TENSORS);
  size_t count = num_inputs + num_outputs;
  signature->inputs = calloc(count + 1, sizeof *signature->inputs);
  signature->buffers = calloc(count + 1, sizeof *signature->buffers);
  if (!signature->inputs || !signature->buffers)
    return fk_fail(error, FK_NO_MEMORY, "out of memory: the %zu tensors of %s", count, key);
  signature->outputs = signature->inputs + num_inputs;
  signature->num_inputs = num_inputs;
  signature->num_outputs = num_outputs;
  for (LiteRtParamIndex i = 0; i < num_inputs; i++) {
    fk_tensor *input = &signature->inputs[i];
    CALL(litert, LiteRtGetSignatureInputName, handle, i, &input->name);
    CALL(litert, LiteRtGetSignatureInputTensorByIndex, handle, i, &tensor);
    FK_TRY(open_tensor(model, input, tensor, batch, &was_free, error));
    if (was_free)
      CALL(litert, LiteRtCompiledModelResizeInputTensor, model->compiled, signature->index, i,
           input->type.layout.dimensions, input->type.layout.rank);
  }
  for (LiteRtParamIndex i = 0; i < num_outputs; i++) {
    fk_tensor *output = &signature->outputs[i];
    CALL(litert, LiteRtGetSignatureOutputName, handle, i, &output->name);
    CALL(litert, LiteRtGetSignatureOutputTensorByIndex, handle, i, &tensor);
    FK_TRY(open_tensor(model, output, tensor, batch, &was_free, error));
  }
  for (size_t i = 0; i < count; i++) signature->buffers[i] = signature->inputs[i].buffer;
  return FK_OK;
}

void fk_signature_close(fk_signature *signature) {
  for (size_t i = 0; signature->inputs && i < signature->num_inputs + signature->num_outputs; i++) {
    LiteRtTensorBuffer buffer = signature->inputs[i].buffer;
    if (buffer) signature->model->litert->LiteRtDestroyTensorBuffer(buffer);
  }
  free(signature->inputs);
  free(signature->buffers);
  *signature = (fk_signature){0};
}

static fk_status find(const fk_tensor *tensors, size_t count, const char *name, const fk_tensor **found,
                      fk_error *error) {
  for (size_t i = 0; i < count; i++) {
    *found = &tensors[i];
    if (strcmp(tensors[i].name, name) == 0) return FK_OK;
  }
  return fk_fail(error, FK_UNSUPPORTED, "the model has no tensor %s: export the bundle again", name);
}

fk_status fk_signature_input(const fk_signature *signature, const char *name, const fk_tensor **found,
                             fk_error *error) {
  return find(signature->inputs, signature->num_inputs, name, found, error);
}

fk_status fk_signature_output(const fk_signature *signature, const char *name, const fk_tensor **found,
                              fk_error *error) {
  return find(signature->outputs, signature->num_outputs, name, found, error);
}

static fk_status check_bytes(const fk_tensor *tensor, size_t bytes, fk_error *error) {
  if (tensor->bytes == bytes) return FK_OK;
  return fk_fail(error, FK_UNSUPPORTED, "the model's %s has %zu bytes instead of %zu", tensor->name, tensor->bytes,
                 bytes);
}

fk_status fk_signature_put(const fk_signature *signature, const char *name, const void *values, size_t bytes,
                           fk_error *error) {
  const LiteRt *litert = signature->model->litert;
  const fk_tensor *input = NULL;
  void *address;
  FK_TRY(fk_signature_input(signature, name, &input, error));
  FK_TRY(check_bytes(input, bytes, error));
  CALL(litert, LiteRtLockTensorBuffer, input->buffer, &address, kLiteRtWrite);
  memcpy(address, values, bytes);
  CALL(litert, LiteRtUnlockTensorBuffer, input->buffer);
  return FK_OK;
}

fk_status fk_signature_run(const fk_signature *signature, fk_error *error) {
  CALL(signature->model->litert, LiteRtRunCompiledModel, signature->model->compiled, signature->index,
       signature->num_inputs, signature->buffers, signature->num_outputs, signature->buffers + signature->num_inputs);
  return FK_OK;
}

fk_status fk_signature_get(const fk_signature *signature, const char *name, void *values, size_t bytes,
                           fk_error *error) {
  const LiteRt *litert = signature->model->litert;
  const fk_tensor *output = NULL;
  void *address;
  FK_TRY(fk_signature_output(signature, name, &output, error));
  FK_TRY(check_bytes(output, bytes, error));
  CALL(litert, LiteRtLockTensorBuffer, output->buffer, &address, kLiteRtRead);
  memcpy(values, address, bytes);
  CALL(litert, LiteRtUnlockTensorBuffer, output->buffer);
  return FK_OK;
}
