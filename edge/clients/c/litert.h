/* The calls of LiteRT's C library that libfedkeys makes, declared by hand: the Python package ai-edge-litert 2.3.0
 * holds the library, libLiteRt.so, and no headers. Source of the declarations: google-ai-edge/LiteRT, litert/c/.
 * Before another version of the library, compare them with its headers: the compiler can't. */
#ifndef FEDKEYS_LITERT_H
#define FEDKEYS_LITERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LITERT_VERSION "2.3.0"

typedef int LiteRtStatus; /* 0 = ok */
typedef size_t LiteRtParamIndex;
typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtOpaqueOptionsT *LiteRtOpaqueOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;

typedef struct {
  unsigned rank : 7;
  bool has_strides : 1;
  int32_t dimensions[8]; /* -1 = free */
  uint32_t strides[8];
} LiteRtLayout;

typedef struct {
  int element_type; /* kLiteRtFloat32 or kLiteRtInt32 */
  LiteRtLayout layout;
} LiteRtRankedTensorType;

typedef struct {
  int tag;
  struct {
    int type; /* kLiteRtAnyInt */
    int64_t int_value;
  } value;
} LiteRtEnvOption;

_Static_assert(sizeof(LiteRtRankedTensorType) == 72 && sizeof(LiteRtEnvOption) == 24, "LiteRT has other sizes here");

enum { kLiteRtFloat32 = 1, kLiteRtInt32 = 2 };
enum { kLiteRtAnyInt = 2, kLiteRtTagAccelerators = 24, kLiteRtTagLogSeverity = 25, kLiteRtLogErrors = 3 };
enum { kLiteRtCpu = 1, kLiteRtHostMemory = 1, kLiteRtRead = 0, kLiteRtWrite = 1 };

/* CALL(result, name, parameters) of each. */
#define LITERT_CALLS(CALL)                                                                                             \
  CALL(LiteRtStatus, LiteRtCreateEnvironment, (int count, const LiteRtEnvOption *options, LiteRtEnvironment *created)) \
  CALL(LiteRtStatus, LiteRtCreateModelFromBuffer,                                                                      \
       (LiteRtEnvironment environment, const void *bytes, size_t size, LiteRtModel *created))                          \
  CALL(LiteRtStatus, LiteRtCreateOptions, (LiteRtOptions * created))                                                   \
  CALL(LiteRtStatus, LiteRtSetOptionsHardwareAccelerators, (LiteRtOptions options, int accelerators))                  \
  CALL(LiteRtStatus, LiteRtCreateOpaqueOptions,                                                                        \
       (const char *name, void *payload, void (*destroy)(void *), LiteRtOpaqueOptions *created))                       \
  CALL(LiteRtStatus, LiteRtAddOpaqueOptions, (LiteRtOptions options, LiteRtOpaqueOptions more))                        \
  CALL(LiteRtStatus, LiteRtCreateCompiledModel,                                                                        \
       (LiteRtEnvironment environment, LiteRtModel model, LiteRtOptions options, LiteRtCompiledModel *created))        \
  CALL(LiteRtStatus, LiteRtCompiledModelResizeInputTensor,                                                             \
       (LiteRtCompiledModel compiled, LiteRtParamIndex signature, LiteRtParamIndex input, const int *dimensions,       \
        size_t rank))                                                                                                  \
  CALL(LiteRtStatus, LiteRtRunCompiledModel,                                                                           \
       (LiteRtCompiledModel compiled, LiteRtParamIndex signature, size_t num_inputs, LiteRtTensorBuffer *inputs,       \
        size_t num_outputs, LiteRtTensorBuffer *outputs))                                                              \
  CALL(LiteRtStatus, LiteRtGetNumModelSignatures, (LiteRtModel model, LiteRtParamIndex *count))                        \
  CALL(LiteRtStatus, LiteRtGetModelSignature,                                                                          \
       (LiteRtModel model, LiteRtParamIndex index, LiteRtSignature *signature))                                        \
  CALL(LiteRtStatus, LiteRtGetSignatureKey, (LiteRtSignature signature, const char **key))                             \
  CALL(LiteRtStatus, LiteRtGetNumSignatureInputs, (LiteRtSignature signature, LiteRtParamIndex *count))                \
  CALL(LiteRtStatus, LiteRtGetNumSignatureOutputs, (LiteRtSignature signature, LiteRtParamIndex *count))               \
  CALL(LiteRtStatus, LiteRtGetSignatureInputName,                                                                      \
       (LiteRtSignature signature, LiteRtParamIndex index, const char **name))                                         \
  CALL(LiteRtStatus, LiteRtGetSignatureOutputName,                                                                     \
       (LiteRtSignature signature, LiteRtParamIndex index, const char **name))                                         \
  CALL(LiteRtStatus, LiteRtGetSignatureInputTensorByIndex,                                                             \
       (LiteRtSignature signature, LiteRtParamIndex index, LiteRtTensor *tensor))                                      \
  CALL(LiteRtStatus, LiteRtGetSignatureOutputTensorByIndex,                                                            \
       (LiteRtSignature signature, LiteRtParamIndex index, LiteRtTensor *tensor))                                      \
  CALL(LiteRtStatus, LiteRtGetRankedTensorType, (LiteRtTensor tensor, LiteRtRankedTensorType *type))                   \
  CALL(LiteRtStatus, LiteRtCreateManagedTensorBuffer,                                                                  \
       (LiteRtEnvironment environment, int kind, const LiteRtRankedTensorType *type, size_t bytes,                     \
        LiteRtTensorBuffer *created))                                                                                  \
  CALL(LiteRtStatus, LiteRtLockTensorBuffer, (LiteRtTensorBuffer buffer, void **address, int mode))                    \
  CALL(LiteRtStatus, LiteRtUnlockTensorBuffer, (LiteRtTensorBuffer buffer))                                            \
  CALL(void, LiteRtDestroyTensorBuffer, (LiteRtTensorBuffer buffer))                                                   \
  CALL(void, LiteRtDestroyCompiledModel, (LiteRtCompiledModel compiled))                                               \
  CALL(void, LiteRtDestroyOptions, (LiteRtOptions options))                                                            \
  CALL(void, LiteRtDestroyModel, (LiteRtModel model))                                                                  \
  CALL(void, LiteRtDestroyEnvironment, (LiteRtEnvironment environment))

/* The library, loaded: a pointer for each call. */
typedef struct {
#define LITERT_MEMBER(result, name, parameters) result(*name) parameters;
  LITERT_CALLS(LITERT_MEMBER)
#undef LITERT_MEMBER
} LiteRt;

#endif
