/* Reads a bundle: signature, digests, folder. */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fk_bundle.h"
#include "fk_digest.h"
#include "fk_protocol_parts.h"

/* Limits of the schema: those of edge/bundle/manifest.py. */
enum { MAX_MANIFEST = 1 << 20, MAX_SIGNATURE = 4096 };
static const size_t MAX_BYTES_PER_WEIGHT = 16, MAX_OTHER_BYTES = (size_t)64 << 20;

void fk_free(void *memory) { free(memory); }

/* Of all files together. */
static size_t most_bytes(const fk_bundle *bundle) {
  return MAX_BYTES_PER_WEIGHT * (bundle->info.num_weights + bundle->num_frozen) + MAX_OTHER_BYTES;
}

/* Whether a name stays in the folder and is written in one way only: no part is empty, "." or "..". */
static bool is_inside(const char *name, size_t length) {
  if (length == 0 || length > FK_MAX_FILE_NAME || memchr(name, '\\', length) || memchr(name, 0, length)) return false;
  for (size_t start = 0, at = 0; at <= length; at++) {
    if (at < length && name[at] != '/') continue;
    size_t part = at - start;
    if (part == 0 || (part <= 2 && memcmp(name + start, "..", part) == 0)) return false;
    start = at + 1;
  }
  return true;
}

static fk_status read_entry(fk_bundle *bundle, const char *name, size_t length, fk_value value, fk_error *error) {
  fk_value field;
  double bytes;
  const char *hex;
  size_t hex_length;
  fk_entry *added = &bundle->entries[bundle->num_entries];
  if (!is_inside(name, length))
    return fk_fail(error, FK_UNTRUSTED, "manifest.json names a file that leaves the bundle's folder: do not use it");
  memcpy(added->name, name, length);
  added->name[length] = 0;
  for (size_t i = 0; i < bundle->num_entries; i++)
    if (strcmp(bundle->entries[i].name, added->name) == 0)
      return fk_fail(error, FK_DAMAGED, "manifest.json lists %s twice: do not use it", added->name);
  size_t most = most_bytes(bundle);
  if (!fk_value_find(value, "bytes", &field) || !fk_value_number(field, &bytes))
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json has no files %s bytes: export the run again",
                   fk_tail(bundle->folder), added->name);
  if (!(bytes >= 0 && bytes <= (double)most))
    return fk_fail(error, FK_UNSUPPORTED, "manifest.json lists %.0f bytes of %s, %zu are allowed: do not use it", bytes,
                   added->name, most);
  if (!fk_value_find(value, "sha256", &field) || !fk_value_string(field, &hex, &hex_length) ||
      !fk_from_hex(hex, hex_length, added->sha256, sizeof added->sha256))
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json has no files %s sha256: export the run again",
                   fk_tail(bundle->folder), added->name);
  added->bytes = (size_t)bytes;
  bundle->num_entries++;
  return FK_OK;
}

static fk_status read_entries(fk_bundle *bundle, fk_error *error) {
  fk_value files, value;
  const char *name;
  size_t length, total = 0, most = most_bytes(bundle);
  if (!fk_value_find(fk_bundle_document(bundle), "files", &files))
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json has no files: export the run again", fk_tail(bundle->folder));
  while (fk_value_next(&files, &name, &length, &value)) {
    if (bundle->num_entries == FK_MAX_FILES)
      return fk_fail(error, FK_UNSUPPORTED, "manifest.json lists more than %d files: do not use it", FK_MAX_FILES);
    FK_TRY(read_entry(bundle, name, length, value, error));
    total += bundle->entries[bundle->num_entries - 1].bytes;
  }
  if (total > most)
    return fk_fail(error, FK_UNSUPPORTED, "manifest.json lists %zu bytes, %zu are allowed: do not use it", total, most);
  return FK_OK;
}

/* ---- signature ---- */

static bool has_text(fk_value document, const char *key, const char *wanted) {
  fk_value value;
  const char *text;
  size_t length;
  return fk_value_find(document, key, &value) && fk_value_string(value, &text, &length) &&
         fk_value_is(text, length, wanted);
}

static bool has_hex(fk_value document, const char *key, uint8_t *bytes, size_t size) {
  fk_value value;
  const char *text;
  size_t length;
  return fk_value_find(document, key, &value) && fk_value_string(value, &text, &length) &&
         fk_from_hex(text, length, bytes, size);
}

