/* What a client of secure aggregation refuses from a server, as orchestrator/secagg/refusals.py: every check between a
 * message and its answer. */
#include <stdlib.h>
#include <string.h>

#include "fk_protocol_parts.h"

static int by_bytes(const void *one, const void *other) { return memcmp(one, other, FK_KEY_BYTES); }

bool fk_has_key(fk_key_set set, const uint8_t key[32]) {
  return set.count && bsearch(key, set.keys, set.count, FK_KEY_BYTES, by_bytes) != NULL;
}

fk_neighbour *fk_find(const fk_neighbours *neighbours, uint32_t index) {
  if (index >= neighbours->num_clients || neighbours->place[index] < 0) return NULL;
  return &neighbours->list[neighbours->place[index]];
}

fk_status fk_require_threshold(size_t count, const char *what, const fk_graph *graph, fk_error *error) {
  if (count >= graph->threshold) return FK_OK;
  return fk_fail(error, FK_TOO_FEW_PEERS, "%zu %s, %u needed", count, what, graph->threshold);
}

fk_status fk_check_invitation(const fk_invitation *invitation, const fk_policy *policy, fk_graph *graph, fk_error *error) {
  uint32_t num_clients = invitation->num_clients;
  if (num_clients > policy->max_clients) {
    return fk_fail(error, FK_WEAK_PARAMETERS, "a cohort of %u, at most %u expected", num_clients, policy->max_clients);
  }
  FK_TRY(fk_graph_for(num_clients, policy, graph, error));
  if (invitation->degree != graph->degree || invitation->threshold != graph->threshold) {
    return fk_fail(error, FK_WEAK_PARAMETERS,
                   "the server offers degree %u and threshold %u for %u clients, this client's policy asks for %u and %u",
                   invitation->degree, invitation->threshold, num_clients, graph->degree, graph->threshold);
  }
  if (invitation->min_survivors < policy->min_survivors) {
    return fk_fail(error, FK_WEAK_PARAMETERS, "the server would sum %u survivors, this client's policy asks for %u",
                   invitation->min_survivors, policy->min_survivors);
  }
  if (invitation->recipient < num_clients) return FK_OK;
  return fk_fail(error, FK_WEAK_PARAMETERS, "no client %u in a cohort of %u", invitation->recipient, num_clients);
}

/* Whether all peers, and the recipient, are different numbers of the cohort. */
static fk_status check_numbers(const fk_roster *roster, const fk_graph *graph, fk_error *error) {
  bool *seen = fk_array(graph->num_clients, sizeof *seen);
  if (!seen) return fk_no_memory(error);
  bool holds = roster->recipient < graph->num_clients;
  if (holds) seen[roster->recipient] = true;
  for (size_t i = 0; holds && i < roster->count; i += 1) {
    uint32_t index = roster->peers[i].index;
    holds = index < graph->num_clients && !seen[index];
    if (holds) seen[index] = true;
  }
  free(seen);
  if (holds) return FK_OK;
  return fk_fail(error, FK_ROSTER_REFUSED, "a client appears twice in the roster, or is none of the cohort");
}

static void copy_keys(uint8_t *out, const fk_credentials *of) {
  memcpy(out, of->identity, FK_KEY_BYTES);
  memcpy(out + FK_KEY_BYTES, of->channel_key, FK_KEY_BYTES);
  memcpy(out + 2 * FK_KEY_BYTES, of->mask_key, FK_KEY_BYTES);
}

static fk_status check_keys_differ(const fk_roster *roster, const fk_credentials *own, fk_error *error) {
  size_t count = 3 * (roster->count + 1);
  uint8_t *keys = fk_array(count, FK_KEY_BYTES);
  if (!keys) return fk_no_memory(error);
  copy_keys(keys, own);
  for (size_t i = 0; i < roster->count; i += 1) copy_keys(keys + 3 * FK_KEY_BYTES * (i + 1), &roster->peers[i]);
  qsort(keys, count, FK_KEY_BYTES, by_bytes);
  bool repeats = false;
  for (size_t i = 1; i < count; i += 1) {
    repeats = repeats || by_bytes(keys + FK_KEY_BYTES * (i - 1), keys + FK_KEY_BYTES * i) == 0;
  }
  free(keys);
  if (!repeats) return FK_OK;
  return fk_fail(error, FK_ROSTER_REFUSED, "a key appears twice in the roster: someone stands there under two names");
}

static fk_status check_peer(const fk_credentials *peer, const uint8_t session[32], fk_key_set enrolled, fk_error *error) {
  if (!fk_has_key(enrolled, peer->identity)) {
    return fk_fail(error, FK_ROSTER_REFUSED, "client %u is not enrolled", peer->index);
  }
  uint8_t keys[3 * FK_KEY_BYTES];
  bool is_signed;
  copy_keys(keys, peer);
  FK_TRY(fk_is_signed_by(peer->signature, peer->identity, "advertise", session, peer->index,
                         (fk_bytes){keys, sizeof keys}, &is_signed, error));
  if (is_signed) return FK_OK;
  return fk_fail(error, FK_ROSTER_REFUSED, "the keys of client %u are not signed by it for this session", peer->index);
}

fk_status fk_check_roster(const fk_roster *roster, const fk_credentials *own, fk_key_set enrolled, const fk_graph *graph,
                          fk_error *error) {
  FK_TRY(check_numbers(roster, graph, error));
  if (roster->count > graph->degree) {
    return fk_fail(error, FK_ROSTER_REFUSED, "%zu neighbours, at most %u expected", roster->count, graph->degree);
  }
  FK_TRY(check_keys_differ(roster, own, error));
  for (size_t i = 0; i < roster->count; i += 1) FK_TRY(check_peer(&roster->peers[i], roster->session, enrolled, error));
  return fk_require_threshold(roster->count, "neighbours advertised", graph, error);
}

