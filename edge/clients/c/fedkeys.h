/* libfedkeys: what an app needs to take part in the training of a keyboard's model, in C11, callable from JNI, Swift,
 * Dart and Rust. docs/phones.md says in what order.
 *
 * Each call returns an fk_status and says why in `error`, which may be NULL. There is no global state: two threads may
 * use two objects at the same time, and one object from one thread at a time (fk_training_cancel excepted). Nothing here
 * prints, ends the process or opens a connection. After FK_OK the caller owns what came out, and ends it with the
 * matching fk_..._close (NULL is allowed) or, where it is memory, with fk_free; after any other status there is nothing
 * to end. Texts are UTF-8; weights and files are little-endian, as the machine must be. */
#ifndef FEDKEYS_H
#define FEDKEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fk_error.h"
#include "fk_protocol.h" /* rounds: bytes in, bytes out */

#ifdef __cplusplus
extern "C" {
#endif

enum { FK_PAD = 0, FK_BOS = 1, FK_EOS = 2, FK_UNK = 3, FK_NUM_SPECIAL = 4 }; /* ids of words that nobody types */
enum { FK_NUM_PREDICTIONS = 3, FK_DIGEST_BYTES = 32 };
#define FK_KEY_BYTES 32

/* Frees memory that a call returned. */
FK_API void fk_free(void *memory);

/* ---- a bundle: the folder that `fedkeys export` writes ---- */

typedef struct fk_bundle fk_bundle;

/* What the app knows of who made the bundle. NULL in its place accepts any signature, and none. */
typedef struct {
  const uint8_t *public_key; /* FK_KEY_BYTES of Ed25519 that must have signed it, or NULL */
  bool require_signature;    /* refuse a bundle that nobody signed */
} fk_trust;

/* What a bundle says of itself. Of a Keras model's the fields of words are 0. */
typedef struct {
  int32_t tokeniser; /* version of the rules */
  int32_t vocabulary_size, embedding_size, num_cells, max_words;
  size_t num_weights;
  int32_t epochs, batch_size, max_sentences; /* the plan of a round */
  double learning_rate, clip_norm;
  bool is_signed;
  uint8_t public_key[FK_KEY_BYTES];          /* whose signature it is; zeros if nobody's */
  uint8_t manifest_sha256[FK_DIGEST_BYTES];
  bool is_keras; /* a Keras model: no words, no batches of them; run it by fk_function_open */
} fk_bundle_info;

/* Opens a bundle, and checks its manifest and its signature. Each file's digest is checked where it is read. */
FK_API fk_status fk_bundle_open(const char *folder, const fk_trust *trust, fk_bundle **bundle, fk_error *error);
FK_API void fk_bundle_close(fk_bundle *bundle);
/* Valid until the bundle is closed. */
FK_API const fk_bundle_info *fk_bundle_get_info(const fk_bundle *bundle);
/* Reads one of its files; refused if it is not the one that was exported. */
FK_API fk_status fk_bundle_read(const fk_bundle *bundle, const char *name, uint8_t **bytes, size_t *size,
                                fk_error *error);
/* Checks that the folder holds the files that the manifest lists, and no other, each with its digest: once after a
 * download. */
FK_API fk_status fk_bundle_verify(const fk_bundle *bundle, fk_error *error);
/* The 32 bytes of an Ed25519 public key in PEM, as `fedkeys keygen` writes it. */
FK_API fk_status fk_public_key_from_pem(const char *pem, size_t size, uint8_t public_key[FK_KEY_BYTES],
                                        fk_error *error);

/* ---- text: words, sentences and ids as the model was trained on them ---- */

typedef struct fk_text fk_text;
typedef struct fk_sentences fk_sentences;

/* The tokeniser and the words of a bundle. Refused if the bundle's tokeniser is of another version than 2. */
FK_API fk_status fk_text_open(const fk_bundle *bundle, fk_text **text, fk_error *error);
/* The same from the content of a vocabulary.txt. */
FK_API fk_status fk_text_open_words(const char *vocabulary, size_t size, int32_t tokeniser, fk_text **text,
                                    fk_error *error);
FK_API void fk_text_close(fk_text *text);
FK_API int32_t fk_text_num_words(const fk_text *text);
/* A word of the list, which ends in 0; NULL if there is no such id. Valid until the text is closed. */
FK_API const char *fk_text_word(const fk_text *text, int32_t id);
/* The sentences of a message; those without words are left out. */
FK_API fk_status fk_text_sentences(fk_text *text, const char *message, size_t size, fk_sentences **sentences,
                                   fk_error *error);
/* What is predicted from: the one sentence that a message has not ended yet, which may have no words. */
FK_API fk_status fk_text_unfinished(fk_text *text, const char *message, size_t size, fk_sentences **sentences,
                                       fk_error *error);
/* A sentence from its words, with a space between two, as fk_sentences_words gives them: of a store, for instance. */
FK_API fk_status fk_text_from_words(fk_text *text, const char *words, size_t size, fk_sentences **sentences,
                                    fk_error *error);

FK_API void fk_sentences_close(fk_sentences *sentences);
FK_API size_t fk_sentences_count(const fk_sentences *sentences);
/* A sentence's words with a space between two, and its ids; FK_UNK for words that are not in the list. Valid until the
 * sentences are closed. */
FK_API const char *fk_sentences_words(const fk_sentences *sentences, size_t index);
FK_API const int32_t *fk_sentences_ids(const fk_sentences *sentences, size_t index, size_t *count);

/* ---- what was typed, kept for training ---- */

typedef struct fk_store fk_store;

/* Opens a file of sentences, or begins one, readable by this user alone. It never holds more than `cap` sentences: the
 * oldest go first. One process at a time may have it open. */
FK_API fk_status fk_store_open(const char *path, size_t cap, fk_store **store, fk_error *error);
FK_API void fk_store_close(fk_store *store);
FK_API size_t fk_store_count(const fk_store *store);
/* A sentence, as its words with a space between two; the oldest is 0. NULL if there is none. Valid until the next add. */
FK_API const char *fk_store_words(const fk_store *store, size_t index);
/* Keeps the sentences, and returns once they are on the disk. */
FK_API fk_status fk_store_add(fk_store *store, const fk_sentences *sentences, fk_error *error);
/* Overwrites and deletes all of it. A phone's flash memory may hold older copies until it needs the place: encryption of
 * the whole storage is what protects those. */
FK_API fk_status fk_store_wipe(fk_store *store, fk_error *error);

/* ---- the model, in LiteRT ---- */

typedef struct fk_litert fk_litert;
typedef struct fk_model fk_model;

/* Loads LiteRT's shared object of version 2.3.0; a NULL path takes it from what is linked to the process. Models that
 * are opened with it must be closed before it. */
FK_API fk_status fk_litert_open(const char *path, fk_litert **litert, fk_error *error);
FK_API void fk_litert_close(fk_litert *litert);

/* Loads "train.tflite", which trains and predicts, or "infer.tflite", which predicts, to run on so many threads. A Keras
 * model's bundle has the first alone. */
FK_API fk_status fk_model_open(const fk_bundle *bundle, const char *name, const fk_litert *litert, int32_t threads,
                               fk_model **model, fk_error *error);
FK_API void fk_model_close(fk_model *model);
/* Copies all weights out of the model, or into it, in the manifest's order; `count` is the info's num_weights. Weights
 * that are not finite are refused. */
FK_API fk_status fk_model_get_weights(fk_model *model, float *weights, size_t count, fk_error *error);
FK_API fk_status fk_model_set_weights(fk_model *model, const float *weights, size_t count, fk_error *error);

typedef struct {
  int32_t num_steps;
  double weights_off, loss_off; /* the largest differences; of a loss above 1, relative to it */
  double ms;                    /* of the steps */
} fk_self_test_result;

/* Trains on the bundle's golden batches and compares with TensorFlow's result; FK_DIFFERS on a device that must not
 * train. Run it once after a download. `result` may be NULL. */
FK_API fk_status fk_self_test(const fk_bundle *bundle, const fk_litert *litert, int32_t threads,
                              fk_self_test_result *result, fk_error *error);

/* ---- any signature of a model, its tensors by name: how a Keras model trains and predicts ---- */

typedef struct fk_function fk_function;
typedef enum { FK_FLOAT32 = 1, FK_INT32 = 2 } fk_dtype;
enum { FK_MAX_RANK = 8 };

typedef struct {
  const char *name; /* valid until the function is closed */
  fk_dtype dtype;
  int32_t rank, shape[FK_MAX_RANK];
  size_t bytes; /* of all values, row by row */
} fk_tensor_info;

/* Opens a signature of a model, "train" for instance, which docs/keras.md lists; where a shape is free, `rows` takes its
 * place. The model must outlive it, and serve nothing else while it runs. */
FK_API fk_status fk_function_open(fk_model *model, const char *signature, int32_t rows, fk_function **function,
                                  fk_error *error);
FK_API void fk_function_close(fk_function *function);
FK_API size_t fk_function_num_inputs(const fk_function *function);
FK_API size_t fk_function_num_outputs(const fk_function *function);
/* What an input or an output is; refused from the number of them on. */
FK_API fk_status fk_function_input(const fk_function *function, size_t index, fk_tensor_info *array, fk_error *error);
FK_API fk_status fk_function_output(const fk_function *function, size_t index, fk_tensor_info *array, fk_error *error);
/* Copies an input's values in; `bytes` is its size. They stay until others are put there. */
FK_API fk_status fk_function_put(fk_function *function, const char *name, const void *values, size_t bytes,
                                 fk_error *error);
/* Runs; refused while an input has no values yet. */
FK_API fk_status fk_function_run(fk_function *function, fk_error *error);
/* Copies an output's values out. */
FK_API fk_status fk_function_get(const fk_function *function, const char *name, void *values, size_t bytes,
                                 fk_error *error);

/* ---- predict ---- */

typedef struct fk_predictor fk_predictor;

typedef struct {
  int32_t id;
  float probability;
} fk_prediction;

/* Predicts with a model, which must be closed after the predictor. */
FK_API fk_status fk_predictor_open(fk_model *model, fk_predictor **predictor, fk_error *error);
FK_API void fk_predictor_close(fk_predictor *predictor);
/* The likeliest words after these (without <bos>), the likeliest first. The model reads each word once: a word more than
 * at the last call takes one run of it, whatever came before, and a word less takes none. */
FK_API fk_status fk_predictor_after(fk_predictor *predictor, const int32_t *ids, size_t count,
                                    fk_prediction predictions[FK_NUM_PREDICTIONS], fk_error *error);
/* The likeliest words after all words of the sentence that a message has not ended yet: call it when a word is complete,
 * with what stands in the field. The words are the text's, and valid until it is closed. Nothing is learnt of the person's
 * own words: what is predicted stands in the bundle's list. */
FK_API fk_status fk_predict_words(fk_predictor *predictor, fk_text *text, const char *typed, size_t size,
                                  const char *words[FK_NUM_PREDICTIONS], fk_error *error);
/* Forgets what was typed, as closing does. Call it also when the model's weights have changed. */
FK_API void fk_predictor_forget(fk_predictor *predictor);

/* ---- batches ---- */

typedef struct fk_batches fk_batches;

typedef struct {
  int32_t num_batches, batch_size, time, vocabulary_size;
  int32_t num_examples, num_tokens; /* padding not counted */
} fk_batches_info;

/* Reads token batches; edge/clients/files.py describes them. `name` is what to call them in an error. */
FK_API fk_status fk_batches_parse(const uint8_t *bytes, size_t size, const char *name, fk_batches **batches,
                                  fk_error *error);
/* How a round's batches are drawn; the plan of the bundle or of the server's run. */
typedef struct {
  int32_t epochs, batch_size, max_sentences, time, vocabulary_size;
  int32_t length_buckets; /* groups of sentences alike in length; 1 mixes all */
  uint32_t seed;          /* the same draws the same: take another in each round */
} fk_drawing;

/* Draws at most max_sentences of `count` sentences, and batches of them in a new order in each epoch. Sentence i is
 * ids[i], of lengths[i] words; ids from vocabulary_size on become FK_UNK. The same seed draws the same everywhere. */
FK_API fk_status fk_batches_draw(const int32_t *const *ids, const size_t *lengths, size_t count,
                                 const fk_drawing *drawing, fk_batches **batches, fk_error *error);
/* The batches as a file; valid until they are closed. */
FK_API const uint8_t *fk_batches_bytes(const fk_batches *batches, size_t *size);
FK_API void fk_batches_close(fk_batches *batches);
FK_API const fk_batches_info *fk_batches_get_info(const fk_batches *batches);

/* ---- train ---- */

typedef struct fk_training fk_training;

typedef struct {
  int32_t step, num_steps; /* steps done, and in all */
  int32_t num_examples, num_tokens;
  double loss_sum; /* nats, over all tokens of the steps done */
  double ms;       /* in those steps, since the training was opened or resumed */
  bool is_done, was_cancelled;
} fk_progress;

/* Begins a training on batches from the weights that the model has; both must outlive it, and the model serve nothing
 * else meanwhile. */
FK_API fk_status fk_training_open(fk_model *model, const fk_batches *batches, double learning_rate,
                                  fk_training **training, fk_error *error);
FK_API void fk_training_close(fk_training *training);
/* Trains a step a batch, until all are done, `max_steps` were done in this call, `budget_ms` would be exceeded by another
 * step like those before, or fk_training_cancel was called; 0 sets no limit. It does one step at least unless cancelled.
 * Call it again to go on. */
FK_API fk_status fk_training_run(fk_training *training, uint32_t max_steps, uint32_t budget_ms, fk_progress *progress,
                                 fk_error *error);
/* From any thread: lets the running, or else the next, fk_training_run return after the step that it is at. */
FK_API void fk_training_cancel(fk_training *training);
/* The mean loss of each step done, in nats per token; valid until the next fk_training_ call. */
FK_API const double *fk_training_losses(const fk_training *training, size_t *count);
/* What it takes to go on in another process: step, sums and weights, as bytes. */
FK_API fk_status fk_training_save(fk_training *training, uint8_t **bytes, size_t *size, fk_error *error);
/* As fk_training_open, to go on where fk_training_save was called. The model must have the weights that the training
 * began from; batches and rate must be those, too. All three are checked. */
FK_API fk_status fk_training_resume(fk_model *model, const fk_batches *batches, double learning_rate,
                                    const uint8_t *bytes, size_t size, fk_training **training, fk_error *error);
/* The update: weights before minus weights now, in the manifest's order. Refused if one is not finite. */
FK_API fk_status fk_training_update(fk_training *training, float *update, size_t count, fk_error *error);
/* The same as a file for `fedkeys aggregate`; edge/clients/files.py describes it. It appears whole or not at all. */
FK_API fk_status fk_training_write_update(fk_training *training, const char *path, fk_error *error);

#ifdef __cplusplus
}
#endif

#endif
