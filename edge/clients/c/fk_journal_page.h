/* What the file of a journal holds, from JSON and to JSON. Not for apps. */
#ifndef FK_JOURNAL_PAGE_H
#define FK_JOURNAL_PAGE_H

#include "fk_protocol_parts.h"

#define FK_FINGERPRINT_DIGITS 32

/* The last round that was answered of a seed. */
typedef struct {
  uint64_t seed;
  uint32_t round_num;
} fk_spent_round;

/* The newest roster that was seen of an operator. */
typedef struct {
  char fingerprint[FK_FINGERPRINT_DIGITS + 1];
  fk_seen_roster newest;
} fk_known_roster;

/* All zeros is an empty one. */
typedef struct {
  fk_spent_round *rounds;
  size_t num_rounds;
  fk_known_roster *rosters;
  size_t num_rosters;
} fk_journal_page;

void fk_journal_page_close(fk_journal_page *page);
/* What is there of a seed, or of an operator; NULL: nothing. */
fk_spent_round *fk_journal_page_round(const fk_journal_page *page, uint64_t seed);
fk_known_roster *fk_journal_page_roster(const fk_journal_page *page, const char *fingerprint);
/* The same, added with the number 0 if nothing is there; NULL: there is no memory. */
fk_spent_round *fk_journal_page_need_round(fk_journal_page *page, uint64_t seed);
fk_known_roster *fk_journal_page_need_roster(fk_journal_page *page, const char *fingerprint);
/* Takes over what is newer in a JSON text than what was there; not sound: the text is no journal's. */
fk_status fk_journal_page_read(fk_journal_page *page, fk_value root, bool *is_sound, fk_error *error);
/* Adds all of it as JSON; text->failed then says whether there was no memory. */
void fk_journal_page_write(const fk_journal_page *page, fk_buffer *text);

#endif
