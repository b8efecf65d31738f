/* Taking part in the rounds of a fedkeys server: bytes in, bytes out. The app brings the connection, the training and a
 * place to keep a number; docs/protocol.md describes every byte. Secrets and updates stay in here: only what the
 * protocol sends leaves, masked.
 *
 * A participant keeps no global state. One thread at a time may call it; two participants know nothing of each other,
 * and one client must not take part twice at once. */
#ifndef FK_PROTOCOL_H
#define FK_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fk_error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FK_KEY_BYTES 32
#define FK_NONCE_BYTES 32

/* What the client assumes and insists on in secure aggregation, whatever the server asks for. */
typedef struct {
  double corrupt_share;      /* of the cohort, that may collude with the server, 0..1 */
  double dropout_share;      /* of the cohort, that may vanish, 0..1 */
  uint32_t security_bits;    /* the graph exposes someone with probability below 2**-security_bits */
  uint32_t correctness_bits; /* it fails to recover from drop-outs with probability below 2**-correctness_bits */
  bool semi_malicious;       /* whether the server may lie */
  uint32_t complete_up_to;   /* cohorts up to this size use the complete graph, where nothing is left to chance */
  uint32_t min_survivors;    /* the fewest vectors that may be summed */
  uint32_t max_clients;      /* the largest cohort */
} fk_policy;

/* How updates are summed, and so hidden from the server. The split sum takes one message a round, and helpers whose keys
 * the operator signed: one of them at least must not collude with the server. */
typedef enum { FK_SUM_SECAGG, FK_SUM_SPLIT } fk_sum;

#define FK_MOST_HELPERS 5

/* A client's own limits. */
typedef struct {
  fk_policy policy; /* its min_survivors holds for every sum */
  double max_cohort;        /* clients in a round */
  double max_epochs;        /* passes over the sentences in a round */
  double max_sentences;     /* that a round trains on; one that comes in two epochs counts twice */
  double max_batch_tokens;  /* padding included */
  double max_weights;       /* of the model */
  double max_minutes;       /* of training in a round, at a billion operations a second */
  double max_memory_mib;    /* that training takes */
  double max_magnitude;     /* of a weight that the server sends; larger ones let training overflow at its will */
  double max_learning_rate; /* that it trains with */
} fk_demands;

/* A word of the run's list: UTF-8, not ended by 0. */
typedef struct {
  const char *text;
  size_t size;
} fk_word;

/* What an update counts by in the mean. */
typedef enum { FK_BY_TOKENS, FK_BY_EXAMPLES, FK_EQUALLY } fk_weighting;

/* A run as the server announced it: what training needs of it. The names are those of docs/configuration.md. */
typedef struct {
  uint64_t seed;
  uint32_t num_rounds;
  uint32_t cohort_size;
  uint32_t vocabulary_size; /* of the model: its rows; words beyond them are <unk> */
  uint32_t embedding_size;
  uint32_t num_cells;
  size_t num_weights;
  uint32_t max_words;
  uint32_t max_sentences_train; /* the newest, of all that the client has */
  uint32_t max_sentences;       /* of an epoch */
  uint32_t epochs;
  uint32_t batch_size;
  uint32_t length_buckets;
  double client_clip_norm; /* of a batch's gradient */
  double clip_norm;        /* of the update */
  fk_weighting weighting;
  const fk_word *words; /* num_words; the first four are <pad>, <bos>, <eos>, <unk> */
  size_t num_words;
} fk_run;

/* A round to train in: `weights` holds run->num_weights numbers in the model's order. */
typedef struct {
  const fk_run *run;
  uint32_t round_num;
  double learning_rate;
  const float *weights;
} fk_round;

/* What training gives: num_weights numbers, the weights before minus those after; and what it was trained on. */
typedef struct {
  float *delta; /* set by the library, filled by the callback */
  uint32_t num_tokens;
  uint32_t num_examples;
} fk_trained;

/* Trains; returns FK_OK, or another status, which fk_participant_answer then returns. An update that is not finite is no
 * failure: zeros of weight 0 take its place, since the server could read from a failure what was typed. */
typedef fk_status (*fk_train_fn)(void *context, const fk_round *round, fk_trained *trained, fk_error *error);

/* The rounds that this client answered, by the run's seed, kept as long as its key is: whoever is asked for a round twice
 * could be subtracted from itself. Another process must not hold the same journal. */
typedef struct {
  void *context;
  /* Writes the last round that was spent of a seed; 0 if none was. */
  fk_status (*last_round)(void *context, uint64_t seed, uint32_t *round_num, fk_error *error);
  /* Returns FK_OK only once the round stands in storage that a loss of power does not empty. */
  fk_status (*spend)(void *context, uint64_t seed, uint32_t round_num, fk_error *error);
} fk_journal;

/* A journal in a file of `fedkeys client`, "state/ID.json" beside its keys: whichever of the two takes part, no round is
 * answered twice. Beside the rounds it keeps which rosters were seen. Keep the file as long as the client's key. */
typedef struct fk_journal_file fk_journal_file;
/* Opens the file, or begins one in a folder that is there. It is this journal's alone until it is closed: a lock lies
 * beside it. FK_DAMAGED: it does not say what was answered; restore it, or remove it and take part in new runs only. */
