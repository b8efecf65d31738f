/* What the files of the protocol's client share. Not for apps. Over 300 lines, by a part for each of those files. */
#ifndef FK_PROTOCOL_PARTS_H
#define FK_PROTOCOL_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fk_fail.h"
#include "fk_protocol.h"
#include "fk_values.h"

#define FK_SESSION_BYTES 32
#define FK_SIGNATURE_BYTES 64
#define FK_SHARE_BYTES 33
#define FK_SEAL_NONCE_BYTES 12
#define FK_SEALED_BYTES (2 * FK_SHARE_BYTES + FK_SEAL_NONCE_BYTES + 16)
#define FK_TAG_BYTES 16
#define FK_MAX_CLIENTS (1u << 20)
#define FK_MAX_BYTES (1u << 28) /* of a message from the server: a model of 64 million weights */

/* Bytes of somebody else: a view. */
typedef struct {
  const uint8_t *data;
  size_t size;
} fk_bytes;

/* All bytes of an array. */
#define FK_VIEW(array) ((fk_bytes){(array), sizeof(array)})

/* fk_buffer.c */

/* Bytes that grow. After an allocation has failed it stays as it is, and says so. */
typedef struct {
  uint8_t *data;
  size_t size, capacity;
  bool failed;
} fk_buffer;

void fk_buffer_add(fk_buffer *buffer, const void *data, size_t size);
void fk_buffer_add_text(fk_buffer *buffer, const char *text); /* without its 0 */
void fk_buffer_add_uint32(fk_buffer *buffer, uint32_t value); /* big-endian */
void fk_buffer_close(fk_buffer *buffer);                      /* wipes and frees */
fk_status fk_no_memory(fk_error *error);
/* calloc, which returns no NULL for an empty array. */
void *fk_array(size_t count, size_t size);
void fk_wipe(void *memory, size_t size);
void fk_free_secret(void *memory, size_t size); /* wipes and frees */

/* fk_utf8.c */

/* Reads one character of UTF-8; 0 if there is none, else the number of its bytes. */
size_t fk_utf8_next(const uint8_t *data, size_t size, uint32_t *code);
/* Counts the characters; false if the bytes are no UTF-8. */
bool fk_utf8_count(fk_bytes text, size_t *count);
/* Writes a text of somebody else as ASCII on one line, ended by 0 and cut where it must be. */
void fk_show(char *out, size_t capacity, fk_bytes text);
/* Adds a text that somebody else wrote as ASCII on one line: everything else is written out, as \n, \xe9, \u202e. */
void fk_add_as_ascii(fk_buffer *buffer, fk_bytes text);
/* Whether a word could not stand in a list of words: it is empty, or holds white space, as Python's str.split sees it. */
bool fk_is_no_word(fk_bytes word);

/* fk_msgpack.c */

/* Reads values one after the other. The first that is malformed makes the reader bad, and all others zeros. */
typedef struct {
  const uint8_t *data;
  size_t size, at;
  bool bad;
} fk_reader;

size_t fk_read_array(fk_reader *reader);
/* Reads the length of a list whose items take so many bytes at least: at most 2**20, and what the message can hold. */
size_t fk_read_list(fk_reader *reader, size_t least_item_bytes);
fk_bytes fk_read_bytes(fk_reader *reader, size_t least, size_t most);
fk_bytes fk_read_text(fk_reader *reader, size_t least, size_t most); /* UTF-8, so many characters */
uint32_t fk_read_uint(fk_reader *reader, uint32_t least, uint32_t most);
double fk_read_float(fk_reader *reader); /* an integer counts as one */
/* Reads a message's tag and the number of its fields; bad if it is another message. */
size_t fk_read_message(fk_reader *reader, const char *tag, size_t least_fields, size_t most_fields);
bool fk_read_end(fk_reader *reader); /* whether all was well, and nothing is left */

void fk_write_array(fk_buffer *buffer, size_t length);
void fk_write_bytes(fk_buffer *buffer, const void *data, size_t size);
void fk_write_text(fk_buffer *buffer, fk_bytes text);
void fk_write_words(fk_buffer *buffer, const uint32_t *words, size_t count); /* as bytes, little-endian */
void fk_write_uint(fk_buffer *buffer, uint32_t value);
void fk_write_message(fk_buffer *buffer, const char *tag, size_t num_fields);

/* fk_crypto.c: libcrypto, as bytes in and bytes out */

/* Draws secret bytes. A test may hand in its own; everything else takes fk_random_bytes. */
typedef struct {
  fk_status (*draw)(void *context, void *out, size_t size, fk_error *error);
  void *context;
} fk_random;

