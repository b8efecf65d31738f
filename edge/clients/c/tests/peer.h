/* The parts of the tests' peer. */
#ifndef PEER_H
#define PEER_H

#include "frames.h"

/* Answers what it is asked; false if the question is none of this part's. */
bool primitives_part(const char *name, const frame *asked);
bool secagg_part(const char *name, const frame *asked);
bool participant_part(const char *name, const frame *asked);
bool parsers_part(const char *name, const frame *asked);
bool roster_part(const char *name, const frame *asked);
bool split_part(const char *name, const frame *asked);
bool journal_part(const char *name, const frame *asked);
void secagg_end(void);
void participant_end(void);
void journal_end(void);
/* The journal of a file, if one was opened; else that of the asker. */
bool journal_callbacks(fk_journal *journal);

/* Recorded draws, in the place of the operating system's. */
typedef struct {
  uint8_t *left;
  size_t size, at;
} recorded;

/* While a count is above 0, allocations of the library count it down; the one that ends it fails. */
extern long allocations_left;
/* Likewise, of calls of fsync. */
extern long syncs_left;

/* Draws of rounding that were handed in: float32 numbers, then one of float64. */
typedef struct {
  uint8_t *float32s;
  size_t size, at;
  double float64;
} rounding;

fk_uniform rounding_of(rounding *draws);
recorded record(fk_bytes draws);
fk_status replay(void *context, void *out, size_t size, fk_error *error); /* context: a recorded */
fk_policy policy_field(const frame *asked, size_t place);                /* eight numbers from there on */

#endif
