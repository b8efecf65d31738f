/* Questions about a journal in a file. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

static fk_journal_file *journal;

void journal_end(void) {
  fk_journal_file_close(journal);
  journal = NULL;
}

bool journal_callbacks(fk_journal *callbacks) {
  if (journal) *callbacks = fk_journal_file_callbacks(journal);
  return journal != NULL;
}

/* Fields: the path, and which allocation fails, counted from 1. */
static fk_status open_journal(const frame *asked, fk_error *error) {
  char *path = text_field(asked, 1);
  journal_end();
  allocations_left = (long)uint_field(asked, 2);
  fk_status status = fk_journal_file_open(path, &journal, error);
  allocations_left = 0;
  free(path);
  return status;
}

/* A number to its last digit. */
static uint64_t seed_field(const frame *asked, size_t place) {
  char *text = text_field(asked, place);
  uint64_t seed = strtoull(text, NULL, 10);
  free(text);
  return seed;
}

/* Fields: a seed, a round, and which fsync fails, counted from 1. */
static fk_status spend(const frame *asked, fk_error *error) {
  fk_journal callbacks = fk_journal_file_callbacks(journal);
  syncs_left = (long)uint_field(asked, 3);
  fk_status status = callbacks.spend(callbacks.context, seed_field(asked, 1), uint_field(asked, 2), error);
  syncs_left = 0;
  return status;
}

static fk_status say_last(const frame *asked, fk_error *error) {
  fk_journal callbacks = fk_journal_file_callbacks(journal);
  uint32_t round_num = 0;
  FK_TRY(callbacks.last_round(callbacks.context, seed_field(asked, 1), &round_num, error));
  reply_add_number(round_num);
  return FK_OK;
}

/* Fields: a fingerprint; to see a roster, its number and its digest, too. */
static fk_status rosters(const frame *asked, fk_error *error) {
  fk_seen_roster seen = {0};
  char *fingerprint = text_field(asked, 1);
  fk_status status;
  if (asked->count > 2) {
    seen.number = uint_field(asked, 2);
    memcpy(seen.digest, field_of(asked, 3, sizeof seen.digest), sizeof seen.digest);
    status = fk_journal_file_see(journal, fingerprint, &seen, error);
  } else {
    status = fk_journal_file_seen(journal, fingerprint, &seen, error);
    reply_add_number(seen.number);
    reply_add(seen.digest, sizeof seen.digest);
  }
  free(fingerprint);
  return status;
}

bool journal_part(const char *name, const frame *asked) {
  fk_error error = {0};
  fk_status status;
  if (strcmp(name, "journal") == 0) status = open_journal(asked, &error);
  else if (strcmp(name, "journal spend") == 0) status = spend(asked, &error);
  else if (strcmp(name, "journal last") == 0) status = say_last(asked, &error);
  else if (strcmp(name, "journal roster") == 0) status = rosters(asked, &error);
  else return false;
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