fk_status fk_random_bytes(void *context, void *out, size_t size, fk_error *error);
fk_status fk_sha256(const fk_bytes *parts, size_t count, uint8_t digest[32], fk_error *error);
/* HKDF-SHA256 (RFC 5869) without salt: the secret is uniform or a Diffie-Hellman value. */
fk_status fk_hmac(fk_bytes key, fk_bytes data, uint8_t mac[32], fk_error *error); /* HMAC-SHA256 */
fk_status fk_derive(const uint8_t secret[32], fk_bytes info, uint8_t derived[32], fk_error *error);
fk_status fk_x25519_public(const uint8_t private_key[32], uint8_t public_key[32], fk_error *error);
/* FK_ROSTER_REFUSED where anyone knows the shared value, or where the public key is another's in a second writing. */
fk_status fk_x25519(const uint8_t private_key[32], const uint8_t public_key[32], uint8_t shared[32], fk_error *error);
fk_status fk_ed25519_public(const uint8_t private_key[32], uint8_t public_key[32], fk_error *error);
fk_status fk_sign(const uint8_t private_key[32], fk_bytes body, uint8_t signature[64], fk_error *error);
fk_status fk_is_signed(const uint8_t *signature, const uint8_t public_key[32], fk_bytes body, bool *is_signed, fk_error *error);
/* fk_signed_roster.c: reads a string of hex digits, in small letters. */
bool fk_read_hex(fk_value value, uint8_t *bytes, size_t size);
bool fk_has_small_order(const uint8_t public_key[32]);
/* AES-128-GCM, as fk_seal. */
fk_status fk_seal_128(const uint8_t key[16], const uint8_t nonce[12], fk_bytes bound, fk_bytes plain, uint8_t *sealed, fk_error *error);
/* AES-256-GCM: ciphertext, then a tag of 16 bytes. */
fk_status fk_seal(const uint8_t key[32], const uint8_t nonce[12], fk_bytes bound, fk_bytes plain, uint8_t *sealed, fk_error *error);
fk_status fk_unseal(const uint8_t key[32], const uint8_t nonce[12], fk_bytes bound, fk_bytes sealed, uint8_t *plain,
                    bool *is_open, fk_error *error);

/* fk_masks.c */

/* Adds the AES-128-CTR key stream of a seed (key, then first counter block) to the words modulo 2**32, or subtracts it. */
fk_status fk_add_mask(uint32_t *words, size_t count, const uint8_t seed[32], bool subtract, fk_error *error);

/* fk_shamir.c */

/* Writes a share of 33 bytes for each point; any `threshold` of them give the secret back. Points are 1..2**20, distinct. */
fk_status fk_split_secret(const uint8_t secret[32], uint32_t threshold, const uint32_t *points, size_t count,
                          fk_random random, uint8_t *shares, fk_error *error);

/* fk_graph.c */

typedef struct {
  uint32_t num_clients, degree, threshold;
} fk_graph;

fk_policy fk_default_policy(void);
/* FK_WEAK_PARAMETERS: no graph of so many satisfies the policy. */
fk_status fk_graph_for(uint32_t num_clients, const fk_policy *policy, fk_graph *graph, fk_error *error);
bool fk_is_complete(const fk_graph *graph);
uint32_t fk_fewest_survivors(size_t num_enrolled, double corrupt_share);

/* fk_encoder.c */

/* The draws of stochastic rounding, uniform in 0..1: not a source of secrets. */
typedef struct {
  fk_status (*float32s)(void *context, float *out, size_t count, fk_error *error);
  fk_status (*float64)(void *context, double *out, fk_error *error);
  void *context;
} fk_uniform;

typedef struct {
  double clip_norm, max_weight, step, weight_scale;
  size_t dim; /* the vector has dim + 1 words, of which the last is the weight */
  uint32_t bits;
} fk_encoder;

fk_uniform fk_secure_uniform(void);
fk_status fk_encoder_init(fk_encoder *encoder, double clip_norm, uint32_t num_clients, double max_weight, size_t dim,
                          fk_error *error);
fk_status fk_encode(const fk_encoder *encoder, const float *delta, double weight, fk_uniform uniform, uint32_t *vector,
                    fk_error *error);
double fk_l2_norm(const float *values, size_t count); /* infinity if one is none or infinite */

/* fk_settings.c */

typedef enum { FK_INT, FK_FLOAT, FK_BOOL, FK_TEXT } fk_setting_kind;

typedef struct {
  const char *section, *name;
  fk_setting_kind kind;
  double least, most;
  bool above_least, below_most; /* whether the limits themselves are out */
  size_t least_size;            /* of a text, in characters */
  const char *const *one_of;    /* NULL, or texts up to a NULL */
  double usual;                 /* the default of a number or a truth value */
} fk_setting;

