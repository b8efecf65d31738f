/* Questions to a participant. Its training and its journal are the asker's: they come back as questions of ours. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define IS(text) (strcmp(name, (text)) == 0)

static fk_participant *participant;
static recorded draws;
static rounding rounded;

void participant_end(void) {
  fk_participant_close(participant);
  free(draws.left);
  free(rounded.float32s);
  participant = NULL;
  draws = (recorded){0};
  rounded = (rounding){0};
}

/* Asks back: what was said before stands in the reply. */
static frame ask_back(void) {
  frame found;
  reply_send();
  if (!frame_read(&found)) give_up("no reply to a question of ours");
  return found;
}

/* The library's allocations fail, and not those of a callback. */
static long paused(void) {
  long left = allocations_left;
  allocations_left = 0;
  return left;
}

static fk_status ended(const frame *said, fk_error *error) {
  bool holds = field(said, 0).size == 2; /* "ok" */
  return holds ? FK_OK : fk_fail(error, FK_IO, "%.*s", (int)field(said, 0).size, (const char *)field(said, 0).data);
}

static fk_status last_round(void *context, uint64_t seed, uint32_t *round_num, fk_error *error) {
  (void)context;
  long left = paused();
  reply_begin("last_round");
  reply_add_uint64(seed);
  frame said = ask_back();
  fk_status status = ended(&said, error);
  if (status == FK_OK) *round_num = uint_field(&said, 1);
  frame_free(&said);
  allocations_left = left;
  return status;
}

static fk_status spend(void *context, uint64_t seed, uint32_t round_num, fk_error *error) {
  (void)context;
  long left = paused();
  reply_begin("spend");
  reply_add_uint64(seed);
  reply_add_number(round_num);
  frame said = ask_back();
  fk_status status = ended(&said, error);
  frame_free(&said);
  allocations_left = left;
  return status;
}

static fk_status train(void *context, const fk_round *round, fk_trained *trained, fk_error *error) {
  (void)context;
  long left = paused();
  const uint8_t *answer;
  size_t size;
  if (fk_participant_answer(participant, (const uint8_t *)"", 1, &answer, &size, NULL) != FK_BAD_ARGUMENT) {
    give_up("a participant that is asked by its own callback");
  }
  reply_begin("train");
  reply_add_number(round->round_num);
  reply_add_number(round->learning_rate);
  reply_add(round->weights, round->run->num_weights * sizeof *round->weights);
  frame said = ask_back();
  fk_status status = ended(&said, error);
  if (status == FK_OK) {
    memcpy(trained->delta, field_of(&said, 1, round->run->num_weights * sizeof *trained->delta), field(&said, 1).size);
    trained->num_tokens = uint_field(&said, 2);
    trained->num_examples = uint_field(&said, 3);
    recorded kept = record(field(&said, 4));
    free(rounded.float32s);
    rounded = (rounding){kept.left, kept.size, 0, number_field(&said, 5)};
  }
  frame_free(&said);
  allocations_left = left;
  return status;
}

#define MOST_ENROLLED 1024

/* Reads a roster: for each client the length of its name, its name and its key. */
static size_t read_roster(fk_bytes field, fk_enrolled *roster) {
  size_t count = 0;
  for (size_t at = 0; at < field.size; count += 1) {
    size_t size = field.data[at];
    char *name = malloc(size + 1);
    if (!name || count == MOST_ENROLLED || at + 1 + size + 32 > field.size) give_up("a roster that is none");
    memcpy(name, field.data + at + 1, size);
    name[size] = 0;
    roster[count].client_id = name;
    memcpy(roster[count].public_key, field.data + at + 1 + size, 32);
    at += 1 + size + 32;
  }
  return count;
}

/* Keys of helpers, one behind the other: with any, the participant takes part in the split sum. Kept for the next one. */
static uint8_t helpers[FK_MOST_HELPERS][FK_KEY_BYTES];
static size_t num_helpers;

