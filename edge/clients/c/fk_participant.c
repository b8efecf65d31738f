/* Answers the server's messages as one client, as orchestrator/network/client.py; knows nothing of connections.
 * Over 300 lines, since what a message may do is read best in one place. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fk_protocol_parts.h"

#define MOST_NAME_BYTES 512 /* of a client's name: 128 characters */
#define WHERE_BYTES 160     /* for "round R, STAGE" */
#define SHOWN_BYTES 120     /* of a name or a stage that somebody else wrote */

struct fk_participant {
  char *client_id;
  uint8_t identity[FK_KEY_BYTES], public_key[FK_KEY_BYTES];
  uint8_t *enrolled; /* num_enrolled keys, sorted */
  size_t num_enrolled;
  fk_demands demands;
  fk_journal journal;
  fk_train_fn train;
  void *train_context;
  uint32_t answer_step_ms;
  fk_sum sum;
  uint8_t helpers[FK_MOST_HELPERS][FK_KEY_BYTES];
  size_t num_helpers;
  fk_random random;
  fk_uniform uniform;
  uint8_t *setup; /* the bytes of the Setup that this client took, to which the words point; NULL before */
  size_t setup_size;
  fk_word *words;
  fk_run run;
  fk_encoder encoder;
  uint8_t run_name[32]; /* in the split sum */
  uint32_t num_groups;
  uint32_t last_answered; /* round of the split sum */
  uint8_t agreed[32];
  uint32_t round_num; /* of the last plan */
  fk_secagg *secagg;
  uint32_t *vector; /* of the last plan, until it is masked: encoder.dim + 1 words */
  fk_seen_sessions seen;
  fk_buffer answer;
  char *goodbye;
  bool is_at_work; /* inside of a call, and so of a callback */
};

/* ---- opening and closing ---- */

static int by_key(const void *one, const void *other) { return memcmp(one, other, FK_KEY_BYTES); }

/* Copies the roster's keys, each once, and checks that this client stands there with its own. */
static fk_status enrol(fk_participant *participant, const fk_participant_options *options, fk_error *error) {
  const fk_enrolled *own = NULL;
  participant->enrolled = fk_array(options->roster_size, FK_KEY_BYTES);
  if (!participant->enrolled) return fk_no_memory(error);
  for (size_t i = 0; i < options->roster_size; i += 1) {
    const fk_enrolled *one = &options->roster[i];
    memcpy(participant->enrolled + i * FK_KEY_BYTES, one->public_key, FK_KEY_BYTES);
    if (one->client_id && strcmp(one->client_id, options->client_id) == 0) own = one;
  }
  char shown[SHOWN_BYTES];
  fk_show(shown, sizeof shown, (fk_bytes){(const uint8_t *)options->client_id, strlen(options->client_id)});
  if (!own) return fk_fail(error, FK_KEYS_ERROR, "the roster has no client %s: enrol again", shown);
  if (memcmp(own->public_key, participant->public_key, FK_KEY_BYTES) != 0) {
    return fk_fail(error, FK_KEYS_ERROR, "the roster's key of client %s is not this device's: enrol again", shown);
  }
  qsort(participant->enrolled, options->roster_size, FK_KEY_BYTES, by_key);
  for (size_t i = 0; i < options->roster_size; i += 1) {
    const uint8_t *key = participant->enrolled + i * FK_KEY_BYTES;
    uint8_t *last = participant->enrolled + (participant->num_enrolled ? participant->num_enrolled - 1 : 0) * FK_KEY_BYTES;
    if (participant->num_enrolled && by_key(last, key) == 0) continue;
    memmove(participant->enrolled + participant->num_enrolled * FK_KEY_BYTES, key, FK_KEY_BYTES);
    participant->num_enrolled += 1;
  }
  return FK_OK;
}

