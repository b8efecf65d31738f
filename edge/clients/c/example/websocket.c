#define _POSIX_C_SOURCE 200809L
#include "websocket.h"

#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CONTINUATION = 0, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };
enum { KEY_BYTES = 16, MOST_HEADER = 16384, MOST_CONTROL = 125, CONNECT_S = 30, PATIENCE_S = 3600 };
#define MOST_MESSAGE ((uint64_t)1 << 28)

struct websocket {
  CURL *curl;
  uint8_t *in; /* what has come, and is no whole frame yet or was not asked for */
  size_t size, capacity;
  uint8_t *message; /* the parts of a message so far */
  size_t message_size;
  bool is_in_message;
  char why[256];
};

typedef struct {
  int opcode;
  bool is_last;
  const uint8_t *data;
  size_t size, whole; /* of the data, and of all of the frame */
} frame;

/* Keeps the first reason as one line of ASCII: a server's words must not steer a terminal. */
static bool end(websocket *socket, const char *why) {
  if (*socket->why) return false;
  snprintf(socket->why, sizeof socket->why, "%s", why);
  for (char *at = socket->why; *at; at++)
    if ((unsigned char)*at < ' ' || (unsigned char)*at > '~') *at = '?';
  return false;
}

/* ---- bytes ---- */

static bool wait_for(websocket *socket, short events) {
  curl_socket_t descriptor = CURL_SOCKET_BAD;
  curl_easy_getinfo(socket->curl, CURLINFO_ACTIVESOCKET, &descriptor);
  struct pollfd one = {descriptor, events, 0};
  int ready = descriptor == CURL_SOCKET_BAD ? -1 : poll(&one, 1, 1000 * PATIENCE_S);
  return ready > 0 || end(socket, ready == 0 ? "the server has said nothing for an hour" : "the connection was lost");
}

static bool send_all(websocket *socket, const uint8_t *data, size_t size) {
  while (size > 0) {
    size_t sent = 0;
    CURLcode code = curl_easy_send(socket->curl, data, size, &sent);
    if (code == CURLE_AGAIN) {
      if (!wait_for(socket, POLLOUT)) return false;
    } else if (code != CURLE_OK) {
      return end(socket, curl_easy_strerror(code));
    }
    data += sent;
    size -= sent;
  }
  return true;
}

/* Reads what has come; `*got` is 0 if nothing has. */
static bool receive_some(websocket *socket, size_t *got) {
  enum { STEP = 1 << 16 };
  *got = 0;
  if (socket->capacity - socket->size < STEP) {
    uint8_t *more = realloc(socket->in, 2 * socket->capacity + STEP);
    if (!more) return end(socket, "out of memory");
    socket->in = more;
    socket->capacity = 2 * socket->capacity + STEP;
  }
  CURLcode code = curl_easy_recv(socket->curl, socket->in + socket->size, STEP, got);
  if (code == CURLE_AGAIN) return true;
  if (code != CURLE_OK) return end(socket, curl_easy_strerror(code));
  socket->size += *got;
  return *got > 0 || end(socket, "the server ended the connection without a goodbye");
}

static bool receive_more(websocket *socket) {
  size_t got;
  while (receive_some(socket, &got)) {
    if (got > 0) return true;
    if (!wait_for(socket, POLLIN)) return false;
  }
  return false;
}

static void drop(websocket *socket, size_t count) {
  memmove(socket->in, socket->in + count, socket->size - count);
  socket->size -= count;
}

/* ---- frames ---- */

/* A client masks what it sends, each frame by another mask. */
static bool send_frame(websocket *socket, int opcode, const uint8_t *data, size_t size) {
  uint8_t head[14] = {(uint8_t)(0x80 | opcode)}, mask[4];
  size_t at = 2, length_bytes = size < 126 ? 0 : size <= 0xffff ? 2 : 8;
  head[1] = (uint8_t)(0x80 | (size < 126 ? size : length_bytes == 2 ? 126 : 127));
  for (size_t i = length_bytes; i > 0; i--) head[at++] = (uint8_t)((uint64_t)size >> (8 * (i - 1)));
  if (RAND_bytes(mask, sizeof mask) != 1) return end(socket, "there is no randomness");
  memcpy(head + at, mask, sizeof mask);
  if (!send_all(socket, head, at + sizeof mask)) return false;
  uint8_t part[4096];
  for (size_t done = 0; done < size;) {
    size_t count = size - done < sizeof part ? size - done : sizeof part;
    for (size_t i = 0; i < count; i++) part[i] = data[done + i] ^ mask[(done + i) % sizeof mask];
    if (!send_all(socket, part, count)) return false;
    done += count;
  }
  return true;
}

