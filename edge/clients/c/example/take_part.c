/* take_part: a client of `fedkeys serve --web` in C, over WebSocket. An example of what an app does around libfedkeys:
 * files, connection, training in slices. It takes part under secure aggregation until the server says goodbye.
 *
 *   take_part URL KEYS CLIENT_ID BUNDLE TEXT
 *
 * URL: https://HOST:PORT, or http://localhost:PORT. KEYS: the folder that `fedkeys enrol` and the operator filled, as for
 * `fedkeys client`; its ca.pem must have signed the server's certificate. BUNDLE: exported from a run of the same model.
 * TEXT: UTF-8, a message on each line. FEDKEYS_LITERT names libLiteRt.so, FEDKEYS_ANSWER_STEP_MS the step of answers.
 *
 * Exit code 2: something is missing or was lost; 3: the server asked for something that could expose the client. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../fedkeys.h"
#include "enrolment.h"
#include "need.h"
#include "websocket.h"

enum { SLICE_MS = 200, ANSWER_STEP_MS = 1000, TOKENISER = 2 /* of every run that libfedkeys takes part in */ };

typedef struct {
  websocket *socket;
  const fk_bundle_info *bundle;
  fk_model *model;
  char *text; /* what was typed */
  const int32_t **ids; /* of its sentences, by the run's words */
  size_t *lengths, num_sentences;
  fk_text *words;
  fk_sentences **messages;
  size_t num_messages;
} client;

/* ---- training ---- */

/* Reads what was typed by the words of the run, each line a message. */
static fk_status read_sentences(client *own, const fk_run *run, fk_error *error) {
  size_t size = 0, at = 0, lines = 1;
  for (size_t i = 0; i < run->num_words; i++) size += run->words[i].size + 1;
  char *list = allocate(size, 1);
  for (size_t i = 0; i < run->num_words; at += run->words[i++].size + 1) {
    memcpy(list + at, run->words[i].text, run->words[i].size);
    list[at + run->words[i].size] = '\n';
  }
  fk_status status = fk_text_open_words(list, size, TOKENISER, &own->words, error);
  free(list);
  for (const char *c = own->text; *c; c++) lines += *c == '\n';
  own->messages = allocate(lines, sizeof *own->messages);
  size_t most = 0;
  for (const char *line = own->text; status == FK_OK && *line; line += strcspn(line, "\n"), line += *line == '\n') {
    status = fk_text_sentences(own->words, line, strcspn(line, "\n"), &own->messages[own->num_messages], error);
    if (status == FK_OK) most += fk_sentences_count(own->messages[own->num_messages++]);
  }
  own->ids = allocate(most, sizeof *own->ids);
  own->lengths = allocate(most, sizeof *own->lengths);
  for (size_t i = 0; status == FK_OK && i < own->num_messages; i++)
    for (size_t k = 0; k < fk_sentences_count(own->messages[i]) && own->num_sentences < run->max_sentences_train; k++) {
      size_t place = own->num_sentences++;
      own->ids[place] = fk_sentences_ids(own->messages[i], k, &own->lengths[place]);
    }
  return status;
}

static fk_status check_fit(const client *own, const fk_run *run, fk_error *error) {
  const fk_bundle_info *bundle = own->bundle;
  bool fits = run->num_weights == bundle->num_weights && (int32_t)run->vocabulary_size == bundle->vocabulary_size &&
              (int32_t)run->max_words == bundle->max_words && fabs(run->client_clip_norm - bundle->clip_norm) <= 0;
  if (fits) return FK_OK;
  snprintf(error->message, sizeof error->message, "the bundle is of another model than the run: take one that fits");
  return error->status = FK_UNSUPPORTED;
}

/* Runs a training in slices; in between the server's pings are answered. */
static fk_status run_slices(client *own, fk_training *training, fk_trained *trained, fk_error *error) {
  fk_progress progress = {0};
  while (!progress.is_done) {
    fk_status status = fk_training_run(training, 0, SLICE_MS, &progress, error);
    if (status != FK_OK) return status;
    websocket_answer_pings(own->socket);
  }
  trained->num_tokens = (uint32_t)progress.num_tokens;
  trained->num_examples = (uint32_t)progress.num_examples;
  fk_status status = fk_training_update(training, trained->delta, own->bundle->num_weights, error);
  if (status != FK_DAMAGED) return status;
  trained->delta[0] = NAN; /* weights that are not finite: libfedkeys sends zeros, and the server learns nothing of it */
  return FK_OK;
}

static fk_status train_on(client *own, const fk_round *round, const fk_batches *batches, fk_trained *trained,
                          fk_error *error) {
  fk_training *training = NULL;
  fk_status status = fk_model_set_weights(own->model, round->weights, round->run->num_weights, error);
  if (status == FK_OK) status = fk_training_open(own->model, batches, round->learning_rate, &training, error);
  if (status == FK_OK) status = run_slices(own, training, trained, error);
  fk_training_close(training);
  return status;
}

