/* fedkeys_client: trains and predicts with a phone bundle through LiteRT's C library; no Python, no TensorFlow.
 *
 *   fedkeys_client self-test BUNDLE              trains on the golden batches and compares with TensorFlow's result
 *   fedkeys_client train BUNDLE BATCHES UPDATE   trains on a file of token batches and writes the update
 *   fedkeys_client predict BUNDLE [ID...]        the three likeliest next ids after these, with their probabilities
 *   fedkeys_client weights BUNDLE OUT            writes the weights, as the manifest describes them
 *
 *   --learning-rate R   for train; without it the manifest's
 *   --weights FILE      for train: the round's weights to start from; without it the bundle's own
 *   --threads N         1 if not given
 *   --stats             also prints the time of a step and the process's peak memory
 *
 * BATCHES and UPDATE are described in edge/clients/files.py. Exit code 2: bad input, told in one line; 1: LiteRT failed.
 * A file is refused whole before anything is trained on it, and what is written appears whole or not at all.
 * What goes into the model and out of it, and in what order, is in train() and predict_command(). */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The files are little-endian, and so must the machine be"
#endif

enum { BOS = 1, NUM_WEIGHTS = 5, NUM_PREDICTIONS = 3 };
enum { MAX_BATCH = 256, MAX_THREADS = 64, MAX_RATE = 1000, MAX_GOLDEN = 16 };
static const double MAX_TOLERANCE = 1e-5; /* of the golden batch: what an export writes */
static const char *const WEIGHT_NAMES[NUM_WEIGHTS] = {"embedding", "kernel", "bias", "projection", "output_bias"};

typedef struct {
  const char *learning_rate, *weights, *threads; /* NULL = not given */
  bool stats;
} Options;

static double to_number(const char *what, const char *text) {
  char *end;
  double number = strtod(text, &end);
  if (end == text || *end) fail("%s must be a number, got %s", what, text);
  return number;
}

static int32_t to_whole(const char *what, const char *text, int32_t least, int32_t most) {
  char *end;
  long number = strtol(text, &end, 10);
  if (end == text || *end || number < least || number > most)
    fail("%s must be a whole number from %d to %d, got %s", what, least, most, text);
  return (int32_t)number;
}

static Model open_with(const Bundle *bundle, const char *name, const Options *options) {
  return open_model(bundle, name, options->threads ? to_whole("--threads", options->threads, 1, MAX_THREADS) : 1);
}

/* ---- weights: all five in one array, in the manifest's order ---- */

typedef struct {
  float *values;
  size_t count;
  int32_t vocabulary_size;
} Weights;

static Weights get_weights(const Model *model) {
  Signature signature = open_signature(model, "get_weights", 1);
  Weights weights = {.vocabulary_size = find_output(&signature, "embedding")->type.layout.dimensions[0]};
  for (int i = 0; i < NUM_WEIGHTS; i++)
    weights.count += find_output(&signature, WEIGHT_NAMES[i])->bytes / sizeof(float);
  weights.values = allocate(weights.count * sizeof(float));
  run(&signature);
  float *place = weights.values;
  for (int i = 0; i < NUM_WEIGHTS; i++) {
    size_t bytes = find_output(&signature, WEIGHT_NAMES[i])->bytes;
    get(&signature, WEIGHT_NAMES[i], place, bytes);
    place += bytes / sizeof(float);
  }
  close_signature(&signature);
  return weights;
}

static void set_weights(const Model *model, const char *path) {
  File file = read_file(path);
  Signature signature = open_signature(model, "set_weights", 1);
  size_t expected = 0;
  for (int i = 0; i < NUM_WEIGHTS; i++) expected += find_input(&signature, WEIGHT_NAMES[i])->bytes;
  if (file.size != expected)
    fail("%s has %zu bytes, the model's weights have %zu: cut off or of another model", path, file.size, expected);
  const char *place = file.bytes;
  for (int i = 0; i < NUM_WEIGHTS; i++) {
    size_t bytes = find_input(&signature, WEIGHT_NAMES[i])->bytes;
    put(&signature, WEIGHT_NAMES[i], place, bytes);
    place += bytes;
  }
  run(&signature);
  close_signature(&signature);
  free(file.bytes);
}

