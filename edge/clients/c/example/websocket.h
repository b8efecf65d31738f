/* A WebSocket (RFC 6455) over libcurl's connection and its TLS. libcurl's own calls for it, curl_ws_recv and curl_ws_send,
 * are left out of many builds, Debian 12's among them. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct websocket websocket;

/* Connects to a path of a server and agrees on a subprotocol. If that fails nothing can be received, and websocket_why
 * says why; NULL: there is no memory.
 * `base`: https://HOST:PORT, or http:// on this machine; `ca`: a file of certificates in PEM, or NULL for the system's. */
websocket *websocket_open(const char *base, const char *path, const char *subprotocol, const char *ca);
void websocket_close(websocket *socket); /* NULL is fine */
/* Waits for the next message, which is the caller's to free(); false once the connection has ended. */
bool websocket_receive(websocket *socket, uint8_t **message, size_t *size);
/* Sends one message; false if the connection has ended. */
bool websocket_send(websocket *socket, const uint8_t *message, size_t size);
/* Answers the pings that have come, without waiting: call it where work takes longer than the server waits for a pong. */
void websocket_answer_pings(websocket *socket);
/* Why the connection ended: one line. */
const char *websocket_why(const websocket *socket);

#endif
