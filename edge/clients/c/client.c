/* fedkeys_client: trains and predicts with a phone bundle through LiteRT's C library; no Python, no TensorFlow. A thin
 * program over libfedkeys (fedkeys.h), which does all but words and printing.
 *
 *   fedkeys_client self-test BUNDLE              trains on the golden batches and compares with TensorFlow's result
 *   fedkeys_client train BUNDLE BATCHES UPDATE   trains on a file of token batches and writes the update
 *   fedkeys_client predict BUNDLE [ID...]        the three likeliest next ids after these, with their probabilities
 *   fedkeys_client weights BUNDLE OUT            writes the weights, as the manifest describes them
 *
 *   --learning-rate R   for train; without it the manifest's
 *   --weights FILE      for train: the round's weights to start from; without it the bundle's own
 *   --threads N         1 if not given
 *   --stats             also prints the process's peak memory, and the time of a step, or of each word after the first
 *
 * BATCHES and UPDATE are described in edge/clients/files.py. Exit code 2: bad input, told in one line; 1: LiteRT failed.
 * A file is refused whole before anything is trained on it, and what is written appears whole or not at all. */
#define _POSIX_C_SOURCE 200809L
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fedkeys.h"
#include "fk_files.h"
#include "fk_model.h"

enum { MAX_THREADS = 64, MAX_RATE = 1000 };
static const size_t MAX_BYTES = (size_t)1 << 31; /* of a file that the user names */

typedef struct {
  const char *learning_rate, *weights, *threads; /* NULL = not given */
  bool stats;
} Options;

_Noreturn static void end(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("fedkeys_client: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  _exit(code); /* not exit: nothing that the process still holds is worth tidying up */
}
#define fail(...) end(2, __VA_ARGS__)

/* Ends the process unless all went well. When LiteRT itself fails, what the user gave has been checked. */
static void check(fk_status status, const fk_error *error) {
  if (status != FK_OK) end(status == FK_RUNTIME ? 1 : 2, "%s", error->message);
}

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) fail("out of memory: %zu bytes wanted", bytes);
  return memory;
}

static double to_number(const char *what, const char *text) {
  char *rest;
  double number = strtod(text, &rest);
  if (rest == text || *rest) fail("%s must be a number, got %s", what, text);
  return number;
}

static int32_t to_whole(const char *what, const char *text, int32_t least, int32_t most) {
  char *rest;
  long number = strtol(text, &rest, 10);
  if (rest == text || *rest || number < least || number > most)
    fail("%s must be a whole number from %d to %d, got %s", what, least, most, text);
  return (int32_t)number;
}

static int32_t threads(const Options *options) {
  return options->threads ? to_whole("--threads", options->threads, 1, MAX_THREADS) : 1;
}

/* ---- LiteRT greets on standard error, which its log severity does not stop ---- */

/* Catches what is written to standard error from here on; NULL if it can't. */
static FILE *catch_errors(int *standard_error) {
  FILE *written = tmpfile();
  *standard_error = written ? dup(STDERR_FILENO) : -1;
  if (*standard_error >= 0) dup2(fileno(written), STDERR_FILENO);
  return written;
}

/* Passes on what was written meanwhile, but for "INFO: ...". */
static void pass_errors_on(FILE *written, int standard_error) {
  if (standard_error >= 0) dup2(standard_error, STDERR_FILENO), close(standard_error);
  if (!written) return;
  char line[1024];
  rewind(written);
  while (fgets(line, sizeof line, written))
    if (strncmp(line, "INFO: ", 6) != 0) fputs(line, stderr);
  fclose(written);
}

static fk_litert *open_litert(void) {
  fk_error error;
  fk_litert *litert;
  const char *path = getenv("FEDKEYS_LITERT");
  check(fk_litert_open(path ? path : LITERT_LIBRARY, &litert, &error), &error);
  return litert;
}

static fk_model *open_model(const fk_bundle *bundle, const char *name, const fk_litert *litert, int32_t num_threads) {
  fk_error error;
  fk_model *model;
  int standard_error;
  FILE *written = catch_errors(&standard_error);
  fk_status status = fk_model_open(bundle, name, litert, num_threads, &model, &error);
  pass_errors_on(written, standard_error);
  check(status, &error);
  return model;
}