static void require_finite(const Weights *weights, const char *fault) {
  for (size_t i = 0; i < weights->count; i++)
    if (!isfinite(weights->values[i])) fail("%s", fault);
}

/* ---- token batches ---- */

typedef struct {
  char magic[8];
  int32_t num_batches, batch, time, vocabulary_size;
} BatchesHeader;

typedef struct {
  const char *path;
  File file;
  BatchesHeader header;
  size_t positions; /* of a batch */
} Batches;

enum { TOKENS, TARGETS, MASK, NUM_PARTS };

static const void *batch_part(const Batches *batches, int32_t batch, int part) {
  size_t parts_before = NUM_PARTS * (size_t)batch + (size_t)part;
  return batches->file.bytes + sizeof(BatchesHeader) + 4 * batches->positions * parts_before;
}

static void check_batch(const Batches *batches, int32_t batch) {
  const int32_t *tokens = batch_part(batches, batch, TOKENS), *targets = batch_part(batches, batch, TARGETS);
  const float *mask = batch_part(batches, batch, MASK);
  int32_t size = batches->header.vocabulary_size;
  for (size_t i = 0; i < batches->positions; i++) {
    bool token_is_bad = tokens[i] < 0 || tokens[i] >= size;
    if (token_is_bad || targets[i] < 0 || targets[i] >= size)
      fail("%s holds the %s id %d: ids go from 0 to %d", batches->path, token_is_bad ? "token" : "target",
           token_is_bad ? tokens[i] : targets[i], size - 1);
    bool is_first = i % (size_t)batches->header.time == 0;
    if (mask[i] != 0.0f && mask[i] != 1.0f) fail("%s holds a mask that is neither 0 nor 1", batches->path);
    if (!is_first && mask[i] > mask[i - 1]) fail("%s holds a mask with a 1 after a 0", batches->path);
  }
}

static Batches read_batches(const char *path, File file) {
  Batches batches = {.path = path, .file = file};
  BatchesHeader *header = &batches.header;
  if (file.size < sizeof *header || memcmp(file.bytes, "FKBATCH1", sizeof header->magic) != 0)
    fail("%s holds no token batches: it must begin with FKBATCH1", path);
  memcpy(header, file.bytes, sizeof *header);
  if (header->num_batches < 1 || header->batch < 1 || header->batch > MAX_BATCH || header->time < 1)
    fail("%s holds %d batches of %d sentences of %d positions: at least 1 of each, and at most %d sentences, can be",
         path, header->num_batches, header->batch, header->time, MAX_BATCH);
  batches.positions = (size_t)header->batch * (size_t)header->time;
  size_t body = file.size - sizeof *header, bytes_per_batch = 4 * NUM_PARTS * batches.positions;
  if (body % bytes_per_batch != 0 || body / bytes_per_batch != (size_t)header->num_batches)
    fail("%s is cut off or too long: %zu bytes, of which each of its %d batches takes %zu; write it again", path,
         file.size, header->num_batches, bytes_per_batch);
  for (int32_t batch = 0; batch < header->num_batches; batch++) check_batch(&batches, batch);
  return batches;
}

/* ---- training ---- */

typedef struct {
  double loss_sum; /* nats */
  int32_t num_tokens, num_examples;
  double *losses; /* nats per token, one a batch */
  double ms;
} Training;

static double now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e3 * (double)time.tv_sec + (double)time.tv_nsec / 1e6;
}

