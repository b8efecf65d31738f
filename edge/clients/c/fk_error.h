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
  FK_REFUSED,      /* a message is well-formed, and breaks the protocol's rules or what this client insists on */
  FK_CRYPTO,       /* libcrypto failed */
  FK_RUNTIME,      /* LiteRT failed, or is not there */
  FK_DIFFERS,      /* the self-test came to other numbers than TensorFlow did */
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