static fk_bundle *open_bundle(const char *folder) {
  fk_error error;
  fk_bundle *bundle;
  check(fk_bundle_open(folder, NULL, &bundle, &error), &error);
  return bundle;
}

/* For what takes words. */
static fk_bundle *open_words_bundle(const char *folder, const char *what) {
  fk_error error;
  fk_bundle *bundle = open_bundle(folder);
  check(fk_require_words(fk_bundle_get_info(bundle), what, &error), &error);
  return bundle;
}

static void print_peak_memory(void) {
  char line[128];
  long peak_kib = 0;
  /* Not getrusage: it also counts what the parent process had when it started this one. */
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak_kib);
  if (status) fclose(status);
  printf("peak_rss_mib %.1f\n", (double)peak_kib / 1024);
}

static void print_stats(double ms_per_step) {
  printf("ms_per_step %.3f\n", ms_per_step);
  print_peak_memory();
}

/* ---- commands ---- */

static fk_batches *read_batches(const char *path) {
  fk_error error;
  fk_file file;
  fk_batches *batches;
  check(fk_read_file(path, MAX_BYTES, &file, &error), &error);
  check(fk_batches_parse(file.bytes, file.size, path, &batches, &error), &error);
  free(file.bytes);
  return batches;
}

static void set_weights(fk_model *model, size_t num_weights, const char *path) {
  fk_error error;
  fk_file file;
  check(fk_read_file(path, MAX_BYTES, &file, &error), &error);
  if (file.size != num_weights * sizeof(float))
    fail("%s has %zu bytes, the model's weights have %zu: cut off or of another model", path, file.size,
         num_weights * sizeof(float));
  check(fk_model_set_weights(model, (const float *)(const void *)file.bytes, num_weights, &error), &error);
  free(file.bytes);
}

static void train_command(const char *folder, const char *batches_path, const char *update_path,
                          const Options *options) {
  fk_error error;
  fk_bundle *bundle = open_words_bundle(folder, "train");
  const fk_bundle_info *info = fk_bundle_get_info(bundle);
  double rate = options->learning_rate ? to_number("--learning-rate", options->learning_rate) : info->learning_rate;
  if (!(rate > 0 && rate <= MAX_RATE)) fail("the learning rate must be above 0 and at most %d, got %g", MAX_RATE, rate);
  fk_batches *batches = read_batches(batches_path);
  fk_litert *litert = open_litert();
  fk_model *model = open_model(bundle, "train.tflite", litert, threads(options));
  if (options->weights) set_weights(model, info->num_weights, options->weights);
  fk_training *training;
  fk_progress progress;
  check(fk_training_open(model, batches, rate, &training, &error), &error);
  check(fk_training_run(training, 0, 0, &progress, &error), &error);
  check(fk_training_write_update(training, update_path, &error), &error);

  size_t steps;
  const double *losses = fk_training_losses(training, &steps);
  for (size_t i = 0; i < steps; i++) printf("loss %.9g\n", losses[i]);
  printf("num_tokens %d\nnum_examples %d\n", progress.num_tokens, progress.num_examples);
  if (options->stats) print_stats(progress.ms / progress.num_steps);
  fk_training_close(training);
  fk_batches_close(batches);
  fk_model_close(model);
  fk_litert_close(litert);
  fk_bundle_close(bundle);
}

static void self_test_command(const char *folder, const Options *options) {
  fk_error error;
  fk_self_test_result result;
  fk_bundle *bundle = open_bundle(folder);
  int32_t num_threads = threads(options);
  fk_litert *litert = open_litert();
  int standard_error;
  FILE *written = catch_errors(&standard_error);
  fk_status status = fk_self_test(bundle, litert, num_threads, &result, &error);
  pass_errors_on(written, standard_error);
  check(status, &error);
  printf("self-test passed: %d steps, weights within %.1e, loss within %.1e\n", result.num_steps, result.weights_off,
         result.loss_off);
  if (options->stats) print_stats(result.ms / result.num_steps);
  fk_litert_close(litert);
  fk_bundle_close(bundle);
}

