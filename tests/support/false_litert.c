/* A LiteRT that computes nothing. Its one signature, "infer", has one input, "hidden", of the shape that FALSE_SHAPE
 * names; of a shape too long the first eight dimensions are there, as in LiteRT's struct. */
#include <stdlib.h>

#include "litert.h"

#define NOTHING(name) \
  LiteRtStatus name(void) { return 0; }

NOTHING(LiteRtCreateEnvironment)
NOTHING(LiteRtCreateModelFromBuffer)
NOTHING(LiteRtCreateOptions)
NOTHING(LiteRtSetOptionsHardwareAccelerators)
NOTHING(LiteRtAddOpaqueOptions)
NOTHING(LiteRtCreateCompiledModel)
NOTHING(LiteRtCompiledModelResizeInputTensor)
NOTHING(LiteRtRunCompiledModel)
NOTHING(LiteRtGetModelSignature)
NOTHING(LiteRtGetSignatureOutputName)
NOTHING(LiteRtGetSignatureInputTensorByIndex)
NOTHING(LiteRtGetSignatureOutputTensorByIndex)
NOTHING(LiteRtCreateManagedTensorBuffer)
NOTHING(LiteRtLockTensorBuffer)
NOTHING(LiteRtUnlockTensorBuffer)
NOTHING(LiteRtDestroyTensorBuffer)
NOTHING(LiteRtDestroyCompiledModel)
NOTHING(LiteRtDestroyOptions)
NOTHING(LiteRtDestroyModel)
NOTHING(LiteRtDestroyEnvironment)

LiteRtStatus LiteRtCreateOpaqueOptions(const char *name, void *payload, void (*destroy)(void *), LiteRtOpaqueOptions *created) {
  (void)name;
  destroy(payload);
  *created = NULL;
  return 0;
}

LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel model, LiteRtParamIndex *count) { return (void)model, *count = 1, 0; }

LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature signature, const char **key) { return (void)signature, *key = "infer", 0; }

LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature signature, LiteRtParamIndex *count) {
  return (void)signature, *count = 1, 0;
}

LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature signature, LiteRtParamIndex *count) {
  return (void)signature, *count = 0, 0;
}

LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature signature, LiteRtParamIndex index, const char **name) {
  return (void)signature, (void)index, *name = "hidden", 0;
}

LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor tensor, LiteRtRankedTensorType *type) {
  (void)tensor;
  *type = (LiteRtRankedTensorType){.element_type = kLiteRtFloat32};
  const char *at = getenv("FALSE_SHAPE");
  for (char *end = NULL; at && *at; at = *end ? end + 1 : end) {
    int32_t dimension = (int32_t)strtol(at, &end, 10);
    if (type->layout.rank < 8) type->layout.dimensions[type->layout.rank] = dimension;
    type->layout.rank++;
  }
  return 0;
}
