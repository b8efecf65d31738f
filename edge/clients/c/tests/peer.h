/* The parts of the tests' peer. */
#ifndef PEER_H
#define PEER_H

#include "frames.h"

/* Answers what it is asked; false if the question is none of this part's. */
bool primitives_part(const char *name, const frame *asked);
bool secagg_part(const char *name, const frame *asked);
void secagg_end(void);

/* Recorded draws, in the place of the operating system's. */
typedef struct {
  uint8_t *left;
  size_t size, at;
} recorded;

recorded record(fk_bytes draws);
fk_status replay(void *context, void *out, size_t size, fk_error *error); /* context: a recorded */
fk_policy policy_field(const frame *asked, size_t place);                /* eight numbers from there on */

#endif
