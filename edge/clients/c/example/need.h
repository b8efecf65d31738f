/* What the program can't go on without: each of these ends it, with a line that says why. */
#ifndef NEED_H
#define NEED_H

#include <stddef.h>

#include "../fedkeys.h"

_Noreturn void stop(int code, const char *format, ...);
/* Ends with 3 if a call refused what could expose the client, with 2 if it failed otherwise. */
void check(fk_status status, const fk_error *error);
void *allocate(size_t count, size_t size); /* zeros */
char *path_of(const char *folder, const char *name, const char *ending);
/* Reads a file whole; a 0 follows its last byte. */
char *read_file(const char *path, size_t *size);

#endif
