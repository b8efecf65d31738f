#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fk_fail.h"

fk_status fk_fail(fk_error *error, fk_status status, const char *format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, format);
  error->status = status;
  int length = vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  if (length >= (int)sizeof error->message) { /* cut before a character, not inside it */
    size_t end = sizeof error->message - 1;
    while (end > 0 && (error->message[end - 1] & 0xC0) == 0x80) end--;
    if (end > 0 && (error->message[end - 1] & 0x80)) end--;
    error->message[end] = 0;
  }
  for (char *at = error->message; *at; at++) /* a path may hold anything, and this is one line */
    if ((unsigned char)*at < ' ') *at = '?';
  return status;
}

const char *fk_tail(const char *path) {
  enum { LONGEST = 150 };
  size_t length = strlen(path);
  if (length <= LONGEST) return path;
  for (path += length - LONGEST; (*path & 0xC0) == 0x80;) path++;
  return path;
}

fk_status fk_ok(fk_error *error) {
  if (error) *error = (fk_error){.status = FK_OK};
  return FK_OK;
}

const char *fk_status_name(fk_status status) {
  switch (status) {
#define NAME(name) \
  case name:       \
    return #name;
    NAME(FK_OK)
    NAME(FK_BAD_ARGUMENT)
    NAME(FK_NO_MEMORY)
    NAME(FK_IO)
    NAME(FK_DAMAGED)
    NAME(FK_UNSUPPORTED)
    NAME(FK_UNTRUSTED)
    NAME(FK_CRYPTO)
    NAME(FK_RUNTIME)
    NAME(FK_DIFFERS)
    NAME(FK_WIRE_ERROR)
    NAME(FK_UNEXPECTED_MESSAGE)
    NAME(FK_SESSION_REPLAYED)
    NAME(FK_WEAK_PARAMETERS)
    NAME(FK_ROSTER_REFUSED)
    NAME(FK_SHARES_REFUSED)
    NAME(FK_SURVIVORS_REFUSED)
    NAME(FK_SPLIT_VIEW)
    NAME(FK_ALIVE_AND_DEAD)
    NAME(FK_TOO_FEW_PEERS)
    NAME(FK_RUN_CHANGED)
    NAME(FK_DEMAND_REFUSED)
    NAME(FK_KEYS_ERROR)
    NAME(FK_MALFORMED_MESSAGE)
    NAME(FK_FOREIGN_ROUND)
    NAME(FK_FOREIGN_HELPER)
    NAME(FK_BELOW_THRESHOLD)
    NAME(FK_ROUND_ANSWERED)
    NAME(FK_UNSIGNED_ROSTER)
    NAME(FK_FOREIGN_ROSTER)
    NAME(FK_FORGED_ROSTER)
    NAME(FK_OLD_ROSTER)
    NAME(FK_FORKED_ROSTER)
    NAME(FK_NOT_ON_ROSTER)
#undef NAME
  }
  return "?";
}
