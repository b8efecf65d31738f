/* How every call of libfedkeys ends: FK_OK, or a reason that a program can tell from the others, with one line of text
 * for people. Nothing ends the process, prints, or keeps an error for a later call. */
#ifndef FK_ERROR_H
#define FK_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* On each call that an app may make; the library is compiled with everything else hidden. */
#define FK_API __attribute__((visibility("default")))

typedef enum {
  FK_OK = 0,
  FK_BAD_ARGUMENT, /* a value that the caller passed can't be */
  FK_NO_MEMORY,    /* an allocation failed */
  FK_IO,           /* a file can't be read or written */
  FK_DAMAGED,      /* bytes are not what their format says */
  FK_UNSUPPORTED,  /* a version, a size or a kind that this library does not read */
  FK_UNTRUSTED,    /* a digest or a signature is not the expected one */
  FK_CRYPTO,       /* libcrypto failed */
  FK_RUNTIME,      /* LiteRT failed, or is not there */
  FK_DIFFERS,      /* the self-test came to other numbers than TensorFlow did */
  /* What a participant of rounds refuses; see fk_protocol.h. Whoever hears one of them hangs up. */
  FK_WIRE_ERROR,         /* the bytes are no message of this protocol and version, or come out of turn */
  FK_UNEXPECTED_MESSAGE, /* a message of secure aggregation that is not the next one, or is for someone else */
  FK_SESSION_REPLAYED,   /* the client was in this session before, or has answered this round */
  FK_WEAK_PARAMETERS,    /* the cohort, degree, threshold or minimum is not what the client's own policy asks for */
  FK_ROSTER_REFUSED,     /* a neighbour's keys are forged, repeated or unknown */
  FK_SHARES_REFUSED,     /* shares from someone who is not a neighbour */
  FK_SURVIVORS_REFUSED,  /* survivors without the client itself, or with peers that never shared */
  FK_SPLIT_VIEW,         /* peers did not sign the survivors that this client received */
  FK_ALIVE_AND_DEAD,     /* the server asks for both secrets of one peer, or for the wrong one */
  FK_TOO_FEW_PEERS,      /* fewer peers than the threshold: the participant declines the round by itself */
  FK_RUN_CHANGED,        /* the server goes on with other settings or words than it began with */
  FK_DEMAND_REFUSED,     /* the server asks for another sum, or for more work, than the client takes part in */
  FK_KEYS_ERROR,         /* the client's own key does not fit the roster, or the roster is damaged */
  FK_MALFORMED_MESSAGE,  /* the terms of the split sum are none */
  FK_FOREIGN_ROUND,      /* they are of another run, round or model */
  FK_FOREIGN_HELPER,     /* they are for other helpers than the client knows */
  FK_BELOW_THRESHOLD,    /* the sum would be of fewer vectors than the client insists on */
  FK_ROUND_ANSWERED,     /* the client has sent a vector for this round before */
  FK_UNSIGNED_ROSTER,    /* the roster bears no signature */
  FK_FOREIGN_ROSTER,     /* it is of another folder of keys than the one that the client is enrolled with */
  FK_FORGED_ROSTER,      /* it was changed, or somebody else than the operator signed it */
  FK_OLD_ROSTER,         /* the client has seen a newer one */
  FK_FORKED_ROSTER,      /* the client has seen another one of the same number */
  FK_NOT_ON_ROSTER,      /* the client is not on it, or with another key */
} fk_status;

/* What went wrong, for a log: one line, in UTF-8, that names the file or the value. It is empty after FK_OK. */
typedef struct {
  fk_status status;
  char message[256]; /* ends in 0; a longer line is cut */
} fk_error;

/* The status as a word, "FK_DAMAGED"; "?" for a number that is none. */
FK_API const char *fk_status_name(fk_status status);

#ifdef __cplusplus
}
#endif

#endif
