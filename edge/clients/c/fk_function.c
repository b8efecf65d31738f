/* A signature of a model as a function of named arrays. */
#include <stdlib.h>
#include <string.h>

#include "fk_model.h"

struct fk_function {
  fk_signature signature;
  bool *has_values; /* of each input */
  bool has_run;
};

fk_status fk_function_open(fk_model *model, const char *signature, int32_t rows, fk_function **function,
                           fk_error *error) {
  if (!model || !signature || rows < 1 || !function)
    return fk_fail(error, FK_BAD_ARGUMENT, "a function needs a model, a signature, at least 1 row and a place");
  *function = NULL;
  fk_function *opened = calloc(1, sizeof *opened);
  if (!opened) return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  fk_status status = fk_signature_open(model, signature, rows, &opened->signature, error);
  if (status == FK_OK) opened->has_values = calloc(opened->signature.num_inputs + 1, sizeof *opened->has_values);
  if (status == FK_OK && !opened->has_values) status = fk_fail(error, FK_NO_MEMORY, "out of memory: the inputs of %s", signature);
  if (status != FK_OK) {
    fk_function_close(opened);
    return status;
  }
  *function = opened;
  return fk_ok(error);
}

void fk_function_close(fk_function *function) {
  if (!function) return;
  fk_signature_close(&function->signature);
  free(function->has_values);
  free(function);
}

size_t fk_function_num_inputs(const fk_function *function) { return function->signature.num_inputs; }
size_t fk_function_num_outputs(const fk_function *function) { return function->signature.num_outputs; }

static fk_status describe(const fk_tensor *tensors, size_t count, size_t index, fk_tensor_info *array, fk_error *error) {
  if (!array || index >= count)
    return fk_fail(error, FK_BAD_ARGUMENT, "there are %zu arrays, and a place is needed for number %zu", count, index);
  const fk_tensor *tensor = &tensors[index];
  const LiteRtLayout *layout = &tensor->type.layout;
  *array = (fk_tensor_info){.name = tensor->name,
                      .dtype = tensor->type.element_type == kLiteRtInt32 ? FK_INT32 : FK_FLOAT32,
                      .rank = (int32_t)layout->rank,
                      .bytes = tensor->bytes};
  _Static_assert(sizeof array->shape == sizeof layout->dimensions, "LiteRT has other shapes here");
  memcpy(array->shape, layout->dimensions, layout->rank * sizeof *array->shape);
  return fk_ok(error);
}

fk_status fk_function_input(const fk_function *function, size_t index, fk_tensor_info *array, fk_error *error) {
  return describe(function->signature.inputs, function->signature.num_inputs, index, array, error);
}

fk_status fk_function_output(const fk_function *function, size_t index, fk_tensor_info *array, fk_error *error) {
  return describe(function->signature.outputs, function->signature.num_outputs, index, array, error);
}

fk_status fk_function_put(fk_function *function, const char *name, const void *values, size_t bytes,
                          fk_error *error) {
  if (!function || !name || !values) return fk_fail(error, FK_BAD_ARGUMENT, "an input needs a function, a name and values");
  const fk_tensor *input = NULL;
  FK_TRY(fk_signature_input(&function->signature, name, &input, error));
  FK_TRY(fk_signature_put(&function->signature, name, values, bytes, error));
  function->has_values[input - function->signature.inputs] = true;
  return fk_ok(error);
}

fk_status fk_function_run(fk_function *function, fk_error *error) {
  if (!function) return fk_fail(error, FK_BAD_ARGUMENT, "fk_function_run needs a function");
  for (size_t i = 0; i < function->signature.num_inputs; i++)
    if (!function->has_values[i])
      return fk_fail(error, FK_BAD_ARGUMENT, "the input %s has no values yet", function->signature.inputs[i].name);
  function->has_run = false;
  FK_TRY(fk_signature_run(&function->signature, error));
  function->has_run = true;
  return fk_ok(error);
}

fk_status fk_function_get(const fk_function *function, const char *name, void *values, size_t bytes, fk_error *error) {
  if (!function || !name || !values || !function->has_run)
    return fk_fail(error, FK_BAD_ARGUMENT, "an output needs a function that has run, a name and a place");
  FK_TRY(fk_signature_get(&function->signature, name, values, bytes, error));
  return fk_ok(error);
}