/* One step of SGD a batch; the model's weights move. */
static Training train(const Model *model, const Weights *start, const Batches *batches, float learning_rate) {
  const BatchesHeader *header = &batches->header;
  Signature signature = open_signature(model, "train", header->batch);
  int32_t time = find_input(&signature, "tokens")->type.layout.dimensions[1];
  if (header->time != time || header->vocabulary_size != start->vocabulary_size)
    fail("%s was made for %d positions and %d words, the model has %d and %d: make it again with this bundle",
         batches->path, header->time, header->vocabulary_size, time, start->vocabulary_size);
  size_t bytes = 4 * batches->positions;
  Training training = {.losses = allocate(sizeof(double) * (size_t)header->num_batches), .ms = -now_ms()};
  put(&signature, "learning_rate", &learning_rate, sizeof learning_rate);
  for (int32_t batch = 0; batch < header->num_batches; batch++) {
    const float *mask = batch_part(batches, batch, MASK);
    float loss, num_tokens;
    put(&signature, "tokens", batch_part(batches, batch, TOKENS), bytes);
    put(&signature, "targets", batch_part(batches, batch, TARGETS), bytes);
    put(&signature, "mask", mask, bytes);
    run(&signature);
    get(&signature, "loss", &loss, sizeof loss);
    get(&signature, "num_tokens", &num_tokens, sizeof num_tokens);
    training.losses[batch] = (double)loss;
    training.loss_sum += (double)loss * (double)num_tokens;
    training.num_tokens += (int32_t)num_tokens;
    for (size_t row = 0; row < batches->positions; row += (size_t)time) training.num_examples += mask[row] == 1.0f;
  }
  training.ms += now_ms();
  close_signature(&signature);
  return training;
}

static void print_stats(const Training *training, int32_t num_batches) {
  char line[128];
  long peak_kib = 0;
  /* Not getrusage: it also counts what the parent process had when it started this one. */
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status)) sscanf(line, "VmHWM: %ld", &peak_kib);
  if (status) fclose(status);
  printf("ms_per_step %.3f\npeak_rss_mib %.1f\n", training->ms / num_batches, (double)peak_kib / 1024);
}

/* ---- commands ---- */

static void train_command(const char *folder, const char *batches_path, const char *update_path,
                          const Options *options) {
  Bundle bundle = open_bundle(folder);
  double rate = options->learning_rate ? to_number("--learning-rate", options->learning_rate)
                                       : manifest_number(&bundle, "phase plan learning_rate");
  if (!(rate > 0 && rate <= MAX_RATE)) fail("the learning rate must be above 0 and at most %d, got %g", MAX_RATE, rate);
  Batches batches = read_batches(batches_path, read_file(batches_path));
  Model model = open_with(&bundle, "train.tflite", options);
  if (options->weights) set_weights(&model, options->weights);
  Weights before = get_weights(&model);
  require_finite(&before, "the weights to start from are not finite: ask the server for this round's anew");
  Training training = train(&model, &before, &batches, (float)rate);
  Weights delta = get_weights(&model);
  require_finite(&delta, "training made weights that are not finite: train with a smaller --learning-rate");
  for (size_t i = 0; i < delta.count; i++) delta.values[i] = before.values[i] - delta.values[i];

  struct {
    char magic[8];
    uint32_t crc32;
    int32_t num_weights, num_examples, num_tokens;
    double loss_sum;
  } header = {{'F', 'K', 'U', 'P', 'D', 'A', 'T', '1'}, crc32(before.values, before.count * sizeof(float)),
              (int32_t)before.count, training.num_examples, training.num_tokens, training.loss_sum};
  _Static_assert(sizeof header == 32, "the update's header has no gaps");
  write_file(update_path, &header, sizeof header, delta.values, delta.count * sizeof(float));

  for (int32_t batch = 0; batch < batches.header.num_batches; batch++) printf("loss %.9g\n", training.losses[batch]);
  printf("num_tokens %d\nnum_examples %d\n", training.num_tokens, training.num_examples);
  if (options->stats) print_stats(&training, batches.header.num_batches);
  free(training.losses), free(batches.file.bytes), free(before.values), free(delta.values);
  close_model(&model);
  close_bundle(&bundle);
}

/* golden/expected.txt: a name and a number a line. Returns how many losses it holds. */
static int read_expected(char *text, double *learning_rate, double *tolerance, double losses[MAX_GOLDEN]) {
  int count = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    sscanf(line, "learning_rate %lf", learning_rate);
    sscanf(line, "tolerance %lf", tolerance);
    if (count < MAX_GOLDEN) count += sscanf(line, "loss %lf", &losses[count]) == 1;
  }
  return count;
}

