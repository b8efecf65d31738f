/* The server's five messages of secure aggregation, as orchestrator/secagg/messages.py lists them. A message is read once,
 * with the lengths of its fields; all others are refused. */
#include <stdlib.h>

#include "fk_protocol_parts.h"

#define TAG(name) "secagg/1/" name
/* The fewest bytes of a list's items: a byte for the item, one for its number, a head of two for bytes. */
#define CREDENTIALS_BYTES (2 + 3 * (2 + FK_KEY_BYTES) + 2 + FK_SIGNATURE_BYTES)
#define DELIVERED_BYTES(size) (2 + 2 + (size))

static uint32_t read_index(fk_reader *reader) { return fk_read_uint(reader, 0, FK_MAX_CLIENTS - 1); }

static const uint8_t *read_exactly(fk_reader *reader, size_t size) { return fk_read_bytes(reader, size, size).data; }

/* Reads how many items a list has, and returns room for them; NULL: there is no memory. */
static void *list_of(fk_reader *reader, size_t least_item_bytes, size_t item_size, size_t *count) {
  *count = fk_read_list(reader, least_item_bytes);
  return fk_array(*count, item_size);
}

static fk_status begin(fk_reader *reader, fk_bytes wire, const char *tag, size_t num_fields, fk_error *error) {
  const char *name = tag + sizeof TAG("") - 1;
  *reader = (fk_reader){wire.data, wire.size, 0, false};
  if (wire.size > FK_MAX_BYTES) {
    return fk_fail(error, FK_WIRE_ERROR, "%s: %zu bytes, at most %u allowed", name, wire.size, FK_MAX_BYTES);
  }
  fk_read_message(reader, tag, num_fields, num_fields);
  return FK_OK;
}

static fk_status end(fk_reader *reader, const char *name, fk_error *error) {
  if (fk_read_end(reader)) return FK_OK;
  return fk_fail(error, FK_WIRE_ERROR, "%s: %zu bytes that are not such a message", name, reader->size);
}

fk_status fk_read_invitation(fk_bytes wire, fk_invitation *found, fk_error *error) {
  fk_reader reader;
  FK_TRY(begin(&reader, wire, TAG("Invitation"), 8, error));
  found->nonce = read_exactly(&reader, FK_NONCE_BYTES);
  found->round_num = fk_read_uint(&reader, 0, UINT32_MAX);
  found->recipient = read_index(&reader);
  found->num_clients = fk_read_uint(&reader, 1, FK_MAX_CLIENTS);
  found->degree = read_index(&reader);
  found->threshold = read_index(&reader);
  found->min_survivors = read_index(&reader);
  found->num_slots = fk_read_uint(&reader, 1, UINT32_MAX);
  return end(&reader, "Invitation", error);
}

static fk_credentials read_credentials(fk_reader *reader) {
  fk_credentials found = {0};
  if (fk_read_array(reader) != 5) reader->bad = true;
  found.index = read_index(reader);
  found.identity = read_exactly(reader, FK_KEY_BYTES);
  found.channel_key = read_exactly(reader, FK_KEY_BYTES);
  found.mask_key = read_exactly(reader, FK_KEY_BYTES);
  found.signature = read_exactly(reader, FK_SIGNATURE_BYTES);
  return found;
}

fk_status fk_read_roster(fk_bytes wire, fk_roster *found, fk_error *error) {
  fk_reader reader;
  *found = (fk_roster){0};
  FK_TRY(begin(&reader, wire, TAG("Roster"), 3, error));
  found->session = read_exactly(&reader, FK_SESSION_BYTES);
  found->recipient = read_index(&reader);
  found->peers = list_of(&reader, CREDENTIALS_BYTES, sizeof *found->peers, &found->count);
  if (!found->peers) return fk_no_memory(error);
  for (size_t i = 0; i < found->count; i += 1) found->peers[i] = read_credentials(&reader);
  return end(&reader, "Roster", error);
}

/* A list of pairs: who it is of, and so many bytes. */
static fk_status read_delivered(fk_reader *reader, size_t size, fk_delivered **list, size_t *count, fk_error *error) {
  *list = list_of(reader, DELIVERED_BYTES(size), sizeof **list, count);
  if (!*list) return fk_no_memory(error);
  for (size_t i = 0; i < *count; i += 1) {
    if (fk_read_array(reader) != 2) reader->bad = true;
    (*list)[i].sender = read_index(reader);
    (*list)[i].sealed = read_exactly(reader, size);
  }
  return FK_OK;
}

fk_status fk_read_delivery(fk_bytes wire, fk_delivery *found, fk_error *error) {
  fk_reader reader;
  *found = (fk_delivery){0};
  FK_TRY(begin(&reader, wire, TAG("Delivery"), 3, error));
  found->session = read_exactly(&reader, FK_SESSION_BYTES);
  found->recipient = read_index(&reader);
  FK_TRY(read_delivered(&reader, FK_SEALED_BYTES, &found->shares, &found->count, error));
  return end(&reader, "Delivery", error);
}

fk_status fk_read_survivors(fk_bytes wire, fk_survivors *found, fk_error *error) {
  fk_reader reader;
  FK_TRY(begin(&reader, wire, TAG("Survivors"), 3, error));
  found->session = read_exactly(&reader, FK_SESSION_BYTES);
  found->recipient = read_index(&reader);
  found->alive = fk_read_bytes(&reader, 0, FK_MAX_CLIENTS / 8);
  return end(&reader, "Survivors", error);
}

static fk_status read_indices(fk_reader *reader, uint32_t **list, size_t *count, fk_error *error) {
  *list = list_of(reader, 1, sizeof **list, count);
  if (!*list) return fk_no_memory(error);
  for (size_t i = 0; i < *count; i += 1) (*list)[i] = read_index(reader);
  return FK_OK;
}

fk_status fk_read_unmask_request(fk_bytes wire, fk_unmask_request *found, fk_error *error) {
  fk_reader reader;
  *found = (fk_unmask_request){0};
  FK_TRY(begin(&reader, wire, TAG("UnmaskRequest"), 5, error));
  found->session = read_exactly(&reader, FK_SESSION_BYTES);
  found->recipient = read_index(&reader);
  FK_TRY(read_delivered(&reader, FK_SIGNATURE_BYTES, &found->consents, &found->num_consents, error));
  FK_TRY(read_indices(&reader, &found->alive, &found->num_alive, error));
  FK_TRY(read_indices(&reader, &found->dead, &found->num_dead, error));
  return end(&reader, "UnmaskRequest", error);
}
