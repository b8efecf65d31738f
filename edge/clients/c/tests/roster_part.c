/* Questions about the roster that the operator signs. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

/* Fields: the text, the operator's key and roster_id, the number and digest that were seen (or no digest), name,
 * key, and which allocation fails, counted from 1. */
static fk_status open_roster(const frame *asked, fk_error *error) {
  fk_operator signer;
  fk_seen_roster before = {uint_field(asked, 4), {0}}, seen;
  fk_bytes text = field(asked, 1), digest = field(asked, 5);
  fk_signed_roster *roster;
  size_t count;
  memcpy(signer.key, field_of(asked, 2, 32), 32);
  memcpy(signer.roster_id, field_of(asked, 3, 16), 16);
  if (digest.size) memcpy(before.digest, field_of(asked, 5, 32), 32);
  char *client_id = text_field(asked, 6), *exact = malloc(text.size ? text.size : 1);
  if (!exact) give_up("out of memory");
  memcpy(exact, text.data, text.size);
  allocations_left = (long)uint_field(asked, 8);
  fk_status status = fk_signed_roster_open(exact, text.size, &signer, digest.size ? &before : NULL, client_id,
                                           field_of(asked, 7, 32), &roster, &seen, error);
  allocations_left = 0;
  free(exact);
  free(client_id);
  if (status != FK_OK) {
    reply_error(status, error);
    reply_add_number(seen.number);
    return FK_OK;
  }
  const fk_enrolled *clients = fk_signed_roster_clients(roster, &count);
  reply_add_number(seen.number);
  reply_add(seen.digest, 32);
  size_t num_helpers;
  const uint8_t(*helpers)[FK_KEY_BYTES] = fk_signed_roster_helpers(roster, &num_helpers);
  reply_add(helpers, num_helpers * FK_KEY_BYTES);
  for (size_t i = 0; i < count; i += 1) {
    reply_add_text(clients[i].client_id);
    reply_add(clients[i].public_key, 32);
  }
  fk_signed_roster_close(roster);
  return FK_OK;
}

bool roster_part(const char *name, const frame *asked) {
  fk_error error = {0};
  fk_status status = FK_OK;
  if (strcmp(name, "fingerprint") == 0) {
    fk_operator signer;
    char fingerprint[33] = {0};
    memcpy(signer.key, field_of(asked, 1, 32), 32);
    memcpy(signer.roster_id, field_of(asked, 2, 16), 16);
    status = fk_operator_fingerprint(&signer, fingerprint, &error);
    reply_add_text(fingerprint);
  } else if (strcmp(name, "roster") == 0) {
    status = open_roster(asked, &error);
  } else {
    return false;
  }
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