static fk_status check_signature(fk_bundle *bundle, fk_error *error) {
  fk_bundle_info *info = &bundle->info;
  fk_file file;
  char *path = fk_join(bundle->folder, "SIGNATURE");
  struct stat status;
  if (!path) return fk_fail(error, FK_NO_MEMORY, "out of memory");
  bool is_there = lstat(path, &status) == 0 || errno != ENOENT;
  free(path);
  if (!is_there) return FK_OK;
  FK_TRY(fk_read_inside(bundle->folder, "SIGNATURE", MAX_SIGNATURE, &file, error));
  fk_value text = {(const char *)file.bytes, (const char *)file.bytes + file.size};
  uint8_t signature[FK_SIGNATURE_BYTES];
  bool is_whole = fk_value_is_json(text) && has_text(text, "algorithm", "Ed25519") &&
                  has_text(text, "signs", "manifest.json") &&
                  has_hex(text, "public_key", info->public_key, sizeof info->public_key) &&
                  has_hex(text, "signature", signature, sizeof signature);
  free(file.bytes);
  if (!is_whole)
    return fk_fail(error, FK_DAMAGED, "%s/SIGNATURE is damaged: copy the bundle again", fk_tail(bundle->folder));
  fk_bytes manifest = {bundle->manifest.bytes, bundle->manifest.size};
  bool is_signed;
  FK_TRY(fk_is_signed(signature, info->public_key, manifest, &is_signed, error));
  if (!is_signed)
    return fk_fail(error, FK_UNTRUSTED,
                   "%s/SIGNATURE does not sign this manifest.json: one of them was changed; do not use it",
                   fk_tail(bundle->folder));
  info->is_signed = true;
  return FK_OK;
}

static fk_status check_signer(const fk_bundle *bundle, const fk_trust *trust, fk_error *error) {
  if (!trust) return FK_OK;
  if (!bundle->info.is_signed && (trust->require_signature || trust->public_key))
    return fk_fail(error, FK_UNTRUSTED, "%s is not signed: take the bundle from whoever releases the app",
                   fk_tail(bundle->folder));
  if (trust->public_key && memcmp(trust->public_key, bundle->info.public_key, FK_KEY_BYTES) != 0)
    return fk_fail(error, FK_UNTRUSTED, "%s is signed with another key than the app's: do not use it",
                   fk_tail(bundle->folder));
  return FK_OK;
}

/* ---- the bundle ---- */

static fk_status open_with(fk_bundle *bundle, const fk_trust *trust, fk_error *error) {
  FK_TRY(fk_read_inside(bundle->folder, "manifest.json", MAX_MANIFEST, &bundle->manifest, error));
  fk_bytes manifest = {bundle->manifest.bytes, bundle->manifest.size};
  FK_TRY(fk_sha256(&manifest, 1, bundle->info.manifest_sha256, error));
  FK_TRY(check_signature(bundle, error));
  FK_TRY(check_signer(bundle, trust, error));
  FK_TRY(fk_bundle_read_model(bundle, error));
  return read_entries(bundle, error);
}

fk_status fk_bundle_open(const char *folder, const fk_trust *trust, fk_bundle **bundle, fk_error *error) {
  if (!folder || !bundle) return fk_fail(error, FK_BAD_ARGUMENT, "fk_bundle_open needs a folder and a place");
  *bundle = NULL;
  fk_bundle *opened = calloc(1, sizeof *opened);
  if (opened) opened->folder = fk_join(folder, NULL);
  if (!opened || !opened->folder) {
    free(opened);
    return fk_fail(error, FK_NO_MEMORY, "out of memory: %zu bytes wanted", sizeof *opened);
  }
  fk_status status = open_with(opened, trust, error);
  if (status != FK_OK) {
    fk_bundle_close(opened);
    return status;
  }
  *bundle = opened;
  return fk_ok(error);
}

void fk_bundle_close(fk_bundle *bundle) {
  if (!bundle) return;
  free(bundle->folder);
  free(bundle->manifest.bytes);
  free(bundle->weights.names);
  free(bundle);
}

const fk_bundle_info *fk_bundle_get_info(const fk_bundle *bundle) { return &bundle->info; }

