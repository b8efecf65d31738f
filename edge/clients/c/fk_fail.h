/* How the library's own files report a failure. Not for apps. */
#ifndef FK_FAIL_H
#define FK_FAIL_H

#include "fk_error.h"

/* Returns `status`, after it has written it and a line, formatted as printf does, to `error` if that is not NULL. */
__attribute__((format(printf, 3, 4))) fk_status fk_fail(fk_error *error, fk_status status, const char *format, ...);
/* Returns FK_OK, after it has emptied `error` if that is not NULL. */
fk_status fk_ok(fk_error *error);

/* The end of a path that is too long for a line beside what is said of it; else the whole. */
const char *fk_tail(const char *path);

/* Returns from the calling function if `call`, an fk_status, is not FK_OK. */
#define FK_TRY(call)                          \
  do {                                        \
    fk_status fk_tried = (call);              \
    if (fk_tried != FK_OK) return fk_tried;   \
  } while (0)

#endif