/* What the client reads of a run; numbers of any size until they were checked. */
#define FK_MOST_SETTINGS 160
typedef struct {
  uint64_t seed;
  double values[FK_MOST_SETTINGS]; /* by the enum of edge/conformance/settings.h; of a text the place in one_of */
  double vocabulary_size;          /* rows of the model */
  const fk_word *words;
  size_t num_words;
} fk_settings;

/* Reads a run's configuration. FK_WIRE_ERROR: it is none of this version. FK_DEMAND_REFUSED: two settings contradict each
 * other, or ask for what this client does not do. */
fk_status fk_read_settings(fk_bytes config, const fk_word *words, size_t num_words, fk_settings *settings, fk_error *error);
/* What of a setting enters the name of a run; texts as Python writes them in JSON. */
typedef struct {
  const char *section, *name, *usual;
  bool section_is_left_out, is_left_out; /* where all of the section, or this one, has its default */
  const char *left_out_at, *replaced;    /* or NULL */
} fk_naming;

/* Writes the 32 bytes that name a run in the split sum. FK_WIRE_ERROR: its settings are not written as Python writes them. */
fk_status fk_run_name(fk_bytes config, const fk_word *words, size_t num_words, uint8_t name[32], fk_error *error);

bool fk_is_integer(fk_value number); /* whether a number of JSON is written as one */
bool fk_read_seed(fk_value value, uint64_t *seed); /* reads a number below 2**63 to its last digit */
double fk_setting_default(size_t place);
const char *fk_setting_text(const fk_settings *settings, size_t place); /* of one that is one of several */
double fk_num_weights(const fk_settings *settings);
double fk_most_sentences(const fk_settings *settings); /* that a round trains on; one that comes twice counts twice */
/* FK_DEMAND_REFUSED: the model is larger than what fedkeys itself trains. */
fk_status fk_check_trainable(const fk_settings *settings, fk_error *error);
/* Writes what the app and the client go on with; after all checks. */
void fk_run_of(const fk_settings *settings, fk_run *run);
double fk_max_client_weight(const fk_settings *settings);
double fk_client_weight(fk_weighting weighting, double num_tokens, double num_examples);

/* fk_demands.c */

fk_status fk_check_run(const fk_demands *demands, const fk_settings *settings, fk_sum sum, size_t num_helpers, fk_error *error);
uint32_t fk_num_groups(const fk_settings *settings); /* how many sums a round has */
fk_status fk_check_round(uint32_t round_num, const fk_run *run, fk_error *error);
fk_status fk_check_plan(const fk_demands *demands, uint32_t round_num, double rate, const float *weights, size_t count,
                        fk_error *error);

/* fk_secagg_messages.c: views of the bytes that they were read from */

typedef struct {
  const uint8_t *nonce;
  uint32_t round_num, recipient, num_clients, degree, threshold, min_survivors, num_slots;
} fk_invitation;

typedef struct {
  uint32_t index;
  const uint8_t *identity, *channel_key, *mask_key, *signature;
} fk_credentials;

typedef struct {
  const uint8_t *session;
  uint32_t recipient;
  fk_credentials *peers;
  size_t count;
} fk_roster;

typedef struct {
  uint32_t sender;
  const uint8_t *sealed; /* FK_SEALED_BYTES of a share, FK_SIGNATURE_BYTES of a consent */
} fk_delivered;

typedef struct {
  const uint8_t *session;
  uint32_t recipient;
  fk_delivered *shares;
  size_t count;
} fk_delivery;

typedef struct {
  const uint8_t *session;
  uint32_t recipient;
  fk_bytes alive;
} fk_survivors;

typedef struct {
  const uint8_t *session;
  uint32_t recipient;
  fk_delivered *consents;
  size_t num_consents;
  uint32_t *alive, *dead;
  size_t num_alive, num_dead;
} fk_unmask_request;

fk_status fk_read_invitation(fk_bytes wire, fk_invitation *found, fk_error *error);
/* The lists of the next ones are the caller's to free, also after a refusal. */
fk_status fk_read_roster(fk_bytes wire, fk_roster *found, fk_error *error);
fk_status fk_read_delivery(fk_bytes wire, fk_delivery *found, fk_error *error);
fk_status fk_read_survivors(fk_bytes wire, fk_survivors *found, fk_error *error);
fk_status fk_read_unmask_request(fk_bytes wire, fk_unmask_request *found, fk_error *error);

/* fk_secagg_keys.c: each value names its purpose, its session and its parties */

