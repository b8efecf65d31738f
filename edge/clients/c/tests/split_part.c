/* Questions about the split sum. */
#include <stdlib.h>
#include <string.h>

#include "peer.h"

#define IS(text) (strcmp(name, (text)) == 0)

/* Fields: the configuration, then the words. */
static fk_status run_name(const frame *asked, fk_error *error) {
  fk_word words[MOST_FIELDS];
  uint8_t digest[32];
  fk_bytes config = field(asked, 1);
  uint8_t *exact = malloc(config.size + 1);
  if (!exact) give_up("out of memory");
  memcpy(exact, config.data, config.size);
  for (size_t i = 2; i < asked->count; i += 1) words[i - 2] = (fk_word){(const char *)field(asked, i).data, field(asked, i).size};
  fk_status status = fk_run_name((fk_bytes){exact, config.size}, words, asked->count - 2, digest, error);
  free(exact);
  if (status == FK_OK) reply_add(digest, sizeof digest);
  return status;
}

/* Fields: name, identity, helpers, least, last answered, draws, terms, vector, run, version, agreed, groups. */
static fk_status upload(const frame *asked, fk_error *error) {
  char *client_id = text_field(asked, 1);
  fk_bytes helpers = field(asked, 3), vector = field(asked, 8);
  recorded draws = record(field(asked, 6));
  uint32_t *words = malloc(vector.size + 1);
  if (!words) give_up("out of memory");
  memcpy(words, vector.data, vector.size);
  const fk_splitter own = {client_id, field_of(asked, 2, 32), (const uint8_t (*)[FK_KEY_BYTES])helpers.data, helpers.size / 32,
                           uint_field(asked, 4), uint_field(asked, 5), {replay, &draws}};
  fk_told told = {.version = uint_field(asked, 10), .num_groups = uint_field(asked, 12)};
  memcpy(told.run, field_of(asked, 9, 32), 32);
  memcpy(told.agreed, field_of(asked, 11, 32), 32);
  fk_buffer answer = {0};
  fk_status status = fk_split_mask(&own, field(asked, 7), words, vector.size / 4, &told, &answer, error);
  if (status != FK_OK && (answer.size || draws.at)) give_up("a refusal with an answer, or a draw");
  reply_add(answer.data, answer.size);
  fk_buffer_close(&answer);
  free(words);
  free(draws.left);
  free(client_id);
  return status;
}

bool split_part(const char *name, const frame *asked) {
  fk_error error = {0};
  fk_status status;
  if (IS("run name")) status = run_name(asked, &error);
  else if (IS("upload")) status = upload(asked, &error);
  else return false;
  if (status != FK_OK) reply_error(status, &error);
  return true;
}