static fk_status fill(fk_participant *participant, const fk_participant_options *options, fk_error *error) {
  participant->journal = options->journal;
  participant->train = options->train;
  participant->train_context = options->train_context;
  participant->answer_step_ms = options->answer_step_ms;
  participant->sum = options->sum;
  participant->num_helpers = options->sum == FK_SUM_SPLIT ? options->num_helpers : 0;
  if (participant->num_helpers) memcpy(participant->helpers, options->helpers, participant->num_helpers * FK_KEY_BYTES);
  participant->random = (fk_random){fk_random_bytes, NULL};
  participant->uniform = fk_secure_uniform();
  memcpy(participant->identity, options->identity, FK_KEY_BYTES);
  size_t size = strlen(options->client_id) + 1;
  participant->client_id = malloc(size);
  if (!participant->client_id) return fk_no_memory(error);
  memcpy(participant->client_id, options->client_id, size);
  FK_TRY(fk_ed25519_public(participant->identity, participant->public_key, error));
  FK_TRY(enrol(participant, options, error));
  FK_TRY(fk_demands_for(participant->num_enrolled, &participant->demands, error));
  if (options->demands) participant->demands = *options->demands;
  return FK_OK;
}

static bool is_name(const char *client_id) {
  size_t count;
  fk_bytes name = {(const uint8_t *)client_id, client_id ? strlen(client_id) : 0};
  return name.size > 0 && name.size <= MOST_NAME_BYTES && fk_utf8_count(name, &count) && count <= 128;
}

/* Whether the sum is known and, if it is split, there are one to five different helpers. */
static bool are_helpers(const fk_participant_options *options) {
  if (options->sum != FK_SUM_SPLIT) return options->sum == FK_SUM_SECAGG;
  if (!options->helpers || options->num_helpers < 1 || options->num_helpers > FK_MOST_HELPERS) return false;
  for (size_t i = 0; i < options->num_helpers; i += 1) {
    for (size_t j = 0; j < i; j += 1) {
      if (by_key(options->helpers[i], options->helpers[j]) == 0) return false;
    }
  }
  return true;
}

static bool is_share(double share) { return share >= 0 && share < 1; }

static fk_status check_options(const fk_participant_options *options, fk_error *error) {
  if (!options || !options->roster || !options->train || !options->journal.last_round || !options->journal.spend) {
    return fk_fail(error, FK_BAD_ARGUMENT, "a participant needs a roster, a journal and a training");
  }
  if (!is_name(options->client_id)) return fk_fail(error, FK_BAD_ARGUMENT, "a client's name has 1 to 128 characters of UTF-8");
  if (options->roster_size > FK_MAX_CLIENTS) return fk_fail(error, FK_BAD_ARGUMENT, "a roster of %zu", options->roster_size);
  if (!are_helpers(options)) return fk_fail(error, FK_BAD_ARGUMENT, "the split sum takes 1 to %d different helpers", FK_MOST_HELPERS);
  const fk_policy *policy = options->demands ? &options->demands->policy : NULL;
  if (policy && !(is_share(policy->corrupt_share) && is_share(policy->dropout_share) && policy->security_bits > 0 &&
                  policy->correctness_bits > 0 && policy->min_survivors > 0)) {
    return fk_fail(error, FK_BAD_ARGUMENT, "a policy has shares from 0 to below 1, and its bits and minimum above 0");
  }
  return FK_OK;
}

fk_status fk_participant_open(const fk_participant_options *options, fk_participant **participant, fk_error *error) {
  if (!participant) return fk_fail(error, FK_BAD_ARGUMENT, "there is no place for the participant");
  *participant = NULL;
  FK_TRY(check_options(options, error));
  fk_participant *own = calloc(1, sizeof *own);
  if (!own) return fk_no_memory(error);
  fk_status status = fill(own, options, error);
  if (status != FK_OK) {
    fk_participant_close(own);
    return status;
  }
  *participant = own;
  return fk_ok(error);
}

void fk_participant_insecure_draws(fk_participant *participant, fk_random random, fk_uniform uniform) {
  participant->random = random;
  participant->uniform = uniform;
}

static void free_vector(fk_participant *participant, uint32_t *vector) {
  fk_free_secret(vector, (participant->encoder.dim + 1) * sizeof *vector);
}

static void forget_round(fk_participant *participant) {
  if (participant->secagg) {
    fk_secagg_close(participant->secagg);
    free(participant->secagg);
    participant->secagg = NULL;
  }
  free_vector(participant, participant->vector);
  participant->vector = NULL;
}

void fk_participant_close(fk_participant *participant) {
  if (!participant) return;
  forget_round(participant);
  free(participant->client_id);
  free(participant->enrolled);
  free(participant->setup);
  free(participant->words);
  free(participant->seen.names);
  free(participant->goodbye);
  fk_buffer_close(&participant->answer);
  fk_free_secret(participant, sizeof *participant);
}