FK_API fk_status fk_journal_file_open(const char *path, fk_journal_file **file, fk_error *error);
FK_API void fk_journal_file_close(fk_journal_file *file); /* NULL is fine */
/* The callbacks of a participant, which must be closed before the file. What they wrote stands on the disk when they
 * return: the file is written whole or not at all, and its folder, too, is brought to the disk. */
FK_API fk_journal fk_journal_file_callbacks(fk_journal_file *file);

/* One who may take part, as the operator's roster names it. */
typedef struct {
  const char *client_id; /* UTF-8 */
  uint8_t public_key[FK_KEY_BYTES];
} fk_enrolled;

/* Who signs the roster: kept from the client's enrolment on. `roster_id` names the operator's folder of keys. */
typedef struct {
  uint8_t key[FK_KEY_BYTES]; /* Ed25519, public */
  uint8_t roster_id[16];
} fk_operator;

/* The newest roster that a client has seen; the number is 0 if it has seen none. */
typedef struct {
  uint32_t number;
  uint8_t digest[32];
} fk_seen_roster;

typedef struct fk_signed_roster fk_signed_roster;

/* Writes which roster of the operator with this fingerprint the journal has seen; the number is 0 if none. */
FK_API fk_status fk_journal_file_seen(fk_journal_file *file, const char fingerprint[33], fk_seen_roster *seen, fk_error *error);
/* Returns FK_OK once it stands on the disk that this roster was seen. Refused if a newer one was. */
FK_API fk_status fk_journal_file_see(fk_journal_file *file, const char fingerprint[33], const fk_seen_roster *seen,
                                     fk_error *error);

/* Writes the 32 hex digits, and a 0, that people and the address of an enrolment hold an operator against. */
FK_API fk_status fk_operator_fingerprint(const fk_operator *signer, char fingerprint[33], fk_error *error);

/* Reads the content of roster.json, and passes one that this operator signed, that is not older than the one that was seen
 * before, and that has this client with this key. What passes is `*seen` from now on: keep it by the operator's
 * fingerprint before you go on, also after FK_NOT_ON_ROSTER, which writes it too. */
FK_API fk_status fk_signed_roster_open(const char *json, size_t size, const fk_operator *signer, const fk_seen_roster *before,
                                       const char *client_id, const uint8_t public_key[FK_KEY_BYTES],
                                       fk_signed_roster **roster, fk_seen_roster *seen, fk_error *error);
FK_API const fk_enrolled *fk_signed_roster_clients(const fk_signed_roster *roster, size_t *count);
FK_API const uint8_t (*fk_signed_roster_helpers(const fk_signed_roster *roster, size_t *count))[FK_KEY_BYTES];
FK_API void fk_signed_roster_close(fk_signed_roster *roster); /* NULL is fine */

typedef struct {
  const char *client_id;         /* this client's name on the roster */
  uint8_t identity[FK_KEY_BYTES]; /* its Ed25519 private key, RFC 8032 */
  const fk_enrolled *roster;     /* all who may take part, this client among them; not the server's copy, if possible */
  size_t roster_size;
  const fk_demands *demands; /* NULL takes those of fk_demands_for */
  fk_journal journal;
  fk_train_fn train;
  void *train_context;
  /* An answer that depends on the text leaves a whole number of steps after the question came, so that its time tells
   * nothing of the text. Take one second, or more where training takes longer; 0 lets the time show. */
  uint32_t answer_step_ms;
  fk_sum sum; /* the only one that it takes part in; 0 is secure aggregation */
  const uint8_t (*helpers)[FK_KEY_BYTES]; /* of the split sum, in their order, from the signed roster */
  size_t num_helpers;
} fk_participant_options;

typedef struct fk_participant fk_participant;

/* Writes the demands of a client on a roster of so many: sums hold two honest vectors, whomever the server invites. */
FK_API fk_status fk_demands_for(size_t num_enrolled, fk_demands *demands, fk_error *error);

/* Copies what it is given but the contexts. FK_KEYS_ERROR: the roster does not name this client, or not with this key. */
FK_API fk_status fk_participant_open(const fk_participant_options *options, fk_participant **participant, fk_error *error);
/* Wipes all secrets. NULL is fine. */
FK_API void fk_participant_close(fk_participant *participant);

/* Writes the first message over a WebSocket, which proves to the server who this client is. The bytes are the
 * participant's, until its next call. */
FK_API fk_status fk_participant_join(fk_participant *participant, const uint8_t *nonce, size_t nonce_size,
                                     const uint8_t **answer, size_t *answer_size, fk_error *error);
/* Writes the signature over the server's nonce that gRPC carries in a header, in place of a first message. */
FK_API fk_status fk_participant_sign_nonce(fk_participant *participant, const uint8_t *nonce, size_t nonce_size,
                                           uint8_t signature[64], fk_error *error);

/* Answers a message of the server. `*answer` is NULL if it wants none; else the bytes are the participant's, until its
 * next call. Trains in the callback where the message is a plan, and waits for the step of answers then.
 *
 * Any other status than FK_OK ends the client's part in the run as far as this connection is concerned: hang up. */
FK_API fk_status fk_participant_answer(fk_participant *participant, const uint8_t *message, size_t size,
                                       const uint8_t **answer, size_t *answer_size, fk_error *error);
/* Why the server let the client go, as one line of ASCII; NULL while it has not. */
FK_API const char *fk_participant_goodbye(const fk_participant *participant);

#ifdef __cplusplus
}
#endif

#endif