fk_status fk_check_senders(const fk_delivery *delivery, const fk_neighbours *neighbours, fk_error *error) {
  for (size_t i = 0; i < delivery->count; i += 1) {
    fk_neighbour *sender = fk_find(neighbours, delivery->shares[i].sender);
    if (!sender || sender->has_shared) {
      return fk_fail(error, FK_SHARES_REFUSED, "shares from someone who is not a neighbour, or twice from one");
    }
    sender->has_shared = true;
  }
  return FK_OK;
}

static bool has_bit(fk_bytes bits, uint32_t index) { return bits.data[index / 8] >> (index % 8) & 1; }

fk_status fk_check_survivors(const fk_survivors *survivors, const fk_neighbours *neighbours, const fk_graph *graph,
                             uint32_t min_survivors, fk_error *error) {
  fk_bytes alive = survivors->alive;
  uint32_t num_clients = graph->num_clients, num_counted = 0;
  bool fits = alive.size == (num_clients + 7) / 8;
  for (uint32_t i = num_clients; fits && i < 8 * alive.size; i += 1) fits = !has_bit(alive, i);
  if (!fits) {
    return fk_fail(error, FK_WIRE_ERROR, "a bitmap of %zu bytes that is not one of %u clients", alive.size, num_clients);
  }
  if (!has_bit(alive, survivors->recipient)) {
    return fk_fail(error, FK_SURVIVORS_REFUSED, "the survivors leave out this client, whose vector was sent");
  }
  size_t num_peers = 0;
  for (uint32_t i = 0; i < num_clients; i += 1) {
    if (!has_bit(alive, i)) continue;
    fk_neighbour *peer = fk_find(neighbours, i);
    bool is_neighbour = peer || (fk_is_complete(graph) && i != survivors->recipient);
    if (is_neighbour && !(peer && peer->has_shared)) {
      return fk_fail(error, FK_SURVIVORS_REFUSED, "the survivors hold a neighbour whose shares were never delivered");
    }
    num_counted += !is_neighbour || peer->is_open; /* the others may have received another roster */
    num_peers += peer != NULL;
    if (peer) peer->is_alive = true;
  }
  if (num_counted < min_survivors) {
    return fk_fail(error, FK_TOO_FEW_PEERS, "%u survivors, %u needed", num_counted, min_survivors);
  }
  return fk_require_threshold(num_peers, "neighbours survive", graph, error);
}

static fk_status check_consents(const fk_unmask_request *request, const fk_neighbours *neighbours, const uint8_t bound[32],
                                fk_bytes bitmap, bool *seen, fk_error *error) {
  for (size_t i = 0; i < request->num_consents; i += 1) {
    const fk_neighbour *peer = fk_find(neighbours, request->consents[i].sender);
    bool *is_seen = peer ? &seen[peer - neighbours->list] : NULL;
    if (!peer || !peer->is_alive || *is_seen) {
      return fk_fail(error, FK_SPLIT_VIEW, "a consent of someone who is no surviving neighbour, or two of one");
    }
    *is_seen = true;
  }
  for (size_t i = 0; i < request->num_consents; i += 1) {
    const fk_delivered *consent = &request->consents[i];
    const fk_neighbour *peer = fk_find(neighbours, consent->sender);
    bool is_signed;
    FK_TRY(fk_is_signed_by(consent->sealed, peer->identity, "survivors", bound, peer->index, bitmap, &is_signed, error));
    if (!is_signed) {
      return fk_fail(error, FK_SPLIT_VIEW, "client %u did not sign the survivors that this client was told", peer->index);
    }
  }
  return FK_OK;
}

/* Whether nobody on a list was seen; marks them. */
static bool mark(const fk_neighbours *neighbours, const uint32_t *list, size_t count, bool *seen) {
  for (size_t i = 0; i < count; i += 1) {
    const fk_neighbour *peer = fk_find(neighbours, list[i]);
    if (!peer) continue;
    if (seen[peer - neighbours->list]) return false;
    seen[peer - neighbours->list] = true;
  }
  return true;
}

static bool are_all(const fk_neighbours *neighbours, const uint32_t *list, size_t count, bool alive) {
  for (size_t i = 0; i < count; i += 1) {
    const fk_neighbour *peer = fk_find(neighbours, list[i]);
    if (!peer || !peer->has_shared || peer->is_alive != alive) return false;
  }
  return true;
}

fk_status fk_check_request(const fk_unmask_request *request, const fk_neighbours *neighbours, const uint8_t bound[32],
                           fk_bytes bitmap, const fk_graph *graph, fk_error *error) {
  bool *seen = fk_array(neighbours->count, sizeof *seen);
  if (!seen) return fk_no_memory(error);
  fk_status status = check_consents(request, neighbours, bound, bitmap, seen, error);
  if (status == FK_OK) status = fk_require_threshold(request->num_consents, "neighbours consent", graph, error);
  memset(seen, 0, neighbours->count * sizeof *seen);
  bool differ = mark(neighbours, request->alive, request->num_alive, seen) &&
                mark(neighbours, request->dead, request->num_dead, seen);
  free(seen);
  if (status != FK_OK) return status;
  if (!differ) {
    return fk_fail(error, FK_ALIVE_AND_DEAD, "a neighbour is named twice: only one of its secrets may be recovered");
  }
  if (are_all(neighbours, request->alive, request->num_alive, true) &&
      are_all(neighbours, request->dead, request->num_dead, false)) {
    return FK_OK;
  }
  return fk_fail(error, FK_ALIVE_AND_DEAD, "a neighbour is named dead whose vector arrived, or alive whose did not");
}