/* The callback of fk_participant_options. */
static fk_status train(void *context, const fk_round *round, fk_trained *trained, fk_error *error) {
  client *own = context;
  const fk_run *run = round->run;
  fk_status status = check_fit(own, run, error);
  if (status == FK_OK && !own->words) status = read_sentences(own, run, error);
  if (status != FK_OK) return status;
  memset(trained->delta, 0, run->num_weights * sizeof *trained->delta);
  if (own->num_sentences == 0 || !(round->learning_rate > 0)) return FK_OK; /* zeros, of weight 0 */
  fk_drawing drawing = {(int32_t)run->epochs,          (int32_t)run->batch_size,     (int32_t)run->max_sentences,
                        (int32_t)run->max_words,       (int32_t)run->vocabulary_size, (int32_t)run->length_buckets, 0};
  fk_batches *batches = NULL;
  if (RAND_bytes((unsigned char *)&drawing.seed, sizeof drawing.seed) != 1) return FK_CRYPTO;
  status = fk_batches_draw(own->ids, own->lengths, own->num_sentences, &drawing, &batches, error);
  if (status == FK_OK) status = train_on(own, round, batches, trained, error);
  fk_batches_close(batches);
  if (status == FK_OK) printf("round %u: trained\n", round->round_num), fflush(stdout);
  return status;
}

/* ---- rounds ---- */

static void join(client *own, fk_participant *participant) {
  uint8_t *nonce;
  const uint8_t *answer;
  size_t nonce_size, size;
  fk_error error;
  if (!websocket_receive(own->socket, &nonce, &nonce_size)) stop(2, "%s", websocket_why(own->socket));
  check(fk_participant_join(participant, nonce, nonce_size, &answer, &size, &error), &error);
  if (!websocket_send(own->socket, answer, size)) stop(2, "%s", websocket_why(own->socket));
  free(nonce);
}

/* Answers until the server lets the client go. */
static void take_part(client *own, fk_participant *participant) {
  uint8_t *message;
  size_t size, answer_size;
  const uint8_t *answer;
  fk_error error;
  while (!fk_participant_goodbye(participant)) {
    if (!websocket_receive(own->socket, &message, &size)) stop(2, "%s", websocket_why(own->socket));
    fk_status status = fk_participant_answer(participant, message, size, &answer, &answer_size, &error);
    free(message);
    check(status, &error);
    if (answer && !websocket_send(own->socket, answer, answer_size)) stop(2, "%s", websocket_why(own->socket));
  }
  printf("%s\n", fk_participant_goodbye(participant));
}

static void close_text(client *own) {
  for (size_t i = 0; i < own->num_messages; i++) fk_sentences_close(own->messages[i]);
  free(own->messages);
  free(own->ids);
  free(own->lengths);
  fk_text_close(own->words);
  OPENSSL_cleanse(own->text, strlen(own->text));
  free(own->text);
}

int main(int count, char **words) {
  if (count != 6) stop(2, "usage: take_part URL KEYS CLIENT_ID BUNDLE TEXT");
  const char *url = words[1], *keys = words[2];
  client own = {0};
  fk_error error;
  fk_bundle *bundle;
  fk_litert *litert;
  fk_participant *participant;
  size_t size;
  enrolment enrolled_as = enrolled(keys, words[3]);
  check(fk_bundle_open(words[4], NULL, &bundle, &error), &error);
  check(fk_bundle_verify(bundle, &error), &error);
  check(fk_litert_open(getenv("FEDKEYS_LITERT"), &litert, &error), &error);
  check(fk_self_test(bundle, litert, 1, NULL, &error), &error);
  own.bundle = fk_bundle_get_info(bundle);
  own.text = read_file(words[5], &size);
  check(fk_model_open(bundle, "train.tflite", litert, 1, &own.model, &error), &error);
  const char *step = getenv("FEDKEYS_ANSWER_STEP_MS");
  enrolled_as.options.answer_step_ms = step ? (uint32_t)strtoul(step, NULL, 10) : ANSWER_STEP_MS;
  enrolled_as.options.train = train;
  enrolled_as.options.train_context = &own;
  check(fk_participant_open(&enrolled_as.options, &participant, &error), &error);
  OPENSSL_cleanse(enrolled_as.options.identity, sizeof enrolled_as.options.identity);
  char *ca = path_of(keys, "ca", ".pem");
  own.socket = websocket_open(url, "/rounds", "fedkeys.v1", ca);
  if (!own.socket) stop(2, "out of memory");
  join(&own, participant);
  take_part(&own, participant);

  websocket_close(own.socket);
  fk_participant_close(participant);
  fk_model_close(own.model);
  fk_litert_close(litert);
  fk_bundle_close(bundle);
  fk_signed_roster_close(enrolled_as.roster);
  fk_journal_file_close(enrolled_as.journal);
  close_text(&own);
  free(ca);
  return 0;
}
