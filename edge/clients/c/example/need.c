#define _POSIX_C_SOURCE 200809L
#include "need.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void stop(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("take_part: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  exit(code);
}

void check(fk_status status, const fk_error *error) {
  if (status == FK_OK) return;
  bool is_refusal = status > FK_DIFFERS && status != FK_WIRE_ERROR && status != FK_KEYS_ERROR;
  stop(is_refusal ? 3 : 2, "%s: %s", fk_status_name(status), error->message);
}

void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (!memory) stop(2, "out of memory");
  return memory;
}

char *path_of(const char *folder, const char *name, const char *ending) {
  size_t size = strlen(folder) + strlen(name) + strlen(ending) + 2;
  char *path = allocate(size, 1);
  snprintf(path, size, "%s/%s%s", folder, name, ending);
  return path;
}

char *read_file(const char *path, size_t *size) {
  enum { MOST = 1 << 28 };
  FILE *file = fopen(path, "rb");
  if (!file || fseek(file, 0, SEEK_END) != 0) stop(2, "%s can't be read", path);
  long length = ftell(file);
  if (length < 0 || length > MOST) stop(2, "%s can't be read", path);
  char *content = allocate((size_t)length + 1, 1);
  rewind(file);
  *size = fread(content, 1, (size_t)length, file);
  if (*size != (size_t)length) stop(2, "%s can't be read to its end", path);
  fclose(file);
  return content;
}
