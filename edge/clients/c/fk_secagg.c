/* A client's half of one session of secure aggregation, as orchestrator/secagg/client.py: it masks its vector and helps to
 * unmask the sum, but never one client's vector. Over 300 lines, since the five steps are read best in their order. */
#include <stdlib.h>
#include <string.h>

#include "fk_protocol_parts.h"

#define TAG(name) "secagg/1/" name

static const char *const AWAITED[] = {
    "an invitation",      "the roster", "the delivery of shares", "the survivors",
    "the unmask request", "nothing: it has unmasked", "nothing: it has refused",
};

/* ---- forgetting ---- */

/* What must not outlive the upload. */
static void forget_keys(fk_secagg *client) {
  fk_wipe(client->channel_private, sizeof client->channel_private);
  fk_wipe(client->mask_private, sizeof client->mask_private);
  fk_wipe(client->secret, sizeof client->secret);
  for (size_t i = 0; i < client->neighbours.count; i += 1) {
    fk_wipe(client->neighbours.list[i].channel, FK_KEY_BYTES);
    fk_wipe(client->neighbours.list[i].mask_seed, FK_KEY_BYTES);
  }
}

static void forget_all(fk_secagg *client) {
  forget_keys(client);
  fk_free_secret(client->neighbours.list, client->neighbours.count * sizeof *client->neighbours.list);
  free(client->neighbours.place);
  client->neighbours = (fk_neighbours){0};
  fk_buffer_close(&client->bitmap);
}

void fk_secagg_close(fk_secagg *client) {
  forget_all(client);
  fk_wipe(client, sizeof *client);
}

/* ---- steps: each in the expected state only; a failure inside closes the session for this client ---- */

static fk_status begin(fk_secagg *client, fk_secagg_state expected, fk_error *error) {
  if (client->state != expected) {
    return fk_fail(error, FK_UNEXPECTED_MESSAGE, "the client waits for %s, not for %s", AWAITED[client->state],
                   AWAITED[expected]);
  }
  client->state = FK_HAS_REFUSED;
  return FK_OK;
}

static fk_status end(fk_secagg *client, fk_status status, fk_secagg_state then, fk_buffer *answer, fk_error *error) {
  if (status == FK_OK && answer->failed) status = fk_no_memory(error);
  if (status == FK_OK) {
    client->state = then;
    return FK_OK;
  }
  forget_all(client);
  fk_buffer_close(answer);
  return status;
}

static fk_status check_own(const fk_secagg *client, const char *name, const uint8_t *session, uint32_t recipient,
                           fk_error *error) {
  if (memcmp(session, client->session, FK_SESSION_BYTES) == 0 && recipient == client->invitation.recipient) return FK_OK;
  return fk_fail(error, FK_UNEXPECTED_MESSAGE, "a %s of another session or for another client", name);
}

/* ---- r0 ---- */

static fk_status join_session(fk_seen_sessions *seen, const uint8_t session[32], fk_error *error) {
  for (size_t i = 0; i < seen->count; i += 1) {
    if (memcmp(seen->names + i * FK_SESSION_BYTES, session, FK_SESSION_BYTES) == 0) {
      return fk_fail(error, FK_SESSION_REPLAYED, "session %02x%02x%02x%02x was used before", session[0], session[1],
                     session[2], session[3]);
    }
  }
  if (seen->count == seen->capacity) {
    size_t capacity = seen->capacity ? 2 * seen->capacity : 16;
    uint8_t *names = realloc(seen->names, capacity * FK_SESSION_BYTES);
    if (!names) return fk_no_memory(error);
    seen->names = names;
    seen->capacity = capacity;
  }
  memcpy(seen->names + seen->count * FK_SESSION_BYTES, session, FK_SESSION_BYTES);
  seen->count += 1;
  return FK_OK;
}

static fk_credentials own_credentials(const fk_secagg *client) {
  return (fk_credentials){client->invitation.recipient, client->public_key, client->channel_public, client->mask_public,
                          client->signature};
}

static fk_status make_keys(fk_secagg *client, fk_error *error) {
  uint8_t body[3 * FK_KEY_BYTES];
  FK_TRY(client->random.draw(client->random.context, client->channel_private, FK_KEY_BYTES, error));
  FK_TRY(client->random.draw(client->random.context, client->mask_private, FK_KEY_BYTES, error));
  FK_TRY(fk_x25519_public(client->channel_private, client->channel_public, error));
  FK_TRY(fk_x25519_public(client->mask_private, client->mask_public, error));
  memcpy(body, client->public_key, FK_KEY_BYTES);
  memcpy(body + FK_KEY_BYTES, client->channel_public, FK_KEY_BYTES);
  memcpy(body + 2 * FK_KEY_BYTES, client->mask_public, FK_KEY_BYTES);
  return fk_sign_as(client->identity, "advertise", client->session, client->invitation.recipient,
                    (fk_bytes){body, sizeof body}, client->signature, error);
}