const char *fk_participant_goodbye(const fk_participant *participant) { return participant ? participant->goodbye : NULL; }

/* ---- the first message ---- */

fk_status fk_participant_sign_nonce(fk_participant *participant, const uint8_t *nonce, size_t nonce_size,
                                    uint8_t signature[64], fk_error *error) {
  if (!participant || !nonce || nonce_size != FK_NONCE_BYTES || !signature) {
    return fk_fail(error, FK_BAD_ARGUMENT, "a server's nonce has %d bytes", FK_NONCE_BYTES);
  }
  fk_buffer proof = {0};
  fk_add_proof(&proof, (fk_bytes){nonce, nonce_size}, participant->client_id);
  fk_status status = proof.failed ? fk_no_memory(error) : FK_OK;
  if (status == FK_OK) status = fk_sign(participant->identity, (fk_bytes){proof.data, proof.size}, signature, error);
  fk_buffer_close(&proof);
  return status == FK_OK ? fk_ok(error) : status;
}

static fk_status check_idle(const fk_participant *participant, fk_error *error) {
  if (!participant->is_at_work) return FK_OK;
  return fk_fail(error, FK_BAD_ARGUMENT, "the participant is at work: a callback must not ask it");
}

/* Hands the answer out. */
static fk_status give(fk_participant *participant, const uint8_t **answer, size_t *answer_size, fk_error *error) {
  if (participant->answer.failed) return fk_no_memory(error);
  *answer = participant->answer.data;
  *answer_size = participant->answer.size;
  return fk_ok(error);
}

fk_status fk_participant_join(fk_participant *participant, const uint8_t *nonce, size_t nonce_size,
                              const uint8_t **answer, size_t *answer_size, fk_error *error) {
  uint8_t signature[FK_SIGNATURE_BYTES];
  if (!answer || !answer_size) return fk_fail(error, FK_BAD_ARGUMENT, "there is no place for the answer");
  *answer = NULL;
  *answer_size = 0;
  FK_TRY(fk_participant_sign_nonce(participant, nonce, nonce_size, signature, error));
  FK_TRY(check_idle(participant, error));
  fk_buffer_close(&participant->answer);
  fk_write_join(&participant->answer, participant->client_id, signature);
  return give(participant, answer, answer_size, error);
}

/* ---- a setup ---- */

static fk_status take_run(fk_participant *participant, const fk_to_client *setup, fk_error *error) {
  fk_settings settings;
  FK_TRY(fk_read_settings(setup->body, setup->words, setup->num_words, &settings, error));
  FK_TRY(fk_check_run(&participant->demands, &settings, participant->sum, participant->num_helpers, error));
  FK_TRY(fk_check_trainable(&settings, error));
  fk_run run;
  fk_encoder encoder;
  fk_error why = {0};
  fk_run_of(&settings, &run);
  if (fk_encoder_init(&encoder, run.clip_norm, run.cohort_size, fk_max_client_weight(&settings), run.num_weights, &why) != FK_OK) {
    return fk_fail(error, FK_DEMAND_REFUSED, "the server's settings can't be trained with: %.200s", why.message);
  }
  if (participant->sum == FK_SUM_SPLIT) {
    FK_TRY(fk_run_name(setup->body, setup->words, setup->num_words, participant->run_name, error));
  }
  participant->num_groups = fk_num_groups(&settings);
  participant->run = run;
  participant->encoder = encoder;
  return FK_OK;
}

/* Keeps the bytes, since the words are views of them. */
static fk_status set_up(fk_participant *participant, fk_bytes message, fk_error *error) {
  if (participant->setup) {
    bool is_same = message.size == participant->setup_size && memcmp(message.data, participant->setup, message.size) == 0;
    if (is_same) return FK_OK;
    return fk_fail(error, FK_RUN_CHANGED, "the server sent another configuration or vocabulary than it began with");
  }
  fk_to_client found = {0};
  uint8_t *copy = malloc(message.size);
  if (!copy) return fk_no_memory(error);
  memcpy(copy, message.data, message.size);
  fk_status status = fk_read_to_client((fk_bytes){copy, message.size}, &found, error);
  if (status == FK_OK) status = take_run(participant, &found, error);
  if (status != FK_OK) {
    free(found.words);
    free(copy);
    return status;
  }
  participant->setup = copy;
  participant->setup_size = message.size;
  participant->words = found.words;
  return FK_OK;
}