/* Adds the bytes that bind a value: purpose, session, then one party or two. */
void fk_add_context(fk_buffer *buffer, const char *purpose, const uint8_t session[32], const uint32_t *parties, size_t count);
fk_status fk_session_of(const fk_invitation *invitation, uint8_t session[32], fk_error *error);
/* `everyone` may come in any order and is sorted; on a drawn graph it is empty. */
fk_status fk_bound_session(const uint8_t session[32], fk_bytes agreed, fk_credentials *everyone, size_t count,
                           uint8_t bound[32], fk_error *error);
fk_status fk_pair_mask_seed(const uint8_t shared[32], const uint8_t session[32], uint32_t one, uint32_t other,
                            uint8_t seed[32], fk_error *error);
/* `purpose`: "self mask", or "self mask commitment" */
fk_status fk_of_self_mask(const char *purpose, const uint8_t secret[32], const uint8_t session[32], uint32_t owner,
                          uint8_t derived[32], fk_error *error);
fk_status fk_share_tag(const uint8_t share[FK_SHARE_BYTES], const uint8_t session[32], uint32_t owner, uint32_t holder,
                       uint8_t tag[FK_TAG_BYTES], fk_error *error);
fk_status fk_seal_shares(const uint8_t plain[2 * FK_SHARE_BYTES], const uint8_t channel[32], const uint8_t session[32],
                         uint32_t sender, uint32_t to, const uint8_t nonce[FK_SEAL_NONCE_BYTES],
                         uint8_t sealed[FK_SEALED_BYTES], fk_error *error);
fk_status fk_unseal_shares(const uint8_t sealed[FK_SEALED_BYTES], const uint8_t channel[32], const uint8_t session[32],
                           uint32_t sender, uint32_t to, uint8_t plain[2 * FK_SHARE_BYTES], bool *is_open, fk_error *error);
fk_status fk_sign_as(const uint8_t identity[32], const char *purpose, const uint8_t session[32], uint32_t sender,
                     fk_bytes body, uint8_t signature[64], fk_error *error);
fk_status fk_is_signed_by(const uint8_t *signature, const uint8_t identity[32], const char *purpose,
                          const uint8_t session[32], uint32_t sender, fk_bytes body, bool *is_signed, fk_error *error);

/* fk_refusals.c: every check between a message and its answer */

/* What the client keeps of a neighbour. Freed memory of it is wiped. */
typedef struct {
  uint32_t index;
  bool has_shared, is_open, is_alive;
  uint8_t identity[32];
  uint8_t channel[32]; /* the Diffie-Hellman value that seals both ways derive from */
  uint8_t mask_seed[32];
  uint8_t shares[2 * FK_SHARE_BYTES]; /* what it sealed for this client: of its self mask, of its mask key */
} fk_neighbour;

/* The neighbours, in the roster's order, and the place of each number of the cohort among them. */
typedef struct {
  fk_neighbour *list;
  size_t count;
  int32_t *place; /* -1: no neighbour */
  uint32_t num_clients;
} fk_neighbours;

/* Public keys of 32 bytes, one behind the other, sorted. */
typedef struct {
  const uint8_t *keys;
  size_t count;
} fk_key_set;

bool fk_has_key(fk_key_set set, const uint8_t key[32]);
fk_neighbour *fk_find(const fk_neighbours *neighbours, uint32_t index);
fk_status fk_check_invitation(const fk_invitation *invitation, const fk_policy *policy, fk_graph *graph, fk_error *error);
fk_status fk_check_roster(const fk_roster *roster, const fk_credentials *own, fk_key_set enrolled, const fk_graph *graph,
                          fk_error *error);
/* Marks the neighbours whose shares arrived. */
fk_status fk_check_senders(const fk_delivery *delivery, const fk_neighbours *neighbours, fk_error *error);
/* Marks the neighbours that survive. */
fk_status fk_check_survivors(const fk_survivors *survivors, const fk_neighbours *neighbours, const fk_graph *graph,
                             uint32_t min_survivors, fk_error *error);
fk_status fk_check_request(const fk_unmask_request *request, const fk_neighbours *neighbours, const uint8_t bound[32],
                           fk_bytes bitmap, const fk_graph *graph, fk_error *error);
fk_status fk_require_threshold(size_t count, const char *what, const fk_graph *graph, fk_error *error);

/* fk_secagg.c */

/* The message that the client waits for. */
typedef enum {
  FK_AWAITS_INVITATION,
  FK_AWAITS_ROSTER,
  FK_AWAITS_DELIVERY,
  FK_AWAITS_SURVIVORS,
  FK_AWAITS_REQUEST,
  FK_HAS_UNMASKED,
  FK_HAS_REFUSED,
} fk_secagg_state;