static fk_status advertise(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  FK_TRY(fk_read_invitation(wire, &client->invitation, error));
  FK_TRY(fk_session_of(&client->invitation, client->session, error));
  client->invitation.nonce = NULL; /* a view of bytes that are the caller's */
  FK_TRY(join_session(client->seen, client->session, error));
  FK_TRY(fk_check_invitation(&client->invitation, &client->policy, &client->graph, error));
  FK_TRY(make_keys(client, error));
  const fk_credentials own = own_credentials(client);
  fk_write_message(answer, TAG("Advertisement"), 2);
  fk_write_bytes(answer, client->session, FK_SESSION_BYTES);
  fk_write_array(answer, 5);
  fk_write_uint(answer, own.index);
  fk_write_bytes(answer, own.identity, FK_KEY_BYTES);
  fk_write_bytes(answer, own.channel_key, FK_KEY_BYTES);
  fk_write_bytes(answer, own.mask_key, FK_KEY_BYTES);
  fk_write_bytes(answer, own.signature, FK_SIGNATURE_BYTES);
  return FK_OK;
}

fk_status fk_secagg_advertise(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  FK_TRY(begin(client, FK_AWAITS_INVITATION, error));
  return end(client, advertise(client, wire, answer, error), FK_AWAITS_ROSTER, answer, error);
}

/* ---- r1 ---- */

static fk_status bind(fk_secagg *client, const fk_roster *roster, fk_error *error) {
  size_t count = fk_is_complete(&client->graph) ? roster->count + 1 : 0;
  fk_credentials *everyone = fk_array(count, sizeof *everyone);
  if (!everyone) return fk_no_memory(error);
  if (count) {
    everyone[0] = own_credentials(client);
    memcpy(everyone + 1, roster->peers, roster->count * sizeof *everyone);
  }
  fk_bytes agreed = {client->agreed, sizeof client->agreed};
  fk_status status = fk_bound_session(client->session, agreed, everyone, count, client->bound, error);
  free(everyone);
  return status;
}

static fk_status agree_with(fk_secagg *client, const fk_roster *roster, fk_error *error) {
  fk_neighbours *all = &client->neighbours;
  uint32_t index = client->invitation.recipient;
  all->list = fk_array(roster->count, sizeof *all->list);
  all->place = fk_array(client->graph.num_clients, sizeof *all->place);
  if (!all->list || !all->place) return fk_no_memory(error);
  all->count = roster->count;
  all->num_clients = client->graph.num_clients;
  memset(all->place, 0xff, all->num_clients * sizeof *all->place);
  for (size_t i = 0; i < roster->count; i += 1) {
    const fk_credentials *peer = &roster->peers[i];
    fk_neighbour *neighbour = &all->list[i];
    uint8_t shared[32];
    all->place[peer->index] = (int32_t)i;
    neighbour->index = peer->index;
    memcpy(neighbour->identity, peer->identity, FK_KEY_BYTES);
    FK_TRY(fk_x25519(client->mask_private, peer->mask_key, shared, error));
    fk_status status = fk_pair_mask_seed(shared, client->bound, index, peer->index, neighbour->mask_seed, error);
    fk_wipe(shared, sizeof shared);
    FK_TRY(status);
    FK_TRY(fk_x25519(client->channel_private, peer->channel_key, neighbour->channel, error));
  }
  return FK_OK;
}

/* Both secrets, shared among the neighbours: shares of the one, then of the other. A holder's point is its index + 1. */
static fk_status deal(fk_secagg *client, uint8_t *shares, fk_error *error) {
  const fk_neighbours *all = &client->neighbours;
  uint32_t threshold = client->graph.threshold, *points = fk_array(all->count, sizeof *points);
  if (!points) return fk_no_memory(error);
  for (size_t i = 0; i < all->count; i += 1) points[i] = all->list[i].index + 1;
  fk_status status = fk_split_secret(client->secret, threshold, points, all->count, client->random, shares, error);
  if (status == FK_OK) {
    status = fk_split_secret(client->mask_private, threshold, points, all->count, client->random,
                             shares + all->count * FK_SHARE_BYTES, error);
  }
  free(points);
  return status;
}

