#define _POSIX_C_SOURCE 200809L
#include "enrolment.h"

#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "need.h"

static void read_identity(const char *keys, const char *client_id, uint8_t identity[FK_KEY_BYTES],
                          uint8_t public_key[FK_KEY_BYTES]) {
  char *folder = path_of(keys, "clients", ""), *path = path_of(folder, client_id, ".key");
  FILE *file = fopen(path, "rb");
  EVP_PKEY *key = file ? PEM_read_PrivateKey(file, NULL, NULL, NULL) : NULL;
  size_t size = FK_KEY_BYTES, public_size = FK_KEY_BYTES;
  bool is_one = key && EVP_PKEY_get_id(key) == EVP_PKEY_ED25519 &&
                EVP_PKEY_get_raw_private_key(key, identity, &size) == 1 &&
                EVP_PKEY_get_raw_public_key(key, public_key, &public_size) == 1;
  if (!is_one) stop(2, "%s holds no Ed25519 key: make one by `fedkeys enrol --client-id %s --keys %s`", path, client_id, keys);
  EVP_PKEY_free(key);
  fclose(file);
  free(path);
  free(folder);
}

static bool from_hex(const char *hex, uint8_t *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) {
    unsigned byte;
    if (sscanf(hex + 2 * i, "%2x", &byte) != 1) return false;
    bytes[i] = (uint8_t)byte;
  }
  return true;
}

/* operator.pub: the key, a space and what names the folder, in hex. */
static fk_operator read_operator(const char *keys) {
  fk_operator signer;
  size_t size;
  char *path = path_of(keys, "operator", ".pub"), *content = read_file(path, &size);
  if (size < 97 || content[64] != ' ' || !from_hex(content, signer.key, sizeof signer.key) ||
      !from_hex(content + 65, signer.roster_id, sizeof signer.roster_id))
    stop(2, "%s is damaged: get it from the operator again", path);
  free(content);
  free(path);
  return signer;
}

enrolment enrolled(const char *keys, const char *client_id) {
  enrolment found = {.options = {.client_id = client_id}};
  uint8_t public_key[FK_KEY_BYTES];
  fk_error error;
  fk_seen_roster before, seen;
  char fingerprint[33];
  size_t size;
  read_identity(keys, client_id, found.options.identity, public_key);
  fk_operator signer = read_operator(keys);
  check(fk_operator_fingerprint(&signer, fingerprint, &error), &error);
  char *state = path_of(keys, "state", ""), *path = path_of(state, client_id, ".json");
  mkdir(state, 0700); /* it may be there */
  check(fk_journal_file_open(path, &found.journal, &error), &error);
  check(fk_journal_file_seen(found.journal, fingerprint, &before, &error), &error);
  char *roster_path = path_of(keys, "roster", ".json"), *content = read_file(roster_path, &size);
  fk_status status = fk_signed_roster_open(content, size, &signer, &before, client_id, public_key, &found.roster, &seen, &error);
  if (status == FK_OK || status == FK_NOT_ON_ROSTER) {
    fk_error own;
    check(fk_journal_file_see(found.journal, fingerprint, &seen, &own), &own);
  }
  check(status, &error);
  printf("the roster's operator is %s\n", fingerprint);
  found.options.roster = fk_signed_roster_clients(found.roster, &found.options.roster_size);
  found.options.journal = fk_journal_file_callbacks(found.journal);
  free(content);
  free(roster_path);
  free(path);
  free(state);
  return found;
}