/* The sessions that this device has joined. */
typedef struct {
  uint8_t *names; /* 32 bytes each */
  size_t count, capacity;
} fk_seen_sessions;

/* One client in one session. What stands before `state` must be set; all else begins as zeros. */
typedef struct {
  const uint8_t *identity; /* the Ed25519 private key of 32 bytes */
  const uint8_t *public_key;
  fk_key_set enrolled;
  fk_policy policy;
  fk_seen_sessions *seen;
  uint8_t agreed[32]; /* a digest of what all clients of the session must have heard */
  fk_random random;
  fk_secagg_state state;
  fk_invitation invitation; /* its nonce is not kept */
  fk_graph graph;
  uint8_t session[32], bound[32];
  uint8_t channel_private[32], mask_private[32], secret[32];
  uint8_t channel_public[32], mask_public[32], signature[64];
  fk_neighbours neighbours;
  fk_buffer bitmap;
} fk_secagg;

/* Each adds the answer to a message to `answer`. A refusal closes the session: the client forgets its secrets. */
fk_status fk_secagg_advertise(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error);
fk_status fk_secagg_share(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error);
/* Masks the vector in place. FK_BAD_ARGUMENT: it is not of the session's length. */
fk_status fk_secagg_mask(fk_secagg *client, fk_bytes wire, uint32_t *vector, size_t count, fk_buffer *answer, fk_error *error);
fk_status fk_secagg_consent(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error);
fk_status fk_secagg_unmask(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error);
void fk_secagg_close(fk_secagg *client); /* wipes */

/* fk_messages.c */

typedef enum { FK_SETUP, FK_PLAN, FK_STEP, FK_GOODBYE } fk_to_client_kind;

typedef struct {
  fk_to_client_kind kind;
  uint32_t round_num;   /* of a plan or a step */
  double learning_rate; /* of a plan */
  fk_bytes terms;       /* of a plan, in the split sum */
  fk_bytes body;        /* a setup's configuration, a plan's weights, a step's message */
  fk_bytes text;        /* a step's stage, a goodbye's reason */
  fk_word *words;       /* a setup's; the caller's to free, also after a refusal */
  size_t num_words;
} fk_to_client;

fk_status fk_read_to_client(fk_bytes wire, fk_to_client *found, fk_error *error);
void fk_write_join(fk_buffer *buffer, const char *client_id, const uint8_t signature[64]);
void fk_write_answer(fk_buffer *buffer, uint32_t round_num, fk_bytes stage, fk_bytes body);
void fk_write_decline(fk_buffer *buffer, uint32_t round_num, fk_bytes stage, const char *reason);
fk_status fk_agreed_digest(fk_bytes setup, fk_bytes plan, uint8_t digest[32], fk_error *error);
void fk_add_proof(fk_buffer *buffer, fk_bytes nonce, const char *client_id);

/* fk_hpke.c */

#define FK_SEED_BYTES 32
#define FK_SEALED_SEED_BYTES (FK_KEY_BYTES + FK_SEED_BYTES + 16)

/* Seals a seed for the holder of a public key: ephemeral public key, ciphertext, tag (RFC 9180, base mode). */
fk_status fk_seal_seed(const uint8_t public_key[32], fk_bytes info, const uint8_t seed[FK_SEED_BYTES], fk_bytes bound,
                       fk_random random, uint8_t sealed[FK_SEALED_SEED_BYTES], fk_error *error);

/* fk_split.c */

/* What a client was told of a round, apart from the terms, and holds them against. */
typedef struct {
  uint8_t run[32];
  uint32_t version; /* the round whose weights it began with */
  uint8_t agreed[32];
  uint32_t num_groups;
} fk_told;

/* Who masks, for whom, and on what it insists. */
typedef struct {
  const char *client_id;
  const uint8_t *identity;
  const uint8_t (*helpers)[FK_KEY_BYTES];
  size_t num_helpers;
  uint32_t min_contributions;
  uint32_t last_answered; /* the last round that it has sent a vector for */
  fk_random random;
} fk_splitter;

/* Adds the upload that answers the terms to `answer`; masks the vector in place. FK_BAD_ARGUMENT: it has another length. */
fk_status fk_split_mask(const fk_splitter *client, fk_bytes terms, uint32_t *vector, size_t count, const fk_told *told,
                        fk_buffer *answer, fk_error *error);

/* fk_participant.c */

/* Of tests alone: recorded draws in place of the operating system's. */
void fk_participant_insecure_draws(fk_participant *participant, fk_random random, fk_uniform uniform);

#endif