/* ---- a plan: training ---- */

static fk_status spend(fk_participant *participant, uint32_t round_num, fk_error *error) {
  const fk_journal *journal = &participant->journal;
  uint32_t last = 0;
  FK_TRY(journal->last_round(journal->context, participant->run.seed, &last, error));
  if (round_num > last) return journal->spend(journal->context, participant->run.seed, round_num, error);
  return fk_fail(error, FK_SESSION_REPLAYED,
                 "round %u came before: this client has answered up to round %u of a run with this seed, and is "
                 "summed once in a round; a new run needs another seed (serve --seed)",
                 round_num, last);
}

static fk_status read_weights(const fk_participant *participant, const fk_to_client *plan, float *weights, fk_error *error) {
  const fk_run *run = &participant->run;
  _Static_assert(sizeof(float) == 4, "float32");
  if (plan->body.size != 4 * run->num_weights) {
    return fk_fail(error, FK_WIRE_ERROR,
                   "round %u: raw must hold %zu bytes for ModelSize(vocabulary_size=%u, embedding_size=%u, num_cells=%u), "
                   "got len(raw)=%zu",
                   plan->round_num, 4 * run->num_weights, run->vocabulary_size, run->embedding_size, run->num_cells,
                   plan->body.size);
  }
  for (size_t i = 0; i < run->num_weights; i += 1) {
    const uint8_t *octets = plan->body.data + 4 * i;
    uint32_t bits = (uint32_t)octets[0] | (uint32_t)octets[1] << 8 | (uint32_t)octets[2] << 16 | (uint32_t)octets[3] << 24;
    memcpy(&weights[i], &bits, sizeof bits);
  }
  return fk_check_plan(&participant->demands, plan->round_num, plan->learning_rate, weights, run->num_weights, error);
}

/* All that a round makes of the text. */
static fk_status train_and_encode(fk_participant *participant, const fk_round *round, fk_trained *trained, uint32_t *vector,
                                  fk_error *error) {
  const fk_run *run = &participant->run;
  FK_TRY(participant->train(participant->train_context, round, trained, error));
  double weight = fk_client_weight(run->weighting, trained->num_tokens, trained->num_examples);
  if (!isfinite(fk_l2_norm(trained->delta, run->num_weights))) {
    /* A server may send weights that overflow for one word only: nothing that leaves here tells whether. */
    memset(trained->delta, 0, run->num_weights * sizeof *trained->delta);
    weight = 0;
  }
  return fk_encode(&participant->encoder, trained->delta, weight, participant->uniform, vector, error);
}

/* The answer to a plan of the split sum. */
static fk_status split(fk_participant *participant, const fk_to_client *plan, uint32_t *vector, fk_buffer *body, fk_error *error) {
  const fk_splitter own = {participant->client_id, participant->identity, (const uint8_t (*)[FK_KEY_BYTES])participant->helpers,
                           participant->num_helpers, participant->demands.policy.min_survivors, participant->last_answered,
                           participant->random};
  fk_told told = {.version = plan->round_num, .num_groups = participant->num_groups};
  fk_error why = {0};
  memcpy(told.run, participant->run_name, sizeof told.run);
  memcpy(told.agreed, participant->agreed, sizeof told.agreed);
  fk_status status = fk_split_mask(&own, plan->terms, vector, participant->encoder.dim + 1, &told, body, &why);
  if (status == FK_OK) participant->last_answered = plan->round_num;
  if (status == FK_OK) return FK_OK;
  if (status != FK_BAD_ARGUMENT) return fk_fail(error, status, "%s", why.message);
  return fk_fail(error, FK_DEMAND_REFUSED, "round %u: the server sums other vectors: %.150s", plan->round_num, why.message);
}