static void self_test_command(const char *folder, const Options *options) {
  Bundle bundle = open_bundle(folder);
  Batches batches = read_batches("golden/batches.bin", read_bundle_file(&bundle, "golden/batches.bin"));
  File expected = read_bundle_file(&bundle, "golden/expected.txt");
  File after = read_bundle_file(&bundle, "golden/weights_after.bin");
  double rate = 0, tolerance = 0, losses[MAX_GOLDEN];
  if (read_expected(expected.bytes, &rate, &tolerance, losses) != batches.header.num_batches || !rate || !tolerance)
    fail("golden/expected.txt does not fit golden/batches.bin: export the run again");
  if (!(rate > 0 && isfinite(rate) && tolerance > 0 && tolerance <= MAX_TOLERANCE))
    fail("golden/expected.txt allows a difference of %g at a rate of %g: do not use this bundle", tolerance, rate);
  Model model = open_with(&bundle, "train.tflite", options);
  Weights start = get_weights(&model);
  Training training = train(&model, &start, &batches, (float)rate);
  Weights trained = get_weights(&model);
  if (after.size != trained.count * sizeof(float)) fail("golden/weights_after.bin is of another model");

  const float *wanted = (const float *)(const void *)after.bytes;
  double loss_off = 0, weight_off = 0;
  bool ok = true; /* each comparison is false for a NaN */
  for (int32_t batch = 0; batch < batches.header.num_batches; batch++) {
    double off = fabs(training.losses[batch] - losses[batch]) / fmax(1, fabs(losses[batch]));
    ok = ok && off <= tolerance;
    loss_off = fmax(loss_off, off);
  }
  for (size_t i = 0; i < trained.count; i++) {
    double off = fabs((double)trained.values[i] - (double)wanted[i]);
    ok = ok && off <= tolerance;
    weight_off = fmax(weight_off, off);
  }
  if (!ok)
    fail("self-test failed: weights %.1e off and loss %.1e off, %.0e is allowed: use LiteRT " LITERT_VERSION,
         weight_off, loss_off, tolerance);
  printf("self-test passed: %d steps, weights within %.1e, loss within %.1e\n", batches.header.num_batches, weight_off,
         loss_off);
  if (options->stats) print_stats(&training, batches.header.num_batches);
  free(training.losses), free(batches.file.bytes), free(expected.bytes), free(after.bytes);
  free(start.values), free(trained.values);
  close_model(&model);
  close_bundle(&bundle);
}

static void predict_command(const char *folder, int count, char **words, const Options *options) {
  Bundle bundle = open_bundle(folder);
  double last_id = manifest_number(&bundle, "model vocabulary_size") - 1;
  for (int i = 0; i < count; i++) to_whole("ID", words[i], 0, (int32_t)fmin(last_id, INT32_MAX));
  Model model = open_with(&bundle, "infer.tflite", options);
  Signature stroke = open_signature(&model, "infer", 1);
  size_t hidden_bytes = find_input(&stroke, "hidden")->bytes, cell_bytes = find_input(&stroke, "cell")->bytes;
  void *hidden = memset(allocate(hidden_bytes), 0, hidden_bytes), *cell = memset(allocate(cell_bytes), 0, cell_bytes);
  for (int i = -1; i < count; i++) { /* a sentence starts with <bos> */
    int32_t token = i < 0 ? BOS : (int32_t)strtol(words[i], NULL, 10);
    put(&stroke, "token", &token, sizeof token);
    put(&stroke, "hidden", hidden, hidden_bytes);
    put(&stroke, "cell", cell, cell_bytes);
    run(&stroke);
    get(&stroke, "next_hidden", hidden, hidden_bytes);
    get(&stroke, "next_cell", cell, cell_bytes);
  }
  int32_t ids[NUM_PREDICTIONS];
  float probabilities[NUM_PREDICTIONS];
  get(&stroke, "ids", ids, sizeof ids);
  get(&stroke, "probabilities", probabilities, sizeof probabilities);
  for (int i = 0; i < NUM_PREDICTIONS; i++) printf("%d %.9g\n", ids[i], (double)probabilities[i]);
  free(hidden), free(cell);
  close_signature(&stroke);
  close_model(&model);
  close_bundle(&bundle);
}

static void weights_command(const char *folder, const char *out, const Options *options) {
  Bundle bundle = open_bundle(folder);
  Model model = open_with(&bundle, "train.tflite", options);
  Weights weights = get_weights(&model);
  write_file(out, "", 0, weights.values, weights.count * sizeof(float));
  free(weights.values);
  close_model(&model);
  close_bundle(&bundle);
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