/* Finds a whole frame at the beginning of what has come: 1, 0 if it has not come yet, -1 if it is none of a server's. */
static int find_frame(websocket *socket, frame *found) {
  const uint8_t *in = socket->in;
  if (socket->size < 2) return 0;
  size_t head = (in[1] & 0x7f) < 126 ? 2 : (in[1] & 0x7f) == 126 ? 4 : 10;
  uint64_t size = in[1] & 0x7f;
  if (socket->size < head) return 0;
  if (head > 2) size = 0;
  for (size_t i = 2; i < head; i++) size = size << 8 | in[i];
  *found = (frame){in[0] & 0x0f, (in[0] & 0x80) != 0, in + head, (size_t)size, head + (size_t)size};
  bool is_control = found->opcode >= CLOSE;
  bool is_sound = !(in[0] & 0x70) && !(in[1] & 0x80) && size <= (is_control ? MOST_CONTROL : MOST_MESSAGE) &&
                  (!is_control || found->is_last);
  if (is_sound) return socket->size >= found->whole;
  end(socket, "the server sent what is no frame of a WebSocket");
  return -1;
}

/* Answers a ping or a goodbye; false if the connection has ended. */
static bool answer_control(websocket *socket, const frame *control) {
  if (control->opcode == PING && !send_frame(socket, PONG, control->data, control->size)) return false;
  if (control->opcode == CLOSE) {
    unsigned code = control->size >= 2 ? (unsigned)control->data[0] << 8 | control->data[1] : 1005;
    int length = control->size > 2 ? (int)control->size - 2 : 0;
    char why[160];
    snprintf(why, sizeof why, "the server closed with %u %.*s", code, length, length ? (const char *)control->data + 2 : "");
    send_frame(socket, CLOSE, control->data, control->size);
    return end(socket, why);
  }
  drop(socket, control->whole);
  return true;
}

static bool take_part(websocket *socket, const frame *part) {
  bool fits = part->opcode == (socket->is_in_message ? CONTINUATION : BINARY);
  if (!fits || part->size > MOST_MESSAGE - socket->message_size)
    return end(socket, "the server sent no binary message, or one that is too long");
  uint8_t *more = realloc(socket->message, socket->message_size + part->size + 1);
  if (!more) return end(socket, "out of memory");
  memcpy(more + socket->message_size, part->data, part->size);
  socket->message = more;
  socket->message_size += part->size;
  socket->is_in_message = !part->is_last;
  drop(socket, part->whole);
  return true;
}

bool websocket_receive(websocket *socket, uint8_t **message, size_t *size) {
  frame next;
  if (*socket->why) return false;
  for (;;) {
    int is_there = find_frame(socket, &next);
    if (is_there < 0 || (is_there == 0 && !receive_more(socket))) return false;
    if (is_there == 0) continue;
    if (next.opcode >= CLOSE ? !answer_control(socket, &next) : !take_part(socket, &next)) return false;
    if (!socket->message || socket->is_in_message) continue;
    *message = socket->message;
    *size = socket->message_size;
    socket->message = NULL;
    socket->message_size = 0;
    return true;
  }
}

bool websocket_send(websocket *socket, const uint8_t *message, size_t size) {
  return !*socket->why && send_frame(socket, BINARY, message, size);
}

void websocket_answer_pings(websocket *socket) {
  frame next;
  size_t got = 1;
  while (!*socket->why && got > 0 && receive_some(socket, &got))
    while (find_frame(socket, &next) == 1 && (next.opcode == PING || next.opcode == PONG))
      if (!answer_control(socket, &next)) return;
}

