/* The words and sentences of typed text: version 2 of the rules, as docs/tokeniser.md states them. Not for apps. */
#ifndef FK_TOKENISER_H
#define FK_TOKENISER_H

#include "fk_protocol_parts.h"

enum { FK_TOKENISER_VERSION = 2 };

typedef struct fk_tokeniser fk_tokeniser;

fk_status fk_tokeniser_open(fk_tokeniser **tokeniser, fk_error *error);
void fk_tokeniser_close(fk_tokeniser *tokeniser);
/* Writes a message's sentences: words with a space between two, and a newline after the last. Sentences without words are
 * left out. With `only_open`, the one sentence that the message has not ended yet comes out, with or without words. */
fk_status fk_tokeniser_read(fk_tokeniser *tokeniser, fk_bytes message, bool only_open, fk_buffer *sentences,
                            fk_error *error);

#endif