static uint64_t now_ns(void) {
  struct timespec now = {0};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Waits until a whole number of steps after the start, at least one: how long training takes tells how much was typed. */
static void hold(uint64_t started, uint64_t step_ns) {
  uint64_t spent = now_ns() - started;
  uint64_t steps = (spent + step_ns - 1) / step_ns;
  uint64_t left = (steps ? steps : 1) * step_ns - spent;
  struct timespec rest = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
  while (nanosleep(&rest, &rest) != 0 && errno == EINTR) continue;
}

static fk_status train(fk_participant *participant, const fk_to_client *plan, fk_buffer *body, fk_error *error) {
  const fk_run *run = &participant->run;
  size_t num_weights = run->num_weights;
  float *weights = fk_array(num_weights, sizeof *weights), *delta = fk_array(num_weights, sizeof *delta);
  uint32_t *vector = fk_array(num_weights + 1, sizeof *vector);
  fk_status status = weights && delta && vector ? read_weights(participant, plan, weights, error) : fk_no_memory(error);
  if (status == FK_OK) {
    const fk_round round = {run, plan->round_num, plan->learning_rate, weights};
    fk_trained trained = {delta, 0, 0};
    uint64_t started = now_ns();
    status = train_and_encode(participant, &round, &trained, vector, error);
    if (status == FK_OK && participant->sum == FK_SUM_SPLIT) status = split(participant, plan, vector, body, error);
    if (participant->answer_step_ms) hold(started, (uint64_t)participant->answer_step_ms * 1000000u);
  }
  if (status == FK_OK && participant->sum == FK_SUM_SECAGG) participant->vector = vector;
  else free_vector(participant, vector);
  fk_free_secret(delta, num_weights * sizeof *delta);
  free(weights);
  return status;
}

static fk_status take_plan(fk_participant *participant, const fk_to_client *plan, fk_bytes message, fk_buffer *body, fk_error *error) {
  if (!participant->setup) {
    return fk_fail(error, FK_WIRE_ERROR, "round %u: the server has sent no configuration before", plan->round_num);
  }
  fk_bytes setup = {participant->setup, participant->setup_size};
  FK_TRY(fk_agreed_digest(setup, message, participant->agreed, error));
  FK_TRY(fk_check_round(plan->round_num, &participant->run, error));
  forget_round(participant);
  FK_TRY(spend(participant, plan->round_num, error)); /* before anything leaves, or takes a time that could be seen */
  participant->round_num = plan->round_num;
  return train(participant, plan, body, error);
}

/* ---- a step: a message of the protocol ---- */

static fk_status invite(fk_participant *participant, fk_error *error) {
  fk_secagg *client = calloc(1, sizeof *client);
  if (!client) return fk_no_memory(error);
  if (participant->secagg) fk_secagg_close(participant->secagg);
  free(participant->secagg);
  participant->secagg = client;
  *client = (fk_secagg){
      .identity = participant->identity,
      .public_key = participant->public_key,
      .enrolled = {participant->enrolled, participant->num_enrolled},
      .policy = participant->demands.policy,
      .seen = &participant->seen,
      .random = participant->random,
  };
  memcpy(client->agreed, participant->agreed, sizeof client->agreed);
  bool is_smaller = participant->num_enrolled < participant->run.cohort_size;
  client->policy.max_clients = is_smaller ? (uint32_t)participant->num_enrolled : participant->run.cohort_size;
  return FK_OK;
}

static fk_status upload(fk_participant *participant, fk_bytes body, const char *where, fk_buffer *answer, fk_error *error) {
  uint32_t *vector = participant->vector;
  participant->vector = NULL; /* given away once */
  if (!vector) return fk_fail(error, FK_WIRE_ERROR, "%s: the server has sent no plan before", where);
  if (!participant->secagg) {
    free_vector(participant, vector);
    return fk_fail(error, FK_WIRE_ERROR, "%s: the server has sent no invitation before", where);
  }
  fk_error why = {0};
  fk_status status = fk_secagg_mask(participant->secagg, body, vector, participant->encoder.dim + 1, answer, &why);
  free_vector(participant, vector);
  if (status == FK_OK) return FK_OK;
  if (status != FK_BAD_ARGUMENT) return fk_fail(error, status, "%s", why.message);
  return fk_fail(error, FK_DEMAND_REFUSED, "%s: the server sums vectors of another length: %.150s", where, why.message);
}

static bool is_stage(fk_bytes stage, const char *name) {
  return stage.size == strlen(name) && memcmp(stage.data, name, stage.size) == 0;
}

static fk_status answer_stage(fk_participant *participant, const fk_to_client *step, const char *where, fk_buffer *body,
                              fk_error *error) {
  if (participant->sum == FK_SUM_SPLIT) { /* the answer to the plan is all */
    return fk_fail(error, FK_DEMAND_REFUSED, "%s: there is no such stage in the sum 'split'", where);
  }
  if (is_stage(step->text, "upload")) return upload(participant, step->body, where, body, error);
  if (is_stage(step->text, "advertise")) {
    FK_TRY(invite(participant, error));
    return fk_secagg_advertise(participant->secagg, step->body, body, error);
  }
  bool is_shares = is_stage(step->text, "shares"), is_consistency = is_stage(step->text, "consistency");
  if (!is_shares && !is_consistency && !is_stage(step->text, "unmask")) {
    return fk_fail(error, FK_DEMAND_REFUSED, "%s: there is no such stage in the sum 'secagg'", where);
  }
  if (!participant->secagg) return fk_fail(error, FK_WIRE_ERROR, "%s: the server has sent no invitation before", where);
  if (is_shares) return fk_secagg_share(participant->secagg, step->body, body, error);
  if (is_consistency) return fk_secagg_consent(participant->secagg, step->body, body, error);
  return fk_secagg_unmask(participant->secagg, step->body, body, error);
}

static fk_status take_step(fk_participant *participant, const fk_to_client *step, fk_error *error) {
  char where[WHERE_BYTES], stage[SHOWN_BYTES];
  fk_buffer body = {0};
  fk_show(stage, sizeof stage, step->text);
  snprintf(where, sizeof where, "round %u, %s", step->round_num, stage);
  if (!participant->round_num) return fk_fail(error, FK_WIRE_ERROR, "%s: the server has sent no plan before", where);
  if (step->round_num != participant->round_num) {
    return fk_fail(error, FK_WIRE_ERROR, "%s: the server's last plan was for round %u", where, participant->round_num);
  }
  fk_error why = {0};
  fk_status status = answer_stage(participant, step, where, &body, &why);
  if (status == FK_OK) {
    fk_write_answer(&participant->answer, step->round_num, step->text, (fk_bytes){body.data, body.size});
  } else if (status == FK_TOO_FEW_PEERS) { /* happens to an honest server too: not this round */
    forget_round(participant);
    fk_write_decline(&participant->answer, step->round_num, step->text, why.message);
    status = FK_OK;
  } else {
    status = fk_fail(error, status, "%s", why.message);
  }
  fk_buffer_close(&body);
  return status;
}

/* ---- every message ---- */

static fk_status take_goodbye(fk_participant *participant, fk_bytes reason, fk_error *error) {
  fk_buffer line = {0};
  fk_add_as_ascii(&line, reason);
  fk_buffer_add(&line, "", 1);
  if (line.failed) return fk_no_memory(error);
  free(participant->goodbye);
  participant->goodbye = (char *)line.data;
  return FK_OK;
}

static fk_status take(fk_participant *participant, const fk_to_client *found, fk_bytes message, fk_error *error) {
  if (found->kind == FK_GOODBYE) return take_goodbye(participant, found->text, error);
  if (found->kind == FK_SETUP) return set_up(participant, message, error);
  if (found->kind == FK_STEP) return take_step(participant, found, error);
  fk_buffer body = {0};
  fk_status status = take_plan(participant, found, message, &body, error);
  const fk_bytes train_stage = {(const uint8_t *)"train", 5};
  if (status == FK_OK) fk_write_answer(&participant->answer, found->round_num, train_stage, (fk_bytes){body.data, body.size});
  fk_buffer_close(&body);
  return status;
}

fk_status fk_participant_answer(fk_participant *participant, const uint8_t *message, size_t size,
                                const uint8_t **answer, size_t *answer_size, fk_error *error) {
  if (!participant || (!message && size) || !answer || !answer_size) {
    return fk_fail(error, FK_BAD_ARGUMENT, "a participant, a message and a place for the answer are needed");
  }
  *answer = NULL;
  *answer_size = 0;
  FK_TRY(check_idle(participant, error));
  participant->is_at_work = true;
  fk_buffer_close(&participant->answer);
  fk_to_client found;
  fk_bytes whole = {message, size};
  fk_status status = fk_read_to_client(whole, &found, error);
  if (status == FK_OK) status = take(participant, &found, whole, error);
  free(found.words);
  participant->is_at_work = false;
  return status == FK_OK ? give(participant, answer, answer_size, error) : status;
}
