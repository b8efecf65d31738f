#include <stdarg.h>
#include <stdio.h>

#include "fk_fail.h"

fk_status fk_fail(fk_error *error, fk_status status, const char *format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, format);
  error->status = status;
  vsnprintf(error->message, sizeof error->message, format, arguments);
  va_end(arguments);
  return status;
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
    NAME(FK_REFUSED)
    NAME(FK_CRYPTO)
    NAME(FK_RUNTIME)
    NAME(FK_DIFFERS)
#undef NAME
  }
  return "?";
}