static fk_status know_helpers(const frame *asked) {
  fk_bytes keys = field(asked, 1);
  if (keys.size > sizeof helpers) give_up("too many helpers");
  memcpy(helpers, keys.data, keys.size);
  num_helpers = keys.size / FK_KEY_BYTES;
  return FK_OK;
}

/* Fields: name, identity, roster, step in ms, draws ("rounding": the operating system's, but for those of rounding), and
 * then the demands that are not the usual ones. */
static fk_status begin(const frame *asked, fk_error *error) {
  static fk_enrolled roster[MOST_ENROLLED];
  fk_demands demands;
  size_t count = read_roster(field(asked, 3), roster);
  char *client_id = text_field(asked, 1);
  fk_participant_options options = {
      .client_id = client_id,
      .roster = roster,
      .roster_size = count,
      .journal = {NULL, last_round, spend},
      .train = train,
      .answer_step_ms = uint_field(asked, 4),
      .sum = num_helpers ? FK_SUM_SPLIT : FK_SUM_SECAGG,
      .helpers = (const uint8_t (*)[FK_KEY_BYTES])helpers,
      .num_helpers = num_helpers,
  };
  journal_callbacks(&options.journal);
  participant_end();
  memcpy(options.identity, field_of(asked, 2, 32), 32);
  if (asked->count > 6) {
    demands = (fk_demands){policy_field(asked, 6),      number_field(asked, 14), number_field(asked, 15),
                           number_field(asked, 16),     number_field(asked, 17), number_field(asked, 18),
                           number_field(asked, 19),     number_field(asked, 20), number_field(asked, 21),
                           number_field(asked, 22)};
    options.demands = &demands;
  }
  fk_status status = fk_participant_open(&options, &participant, error);
  for (size_t i = 0; i < count; i += 1) free((void *)(uintptr_t)roster[i].client_id);
  free(client_id);
  fk_bytes recorded_draws = field(asked, 5);
  bool is_rounding = recorded_draws.size == 8 && memcmp(recorded_draws.data, "rounding", 8) == 0;
  if (status == FK_OK && recorded_draws.size) {
    if (!is_rounding) draws = record(recorded_draws);
    fk_participant_insecure_draws(participant, (fk_random){replay, &draws}, rounding_of(&rounded));
  }
  return status;
}

static fk_status answer_to(const frame *asked, fk_error *error) {
  fk_bytes message = field(asked, 1);
  uint8_t *exact = malloc(message.size ? message.size : 1); /* of its very length: a sanitizer sees a byte too far */
  const uint8_t *answer;
  size_t size;
  if (!exact) give_up("out of memory");
  memcpy(exact, message.data, message.size);
  allocations_left = asked->count > 2 ? (long)uint_field(asked, 2) : 0;
  fk_status status = fk_participant_answer(participant, exact, message.size, &answer, &size, error);
  bool was_starved = paused() == 0 && asked->count > 2 && uint_field(asked, 2) > 0;
  free(exact);
  if (status != FK_OK && (answer || size)) give_up("a refusal with an answer");
  const char *goodbye = fk_participant_goodbye(participant);
  reply_begin("ok");
  reply_add_number(answer != NULL);
  reply_add(answer, size);
  reply_add_text(goodbye ? goodbye : "");
  reply_add_number(was_starved);
  return status;
}

static fk_status join(const frame *asked, fk_error *error) {
  const uint8_t *answer;
  size_t size;
  uint8_t signature[64];
  fk_bytes nonce = field(asked, 1);
  FK_TRY(fk_participant_join(participant, nonce.data, nonce.size, &answer, &size, error));
  reply_add(answer, size);
  FK_TRY(fk_participant_sign_nonce(participant, nonce.data, nonce.size, signature, error));
  reply_add(signature, sizeof signature);
  return FK_OK;
}

bool participant_part(const char *name, const frame *asked) {
  fk_error error = {0};
  fk_status status;
  if (IS("participant")) status = begin(asked, &error);
  else if (IS("helpers")) status = know_helpers(asked);
  else if (IS("answer")) status = answer_to(asked, &error);
  else if (IS("join")) status = join(asked, &error);
  else return false;
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
