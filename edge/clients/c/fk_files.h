/* Files: regular ones only, of a bounded size, read whole; written whole or not at all. Not for apps. */
#ifndef FK_FILES_H
#define FK_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "fk_fail.h"

typedef struct {
  uint8_t *bytes; /* free() it; a 0 follows the last */
  size_t size;
} fk_file;

/* The path of what lies in a folder, or a copy of the folder's own if `name` is NULL; free() it. NULL: no memory. */
char *fk_join(const char *folder, const char *name);
/* A file that the caller names; its path may lead over links. */
fk_status fk_read_file(const char *path, size_t max_bytes, fk_file *file, fk_error *error);
/* A file inside of a folder that anybody may have made: no link is followed on the way from the folder to it. */
fk_status fk_read_inside(const char *folder, const char *name, size_t max_bytes, fk_file *file, fk_error *error);
/* What `path` is called until it is written whole; free() it. NULL: no memory. */
char *fk_partial(const char *path);
/* Writes two pieces to `path`, readable by its owner alone if `is_private`. */
fk_status fk_write_file(const char *path, const void *header, size_t header_bytes, const void *body, size_t body_bytes,
                        int is_private, fk_error *error);
/* Brings the names in the folder of `path` to the disk: what was written there stays there after a loss of power. */
fk_status fk_sync_folder_of(const char *path, fk_error *error);

#endif