/* Adds what is sealed for one neighbour to the answer. */
static fk_status seal_for(fk_secagg *client, const fk_neighbour *holder, const uint8_t *of_secret, const uint8_t *of_key,
                          fk_buffer *answer, fk_error *error) {
  uint8_t pair[2 * FK_SHARE_BYTES], nonce[FK_SEAL_NONCE_BYTES], sealed[FK_SEALED_BYTES], tags[2 * FK_TAG_BYTES];
  uint32_t index = client->invitation.recipient;
  memcpy(pair, of_secret, FK_SHARE_BYTES);
  memcpy(pair + FK_SHARE_BYTES, of_key, FK_SHARE_BYTES);
  fk_status status = client->random.draw(client->random.context, nonce, sizeof nonce, error);
  if (status == FK_OK) {
    status = fk_seal_shares(pair, holder->channel, client->bound, index, holder->index, nonce, sealed, error);
  }
  fk_wipe(pair, sizeof pair);
  FK_TRY(status);
  FK_TRY(fk_share_tag(of_secret, client->bound, index, holder->index, tags, error));
  FK_TRY(fk_share_tag(of_key, client->bound, index, holder->index, tags + FK_TAG_BYTES, error));
  fk_write_array(answer, 3);
  fk_write_uint(answer, holder->index);
  fk_write_bytes(answer, sealed, sizeof sealed);
  fk_write_bytes(answer, tags, sizeof tags);
  return FK_OK;
}

static fk_status deal_and_seal(fk_secagg *client, fk_buffer *answer, fk_error *error) {
  const fk_neighbours *all = &client->neighbours;
  size_t size = 2 * all->count * FK_SHARE_BYTES;
  uint8_t *shares = fk_array(2 * all->count, FK_SHARE_BYTES);
  if (!shares) return fk_no_memory(error);
  fk_status status = deal(client, shares, error);
  for (size_t i = 0; status == FK_OK && i < all->count; i += 1) {
    const uint8_t *own = shares + i * FK_SHARE_BYTES;
    status = seal_for(client, &all->list[i], own, own + all->count * FK_SHARE_BYTES, answer, error);
  }
  fk_free_secret(shares, size);
  return status;
}

static fk_status share(fk_secagg *client, const fk_roster *roster, fk_buffer *answer, fk_error *error) {
  uint8_t commitment[32];
  uint32_t index = client->invitation.recipient;
  const fk_credentials own = own_credentials(client);
  FK_TRY(check_own(client, "Roster", roster->session, roster->recipient, error));
  FK_TRY(fk_check_roster(roster, &own, client->enrolled, &client->graph, error));
  FK_TRY(bind(client, roster, error));
  FK_TRY(client->random.draw(client->random.context, client->secret, sizeof client->secret, error));
  FK_TRY(agree_with(client, roster, error));
  FK_TRY(fk_of_self_mask("self mask commitment", client->secret, client->bound, index, commitment, error));
  fk_write_message(answer, TAG("SealedShares"), 4);
  fk_write_bytes(answer, client->session, FK_SESSION_BYTES);
  fk_write_uint(answer, index);
  fk_write_bytes(answer, commitment, sizeof commitment);
  fk_write_array(answer, client->neighbours.count);
  return deal_and_seal(client, answer, error);
}

fk_status fk_secagg_share(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  fk_roster roster;
  FK_TRY(begin(client, FK_AWAITS_ROSTER, error));
  fk_status status = fk_read_roster(wire, &roster, error);
  if (status == FK_OK) status = share(client, &roster, answer, error);
  free(roster.peers);
  return end(client, status, FK_AWAITS_DELIVERY, answer, error);
}

/* ---- r2 ---- */

/* A share that does not open is treated as missing: the client can't help to recover that neighbour, but still masks with
 * it, so that a neighbour that lies harms itself only. */
static fk_status open_shares(fk_secagg *client, const fk_delivery *delivery, fk_error *error) {
  size_t num_open = 0;
  for (size_t i = 0; i < delivery->count; i += 1) {
    fk_neighbour *sender = fk_find(&client->neighbours, delivery->shares[i].sender);
    FK_TRY(fk_unseal_shares(delivery->shares[i].sealed, sender->channel, client->bound, sender->index,
                            client->invitation.recipient, sender->shares, &sender->is_open, error));
    num_open += sender->is_open;
  }
  return fk_require_threshold(num_open, "neighbours' shares open", &client->graph, error);
}

/* Adds the self mask, and one with each neighbour that shared: added by the lower index, subtracted by the higher. */
static fk_status add_masks(fk_secagg *client, uint32_t *vector, size_t count, fk_error *error) {
  uint8_t seed[32];
  uint32_t index = client->invitation.recipient;
  fk_status status = fk_of_self_mask("self mask", client->secret, client->bound, index, seed, error);
  if (status == FK_OK) status = fk_add_mask(vector, count, seed, false, error);
  fk_wipe(seed, sizeof seed);
  for (size_t i = 0; status == FK_OK && i < client->neighbours.count; i += 1) {
    const fk_neighbour *peer = &client->neighbours.list[i];
    if (peer->has_shared) status = fk_add_mask(vector, count, peer->mask_seed, index > peer->index, error);
  }
  return status;
}