fk_status fk_bundle_read(const fk_bundle *bundle, const char *name, uint8_t **bytes, size_t *size, fk_error *error) {
  if (!bundle || !name || !bytes || !size)
    return fk_fail(error, FK_BAD_ARGUMENT, "fk_bundle_read needs a bundle, a name and places");
  const fk_entry *listed = NULL;
  for (size_t i = 0; i < bundle->num_entries; i++)
    if (strcmp(bundle->entries[i].name, name) == 0) listed = &bundle->entries[i];
  if (!listed)
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json has no files %s bytes: export the run again",
                   fk_tail(bundle->folder), name);
  fk_file file;
  size_t most = most_bytes(bundle);
  FK_TRY(fk_read_inside(bundle->folder, name, most, &file, error));
  uint8_t digest[FK_DIGEST_BYTES];
  fk_status status = FK_OK;
  if (file.size != listed->bytes)
    status = fk_fail(error, FK_UNTRUSTED, "%s/%s has %zu bytes, the manifest says %zu: copy the bundle again",
                     fk_tail(bundle->folder), name, file.size, listed->bytes);
  if (status == FK_OK) status = fk_sha256(&(fk_bytes){file.bytes, file.size}, 1, digest, error);
  if (status == FK_OK && memcmp(digest, listed->sha256, sizeof digest) != 0)
    status = fk_fail(error, FK_UNTRUSTED,
                     "%s/%s is not the file that was exported (its SHA-256 differs): copy the bundle again",
                     fk_tail(bundle->folder), name);
  if (status != FK_OK) {
    free(file.bytes);
    return status;
  }
  *bytes = file.bytes;
  *size = file.size;
  return fk_ok(error);
}

/* ---- the whole folder ---- */

static bool is_listed(const fk_bundle *bundle, const char *name, bool is_folder) {
  size_t length = strlen(name);
  if (!is_folder && (strcmp(name, "manifest.json") == 0 || strcmp(name, "SIGNATURE") == 0)) return true;
  for (size_t i = 0; i < bundle->num_entries; i++) {
    const char *listed = bundle->entries[i].name;
    if (is_folder ? strncmp(listed, name, length) == 0 && listed[length] == '/' : strcmp(listed, name) == 0) return true;
  }
  return false;
}

/* Refuses whatever a folder inside of the bundle holds and the manifest does not; `inside` is "" or ends in a slash. */
static fk_status check_folder(const fk_bundle *bundle, const char *inside, fk_error *error) {
  char *path = fk_join(bundle->folder, inside);
  if (!path) return fk_fail(error, FK_NO_MEMORY, "out of memory");
  int place = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *folder = place < 0 ? NULL : fdopendir(place);
  fk_status status = FK_OK;
  if (!folder) {
    status = fk_fail(error, FK_IO, "%s: can't be read: %s", fk_tail(path), strerror(errno));
    if (place >= 0) close(place);
  }
  free(path);
  for (struct dirent *found; status == FK_OK && (found = readdir(folder));) {
    if (strcmp(found->d_name, ".") == 0 || strcmp(found->d_name, "..") == 0) continue;
    struct stat kind;
    char name[FK_MAX_FILE_NAME + 2];
    size_t length = strlen(inside), more = strlen(found->d_name);
    bool fits = length + more <= FK_MAX_FILE_NAME && fstatat(place, found->d_name, &kind, AT_SYMLINK_NOFOLLOW) == 0;
    if (fits) {
      memcpy(name, inside, length);
      memcpy(name + length, found->d_name, more + 1);
    }
    bool is_folder = fits && S_ISDIR(kind.st_mode);
    if (!fits || !(is_folder || S_ISREG(kind.st_mode)) || !is_listed(bundle, name, is_folder)) {
      status = fk_fail(error, FK_UNTRUSTED, "%s/%s%s is not in the manifest: remove it, or export the run again",
                       fk_tail(bundle->folder), inside, found->d_name);
    } else if (is_folder) {
      memcpy(name + length + more, "/", 2);
      status = check_folder(bundle, name, error); /* as deep as a listed name, no deeper */
    }
  }
  if (folder) closedir(folder);
  return status;
}

fk_status fk_bundle_verify(const fk_bundle *bundle, fk_error *error) {
  if (!bundle) return fk_fail(error, FK_BAD_ARGUMENT, "fk_bundle_verify needs a bundle");
  if (!fk_value_is_json(fk_bundle_document(bundle)))
    return fk_fail(error, FK_DAMAGED, "%s/manifest.json is damaged: copy the bundle again", fk_tail(bundle->folder));
  FK_TRY(check_folder(bundle, "", error));
  for (size_t i = 0; i < bundle->num_entries; i++) {
    uint8_t *bytes;
    size_t size;
    FK_TRY(fk_bundle_read(bundle, bundle->entries[i].name, &bytes, &size, error));
    free(bytes);
  }
  return fk_ok(error);
}