const char *websocket_why(const websocket *socket) { return *socket->why ? socket->why : "it is open"; }

/* ---- the handshake ---- */

/* What a server that has read the key answers with. */
static void accepted(const char *key, char answer[32]) {
  char both[96];
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  snprintf(both, sizeof both, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  EVP_Digest(both, strlen(both), digest, &size, EVP_sha1(), NULL);
  EVP_EncodeBlock((unsigned char *)answer, digest, (int)size);
}

/* Whether a header of the answer, which ends in 0, has exactly this value. */
static bool has_header(const char *answer, const char *name, const char *value) {
  size_t length = strlen(name), wanted = strlen(value);
  for (const char *line = strstr(answer, "\r\n"); line; line = strstr(line, "\r\n")) {
    line += 2;
    if (strncasecmp(line, name, length) != 0 || line[length] != ':') continue;
    const char *found = line + length + 1;
    while (*found == ' ') found++;
    return strncasecmp(found, value, wanted) == 0 && strncmp(found + wanted, "\r\n", 2) == 0;
  }
  return false;
}

static bool shake_hands(websocket *socket, const char *base, const char *path, const char *subprotocol) {
  uint8_t random[KEY_BYTES];
  char key[32], answer[32], request[1024];
  if (RAND_bytes(random, sizeof random) != 1) return end(socket, "there is no randomness");
  EVP_EncodeBlock((unsigned char *)key, random, sizeof random);
  int size = snprintf(request, sizeof request,
                      "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
                      path, strstr(base, "://") + 3, key, subprotocol);
  if (size >= (int)sizeof request) return end(socket, "the address is too long");
  if (!send_all(socket, (const uint8_t *)request, (size_t)size)) return false;
  const uint8_t *over = NULL;
  while (!over) {
    if (socket->size > MOST_HEADER || !receive_more(socket)) return end(socket, "the server gave no answer of HTTP");
    for (size_t i = 0; i + 4 <= socket->size && !over; i++)
      if (memcmp(socket->in + i, "\r\n\r\n", 4) == 0) over = socket->in + i + 4;
  }
  size_t header = (size_t)(over - socket->in);
  char *text = calloc(1, header + 1);
  if (!text) return end(socket, "out of memory");
  memcpy(text, socket->in, header);
  drop(socket, header);
  accepted(key, answer);
  bool is_one = strncmp(text, "HTTP/1.1 101 ", 13) == 0 && has_header(text, "Upgrade", "websocket") &&
                has_header(text, "Sec-WebSocket-Accept", answer) && has_header(text, "Sec-WebSocket-Protocol", subprotocol);
  text[strcspn(text, "\r\n")] = 0;
  char why[160];
  snprintf(why, sizeof why, "the server opened no WebSocket: %.100s", text);
  free(text);
  return is_one || end(socket, why);
}

static bool begin(websocket *socket, const char *base, const char *ca) {
  CURL *curl = socket->curl = curl_easy_init();
  if (!curl) return end(socket, "libcurl can't begin");
  curl_easy_setopt(curl, CURLOPT_URL, base);
  curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* or TLS agrees on HTTP/2 */
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_S);
  if (ca) curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
  CURLcode code = curl_easy_perform(curl);
  return code == CURLE_OK || end(socket, curl_easy_strerror(code));
}

websocket *websocket_open(const char *base, const char *path, const char *subprotocol, const char *ca) {
  websocket *socket = calloc(1, sizeof *socket);
  if (!socket) return NULL;
  bool is_safe = strncmp(base, "https://", 8) == 0 || strncmp(base, "http://localhost:", 17) == 0;
  if (!is_safe) end(socket, "the address must begin with https://, or with http://localhost:");
  else if (begin(socket, base, ca)) shake_hands(socket, base, path, subprotocol);
  return socket;
}

void websocket_close(websocket *socket) {
  if (!socket) return;
  if (socket->curl) curl_easy_cleanup(socket->curl);
  free(socket->in);
  free(socket->message);
  free(socket);
}