static fk_status mask(fk_secagg *client, const fk_delivery *delivery, uint32_t *vector, size_t count, fk_buffer *answer,
                      fk_error *error) {
  FK_TRY(check_own(client, "Delivery", delivery->session, delivery->recipient, error));
  FK_TRY(fk_check_senders(delivery, &client->neighbours, error));
  FK_TRY(open_shares(client, delivery, error));
  FK_TRY(add_masks(client, vector, count, error));
  forget_keys(client);
  fk_write_message(answer, TAG("MaskedVector"), 3);
  fk_write_bytes(answer, client->session, FK_SESSION_BYTES);
  fk_write_uint(answer, client->invitation.recipient);
  fk_write_words(answer, vector, count);
  return FK_OK;
}

fk_status fk_secagg_mask(fk_secagg *client, fk_bytes wire, uint32_t *vector, size_t count, fk_buffer *answer, fk_error *error) {
  fk_delivery delivery = {0};
  fk_status status;
  FK_TRY(begin(client, FK_AWAITS_DELIVERY, error));
  if (count != client->invitation.num_slots) {
    status = fk_fail(error, FK_BAD_ARGUMENT, "vector must be uint32 [%u], got uint32 [%zu]", client->invitation.num_slots, count);
  } else {
    status = fk_read_delivery(wire, &delivery, error);
  }
  if (status == FK_OK) status = mask(client, &delivery, vector, count, answer, error);
  free(delivery.shares);
  return end(client, status, FK_AWAITS_SURVIVORS, answer, error);
}

/* ---- r3 ---- */

static fk_status consent(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  fk_survivors survivors;
  uint8_t signature[FK_SIGNATURE_BYTES];
  uint32_t index = client->invitation.recipient;
  FK_TRY(fk_read_survivors(wire, &survivors, error));
  FK_TRY(check_own(client, "Survivors", survivors.session, survivors.recipient, error));
  FK_TRY(fk_check_survivors(&survivors, &client->neighbours, &client->graph, client->invitation.min_survivors, error));
  fk_buffer_add(&client->bitmap, survivors.alive.data, survivors.alive.size);
  if (client->bitmap.failed) return fk_no_memory(error);
  FK_TRY(fk_sign_as(client->identity, "survivors", client->bound, index, survivors.alive, signature, error));
  fk_write_message(answer, TAG("Consent"), 3);
  fk_write_bytes(answer, client->session, FK_SESSION_BYTES);
  fk_write_uint(answer, index);
  fk_write_bytes(answer, signature, sizeof signature);
  return FK_OK;
}

fk_status fk_secagg_consent(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  FK_TRY(begin(client, FK_AWAITS_SURVIVORS, error));
  return end(client, consent(client, wire, answer, error), FK_AWAITS_REQUEST, answer, error);
}

/* ---- r4 ---- */

/* Adds the shares of these owners that this client could open. */
static void write_shares(fk_secagg *client, const uint32_t *owners, size_t count, size_t offset, fk_buffer *answer) {
  size_t num_open = 0;
  for (size_t i = 0; i < count; i += 1) num_open += fk_find(&client->neighbours, owners[i])->is_open;
  fk_write_array(answer, num_open);
  for (size_t i = 0; i < count; i += 1) {
    const fk_neighbour *owner = fk_find(&client->neighbours, owners[i]);
    if (!owner->is_open) continue;
    fk_write_array(answer, 2);
    fk_write_uint(answer, owner->index);
    fk_write_bytes(answer, owner->shares + offset, FK_SHARE_BYTES);
  }
}

static fk_status unmask(fk_secagg *client, const fk_unmask_request *request, fk_buffer *answer, fk_error *error) {
  FK_TRY(check_own(client, "UnmaskRequest", request->session, request->recipient, error));
  fk_bytes bitmap = {client->bitmap.data, client->bitmap.size};
  FK_TRY(fk_check_request(request, &client->neighbours, client->bound, bitmap, &client->graph, error));
  fk_write_message(answer, TAG("Unmasking"), 4);
  fk_write_bytes(answer, client->session, FK_SESSION_BYTES);
  fk_write_uint(answer, client->invitation.recipient);
  write_shares(client, request->alive, request->num_alive, 0, answer);
  write_shares(client, request->dead, request->num_dead, FK_SHARE_BYTES, answer);
  forget_all(client);
  return FK_OK;
}

fk_status fk_secagg_unmask(fk_secagg *client, fk_bytes wire, fk_buffer *answer, fk_error *error) {
  fk_unmask_request request;
  FK_TRY(begin(client, FK_AWAITS_REQUEST, error));
  fk_status status = fk_read_unmask_request(wire, &request, error);
  if (status == FK_OK) status = unmask(client, &request, answer, error);
  free(request.consents);
  free(request.alive);
  free(request.dead);
  return end(client, status, FK_HAS_UNMASKED, answer, error);
}
