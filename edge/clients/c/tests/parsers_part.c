/* Reads garbled bytes of each kind, as many times as asked: no sanitizer may find anything. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

typedef bool (*reader)(fk_bytes wire);

/* Defines a reader of one kind of message, which frees what was found. */
#define READER(kind, free_found)                               \
  static bool kind(fk_bytes wire) {                           \
    fk_##kind found;                                          \
    bool is_one = fk_read_##kind(wire, &found, NULL) == FK_OK; \
    free_found;                                               \
    return is_one;                                            \
  }
READER(invitation, (void)found)
READER(roster, free(found.peers))
READER(delivery, free(found.shares))
READER(survivors, (void)found)
READER(unmask_request, (free(found.consents), free(found.alive), free(found.dead)))
READER(to_client, free(found.words))

static bool config(fk_bytes wire) {
  static const fk_word WORDS[5] = {{"<pad>", 5}, {"<bos>", 5}, {"<eos>", 5}, {"<unk>", 5}, {"see", 3}};
  fk_settings found;
  return fk_read_settings(wire, WORDS, 5, &found, NULL) == FK_OK;
}

static bool signed_roster(fk_bytes wire) {
  static const fk_operator NOBODY = {{0}, {0}};
  static const uint8_t KEY[FK_KEY_BYTES] = {0};
  fk_signed_roster *found;
  fk_seen_roster seen;
  fk_status status = fk_signed_roster_open((const char *)wire.data, wire.size, &NOBODY, NULL, "ann", KEY, &found, &seen, NULL);
  return status == FK_FOREIGN_ROSTER; /* it was read, and is somebody's */
}

static bool run_name(fk_bytes wire) {
  uint8_t name[32];
  return fk_run_name(wire, NULL, 0, name, NULL) == FK_OK;
}

/* The terms of the first upload in edge/conformance/split.json, up to whose helpers they are for. */
static bool terms(fk_bytes wire) {
  static const uint8_t KEYS[2][FK_KEY_BYTES] = {{0}};
  fk_splitter client = {"ann", KEYS[0], KEYS, 1, 1, 0, {fk_random_bytes, NULL}};
  fk_told told = {.version = 7, .num_groups = 2};
  uint32_t vector[7] = {0};
  fk_buffer answer = {0};
  memset(told.run, 0x11, sizeof told.run);
  fk_status status = fk_split_mask(&client, wire, vector, 7, &told, &answer, NULL);
  fk_buffer_close(&answer);
  return status == FK_FOREIGN_HELPER;
}

static const struct {
  const char *name;
  reader read;
} READERS[] = {
    {"Invitation", invitation}, {"Roster", roster},       {"Delivery", delivery}, {"Survivors", survivors},
    {"UnmaskRequest", unmask_request}, {"to client", to_client}, {"config", config},
    {"signed roster", signed_roster},
    {"run name", run_name},
    {"terms", terms},
};

/* Marsaglia's xorshift: the same bytes each time. */
static uint32_t drawn(uint32_t *state, size_t below) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return (uint32_t)(*state % below);
}

/* Changes up to three bytes, half of the time near the beginning, where it matters; cuts or repeats a part now and then. */
static size_t garble(uint8_t *bytes, size_t size, size_t capacity, uint32_t *state) {
  for (uint32_t i = drawn(state, 3) + 1; i > 0 && size > 0; i -= 1) {
    size_t most = drawn(state, 2) && size > 48 ? 48 : size;
    size_t at = drawn(state, most);
    uint32_t kind = drawn(state, 3);
    uint32_t changed = kind == 0 ? drawn(state, 256) : kind == 1 ? bytes[at] ^ 1u << drawn(state, 8) : 0xff;
    bytes[at] = (uint8_t)changed;
  }
  if (size > 0 && drawn(state, 6) == 0) return drawn(state, size + 1);
  if (size > 8 && drawn(state, 12) == 0) {
    size_t from = drawn(state, size), some = drawn(state, size - from + 1);
    if (size + some > capacity) some = capacity - size;
    memmove(bytes + from + some, bytes + from, size - from);
    return size + some;
  }
  return size;
}

bool parsers_part(const char *name, const frame *asked) {
  if (strcmp(name, "garble") != 0) return false;
  char *kind = text_field(asked, 1);
  fk_bytes honest = field(asked, 2);
  uint32_t tries = uint_field(asked, 3), state = uint_field(asked, 4) | 1, num_read = 0;
  reader read = NULL;
  for (size_t i = 0; i < sizeof READERS / sizeof *READERS; i += 1) {
    if (strcmp(READERS[i].name, kind) == 0) read = READERS[i].read;
  }
  uint8_t *work = malloc(2 * honest.size + 1);
  if (!read || !work || !read(honest)) give_up("no such reader, or it does not read the honest bytes");
  for (uint32_t i = 0; i < tries; i += 1) {
    memcpy(work, honest.data, honest.size);
    size_t size = garble(work, honest.size, 2 * honest.size, &state);
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) give_up("out of memory");
    memcpy(exact, work, size);
    num_read += read((fk_bytes){exact, size});
    free(exact);
  }
  reply_add_number(num_read);
  free(work);
  free(kind);
  return true;
}
