/* Who the client is, and who else may take part, as the folder of keys says. */
#ifndef ENROLMENT_H
#define ENROLMENT_H

#include "../fedkeys.h"

/* All that a participant needs but training and pace; its identity is to be wiped. */
typedef struct {
  fk_participant_options options;
  fk_journal_file *journal;
  fk_signed_roster *roster;
} enrolment;

/* Opens the journal, and takes the roster if it is the operator's newest; else the program ends. */
enrolment enrolled(const char *keys, const char *client_id);

#endif