static void predict_command(const char *folder, int count, char **words, const Options *options) {
  fk_error error;
  fk_bundle *bundle = open_words_bundle(folder, "predict");
  int32_t *ids = allocate(sizeof *ids * (size_t)count), last_id = fk_bundle_get_info(bundle)->vocabulary_size - 1;
  for (int i = 0; i < count; i++) ids[i] = to_whole("ID", words[i], 0, last_id);
  fk_litert *litert = open_litert();
  fk_model *model = open_model(bundle, "infer.tflite", litert, threads(options));
  fk_predictor *predictor;
  fk_prediction found[FK_NUM_PREDICTIONS];
  double *stroke_ms = allocate(sizeof *stroke_ms * (size_t)count);
  check(fk_predictor_open(model, &predictor, &error), &error);
  for (int i = 0; options->stats && i < count; i++) { /* a word more each time, as somebody types */
    double before = fk_now_ms();
    check(fk_predictor_after(predictor, ids, (size_t)i + 1, found, &error), &error);
    stroke_ms[i] = fk_now_ms() - before;
  }
  check(fk_predictor_after(predictor, ids, (size_t)count, found, &error), &error);
  for (int i = 0; i < FK_NUM_PREDICTIONS; i++) printf("%d %.9g\n", found[i].id, (double)found[i].probability);
  for (int i = 1; options->stats && i < count; i++) printf("key_stroke_ms %.4f\n", stroke_ms[i]); /* the first begins the sentence, too */
  if (options->stats) print_peak_memory();
  free(stroke_ms);
  free(ids);
  fk_predictor_close(predictor);
  fk_model_close(model);
  fk_litert_close(litert);
  fk_bundle_close(bundle);
}

static void weights_command(const char *folder, const char *out, const Options *options) {
  fk_error error;
  fk_bundle *bundle = open_bundle(folder);
  fk_litert *litert = open_litert();
  fk_model *model = open_model(bundle, "train.tflite", litert, threads(options));
  size_t count = fk_bundle_get_info(bundle)->num_weights;
  float *weights = allocate(count * sizeof(float));
  check(fk_model_get_weights(model, weights, count, &error), &error);
  check(fk_write_file(out, "", 0, weights, count * sizeof(float), false, &error), &error);
  free(weights);
  fk_model_close(model);
  fk_litert_close(litert);
  fk_bundle_close(bundle);
}

/* Takes the options out of `words` and returns how many words are left. */
static int take_options(int count, char **words, Options *options) {
  int left = 0;
  for (int i = 0; i < count; i++) {
    const char **value = strcmp(words[i], "--learning-rate") == 0 ? &options->learning_rate
                         : strcmp(words[i], "--weights") == 0     ? &options->weights
                         : strcmp(words[i], "--threads") == 0     ? &options->threads
                                                                  : NULL;
    if (value && i + 1 == count) fail("%s needs a value", words[i]);
    if (value)
      *value = words[++i];
    else if (strcmp(words[i], "--stats") == 0)
      options->stats = true;
    else if (strncmp(words[i], "--", 2) == 0)
      fail("there is no option %s", words[i]);
    else
      words[left++] = words[i];
  }
  return left;
}

int main(int count, char **words) {
  Options options = {0};
  count = take_options(count, words, &options);
  const char *command = count > 1 ? words[1] : "";
  if (strcmp(command, "self-test") == 0 && count == 3)
    self_test_command(words[2], &options);
  else if (strcmp(command, "train") == 0 && count == 5)
    train_command(words[2], words[3], words[4], &options);
  else if (strcmp(command, "predict") == 0 && count >= 3)
    predict_command(words[2], count - 3, words + 3, &options);
  else if (strcmp(command, "weights") == 0 && count == 4)
    weights_command(words[2], words[3], &options);
  else
    fail("usage: self-test BUNDLE | train BUNDLE BATCHES UPDATE | predict BUNDLE [ID...] | weights BUNDLE OUT");
  return 0;
}
