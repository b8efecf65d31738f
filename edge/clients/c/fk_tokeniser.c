/* The rules are regular expressions, so PCRE2 runs them; utf8proc composes and lowers. The names are those of
 * docs/tokeniser.md, and nothing here may be "improved": the words must be those that the model was trained on.
 * PCRE2 knows no difference of classes before 10.45: [[A]--[B]] is (?![B])[A], or [^...] of all that is not in it. \s, \d and \b are written out,
 * since PCRE2's differ from Python's. Over 300 lines: the expressions, and what is done by them. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "fk_tokeniser.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "fk_unicode.h"

/* What stands for what: {NAME} in a pattern is the pattern of that name. */
static const char *const PARTS[][2] = {
    {"S", "\\p{White_Space}"},
    {"D", "\\p{Nd}"},
    {"W", "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]"},
    {"EDGE", "(?:(?<={W})(?!{W})|(?<!{W})(?={W}))"},
    /* \p{LB=SA}, of Unicode 17 */
    {"SOUTH_EAST_ASIAN",
     "\\x{e01}-\\x{e3a}\\x{e40}-\\x{e4e}\\x{e81}-\\x{e82}\\x{e84}\\x{e86}-\\x{e8a}\\x{e8c}-\\x{ea3}\\x{ea5}"
     "\\x{ea7}-\\x{ebd}\\x{ec0}-\\x{ec4}\\x{ec6}\\x{ec8}-\\x{ece}\\x{edc}-\\x{edf}\\x{1000}-\\x{103f}"
     "\\x{1050}-\\x{108f}\\x{109a}-\\x{109f}\\x{1780}-\\x{17d3}\\x{17d7}\\x{17dc}-\\x{17dd}\\x{1950}-\\x{196d}"
     "\\x{1970}-\\x{1974}\\x{1980}-\\x{19ab}\\x{19b0}-\\x{19c9}\\x{19de}-\\x{19df}\\x{1a20}-\\x{1a5e}"
     "\\x{1a60}-\\x{1a7c}\\x{1aa0}-\\x{1aad}\\x{a9e0}-\\x{a9ef}\\x{a9fa}-\\x{a9fe}\\x{aa60}-\\x{aac2}"
     "\\x{aadb}-\\x{aadf}\\x{11700}-\\x{1171a}\\x{1171d}-\\x{1172b}\\x{1173a}-\\x{1173b}\\x{1173f}-\\x{11746}"},
    {"UNSPACED", "\\p{sc:Han}\\p{sc:Hiragana}\\p{sc:Katakana}\\p{sc:Bopomofo}{SOUTH_EAST_ASIAN}"},
    /* [[\p{L}\p{Mn}\p{Mc}\p{Nd}]--[{UNSPACED}]] and the same with a hyphen, as one class each, which a repetition does not
     * copy: all but the other categories, of which Pd without the hyphen is that of Unicode 17. */
    {"NOT_NAMED",
     "\\p{C}\\p{Me}\\p{Nl}\\p{No}\\p{Pc}\\p{Pe}\\p{Pf}\\p{Pi}\\p{Po}\\p{Ps}\\p{S}\\p{Z}\\x{58a}\\x{5be}"
     "\\x{1400}\\x{1806}\\x{2010}-\\x{2015}\\x{2e17}\\x{2e1a}\\x{2e3a}\\x{2e3b}\\x{2e40}\\x{2e5d}\\x{301c}"
     "\\x{3030}\\x{30a0}\\x{fe31}\\x{fe32}\\x{fe58}\\x{fe63}\\x{ff0d}\\x{10d6e}\\x{10ead}{UNSPACED}"},
    {"NAME", "[^\\-{NOT_NAMED}]"},
    {"NAME_OR_HYPHEN", "[^{NOT_NAMED}]"},
    {"LABEL", "{NAME}(?:{NAME_OR_HYPHEN}{0,61}{NAME})?"},
    {"IN_ADDRESS", "[^{S}<>\"{UNSPACED}]"},
    {"PATH", "(?:[/?#]{IN_ADDRESS}*)?"},
    {"NOT_IN_HOST", "(?<!{NAME})(?<![.@])"},
    /* Where case does not matter, Python's package regex takes the Turkish U+0130 for an i as well. */
    {"I", "[i\\x{130}]"},
    {"LATIN", "a-z\\x{130}"},
    {"DOMAINS", "com|org|net|edu|gov|m{I}l|{I}o|{I}nfo|b{I}z|app|dev|xyz"},
    {"SPACE", "[ \\x{a0}\\x{2007}\\x{2009}\\x{202f}]"},
    {"CLOSING", "[\\p{Pe}\\p{Pf}\"'*_~]"},
    /* \p{Sentence_Terminal} of Unicode 17: what it has beyond 14, which PCRE2 10.42 knows, is written out */
    {"TERMINAL",
     "\\p{Sentence_Terminal}\\x{17d4}\\x{17d5}\\x{1b4e}\\x{1b4f}\\x{1b7f}\\x{2024}\\x{2cf9}-\\x{2cfb}\\x{2e60}"
     "\\x{2e61}\\x{fe12}\\x{fe15}\\x{fe16}\\x{113d4}\\x{113d5}\\x{11f43}\\x{11f44}\\x{16d6e}\\x{16d6f}"},
    {"LETTER", "(?:(?!\\p{ExtPict})\\p{L})"},
    {"LETTERS", "{LETTER}(?:(?!\\p{ExtPict})[\\p{L}\\p{Mn}\\p{Mc}]|[\\x{200c}\\x{200d}](?={LETTER}))*"},
    {"INNER", "['\\x{b7}\\x{5f3}\\x{5f4}\\x{2027}]"},
    {"NOT_AFTER", "(?<![\\p{L}\\p{Nd}])"},
    {"NOT_BEFORE", "(?![\\p{L}\\p{Nd}])"},
    {"DATE", "{D}{4}-{D}{1,2}-{D}{1,2}|{D}{1,2}([./\\-]){D}{1,2}\\1{D}{2,4}"},
    {"THOUSANDS", "{D}{1,3}([.,]){D}{3}(?:\\2{D}{3})*(?:[.,]{D}{1,2})?"},
    {"DASHES", "\\x{2010}-\\x{2015}"},
    {"KEEP", "(?<![\\p{Nd}.,:])(?:{DATE}|{THOUSANDS})(?!(?:[ .,/()\\-{DASHES}]{0,2}{D}))"},
    {"IGNORED", "\\p{Case_Ignorable}"},
};

enum {
  ENTITY, INVISIBLE, KEYCAP, SCRUB_FIRST, SCRUB_LAST = SCRUB_FIRST + 10,
  SENTENCE_END, FINAL_SIGMA, WORD, LAUGH_1, LAUGH_2, RUN, NUM_PATTERNS
};

typedef struct {
  const char *source;
  uint32_t options;
  char needs; /* a byte without which nothing matches; 0: none */
} rule;

static const rule RULES[NUM_PATTERNS] = {
    [ENTITY] = {"&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});", 0, '&'},
    [INVISIBLE] = {"[\\p{Variation_Selector}\\x{ad}\\x{61c}\\x{200e}\\x{200f}\\x{202a}-\\x{202e}\\x{2060}-"
                "\\x{2064}\\x{2066}-\\x{2069}\\x{feff}]",
                0, 0},
    [KEYCAP] = {"[0-9#*]\\x{20e3}", 0, 0},
    /* mail addresses */
    [SCRUB_FIRST] = {"(?:{NAME_OR_HYPHEN}|[._%+']){1,64}@(?:{LABEL}\\.){1,8}{NAME}{2,24}", 0, '@'},
    /* URLs; hosts of a well-known ending, or of two letters with a path, or with another dot before them */
    [SCRUB_FIRST + 1] = {"{EDGE}(?:[{LATIN}][{LATIN}0-9+.\\-]{1,20}://|www\\.){IN_ADDRESS}+", PCRE2_CASELESS, 0},
    [SCRUB_FIRST + 2] = {"{NOT_IN_HOST}(?:{LABEL}\\.){1,8}(?:{DOMAINS})(?::{D}{1,5})?(?!{NAME}){PATH}",
                PCRE2_CASELESS, '.'},
    [SCRUB_FIRST + 3] = {"{NOT_IN_HOST}(?:{LABEL}\\.){1,8}[{LATIN}]{2}(?::{D}{1,5})?/{IN_ADDRESS}*",
                PCRE2_CASELESS, '/'},
    [SCRUB_FIRST + 4] = {"{NOT_IN_HOST}(?:{NAME}{NAME_OR_HYPHEN}{1,62}\\.){2,8}[{LATIN}]{2}(?!{NAME})(?![.])",
                PCRE2_CASELESS, '.'},
    /* handles */
    [SCRUB_FIRST + 5] = {"{NOT_AFTER}@[\\p{L}\\p{Mn}\\p{Mc}\\p{Nd}_.]{2,30}", 0, '@'},
    /* mark-up: tags without attributes, tags with them, and the placeholders of chat exports */
    [SCRUB_FIRST + 6] = {"</?[A-Za-z][A-Za-z0-9:\\-]{0,30}[ \\t]{0,9}/?>", 0, '<'},
    [SCRUB_FIRST + 7] = {"<[A-Za-z][A-Za-z0-9:\\-]{0,30}[ \\t]{1,9}[A-Za-z_:\\-]{1,30}[ \\t]{0,9}=[^<>]{0,400}>",
                0, '<'},
    [SCRUB_FIRST + 8] = {"{NOT_AFTER}<(?:[\\p{Lu}\\p{Lt}\\p{Lo}][^<>\\n]{0,60}|\\p{L}[^<>\\n:]{0,20}:[^<>\\n]{1,80})>",
                0, '<'},
    /* account numbers such as an IBAN */
    [SCRUB_FIRST + 9] = {"{NOT_AFTER}[A-Z]{2}{D}{2}(?:{SPACE}?[A-Z0-9]{4}){2,7}(?:{SPACE}?[A-Z0-9]{1,3})?{NOT_BEFORE}",
                0, 0},
    /* seven and more digits in groups; what KEEP matches is gone over */
    [SCRUB_LAST] = {"{KEEP}(*SKIP)(*FAIL)|[+(]{0,2}{D}(?:(?:{SPACE}|[.\\-/(){DASHES}]){0,3}{D}){6,}", 0, 0},
    [SENTENCE_END] = {"(?<=[.!?])(?:{S}+|\\z)|(?<=[.!?]){CLOSING}{1,3}(?:{S}+(?!\\p{Ll})|\\z)|[\\n\\r\\x{2028}"
                "\\x{2029}\\x{85}]+|\\.{2,}|\\x{2026}+|{S}\\.{S}|(?:(?![.!?])[{TERMINAL}\\x{ff0e}]"
                ")+{CLOSING}{0,3}",
                0, 0},
    /* Source: the Unicode Standard, table 3-17, Final_Sigma; before the text is lowered */
    [FINAL_SIGMA] = {"(?!{IGNORED})\\p{Cased}{IGNORED}*+\\K\\x{3a3}(?!{IGNORED}*+\\p{Cased})", 0, '\xce'},
    [WORD] = {"{LETTERS}(?:{INNER}{LETTERS})*|{D}+(?:[.,:\\x{66b}\\x{66c}]{D}+)*", 0, 0},
    [LAUGH_1] = {"{NOT_AFTER}[ha]{0,40}(?:ha){3,}h{0,40}a{0,40}{NOT_BEFORE}", 0, 'h'},
    [LAUGH_2] = {"{NOT_AFTER}[\\x{445}\\x{430}]{0,40}(?:\\x{445}\\x{430}){3,}\\x{445}{0,40}\\x{430}{0,40}"
                 "{NOT_BEFORE}",
                 0, '\xd1'},
    [RUN] = {"(\\p{L})\\1{3,}", 0, 0},
};

struct fk_tokeniser {
  pcre2_code *patterns[NUM_PATTERNS];
  pcre2_match_data *match;
};

/* Adds a pattern, with each {NAME} in it replaced; the brackets of \\p{...} are none. */
static void add_pattern(fk_buffer *out, const char *pattern) {
  for (const char *at = pattern; *at; at++) {
    size_t part = 0, count = sizeof PARTS / sizeof *PARTS, length = strcspn(at + 1, "}");
    bool is_name = *at == '{' && (at == pattern || at[-1] != 'p');
    while (part < count && !(is_name && strlen(PARTS[part][0]) == length && memcmp(at + 1, PARTS[part][0], length) == 0))
      part++;
    if (part < count) {
      add_pattern(out, PARTS[part][1]); /* as deep as the table is */
      at += length + 1;
    } else {
      fk_buffer_add(out, at, 1);
    }
  }
}

static fk_status compile(size_t pattern, pcre2_code **compiled, fk_error *error) {
  int fault = 0;
  PCRE2_SIZE place = 0;
  fk_buffer source = {0};
  add_pattern(&source, RULES[pattern].source);
  if (source.failed) {
    fk_buffer_close(&source);
    return fk_no_memory(error);
  }
  uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | RULES[pattern].options;
  *compiled = pcre2_compile(source.data, source.size, options, &fault, &place, NULL);
  fk_buffer_close(&source);
  if (*compiled) return FK_OK;
  return fk_fail(error, FK_UNSUPPORTED,
                 "PCRE2 does not take rule %zu of the tokeniser at %zu (error %d): use 10.40 or newer", pattern,
                 (size_t)place, fault);
}

fk_status fk_tokeniser_open(fk_tokeniser **tokeniser, fk_error *error) {
  fk_tokeniser *opened = calloc(1, sizeof *opened);
  if (opened) opened->match = pcre2_match_data_create(4, NULL);
  if (!opened || !opened->match) {
    free(opened);
    return fk_no_memory(error);
  }
  fk_status status = FK_OK;
  for (size_t i = 0; status == FK_OK && i < NUM_PATTERNS; i++) status = compile(i, &opened->patterns[i], error);
  if (status == FK_OK)
    *tokeniser = opened;
  else
    fk_tokeniser_close(opened);
  return status;
}

void fk_tokeniser_close(fk_tokeniser *tokeniser) {
  if (!tokeniser) return;
  for (size_t i = 0; i < NUM_PATTERNS; i++) pcre2_code_free(tokeniser->patterns[i]);
  pcre2_match_data_free(tokeniser->match);
  free(tokeniser);
}

/* A search in a text, from the left. */
typedef struct {
  fk_tokeniser *tokeniser;
  size_t pattern;
  fk_bytes text;
  size_t from;       /* where the next match may begin */
  size_t start, end; /* of the match that was found */
  bool found;
} search;

static search search_for(fk_tokeniser *tokeniser, size_t pattern, fk_bytes text) {
  return (search){.tokeniser = tokeniser, .pattern = pattern, .text = text};
}

/* Finds the next match. No rule but SENTENCE_END matches nothing, and that at the text's end only. */
static fk_status find_next(search *place, fk_error *error) {
  place->found = false;
  char needs = RULES[place->pattern].needs;
  if (place->from > place->text.size || (needs && place->from == 0 && place->text.size > 0 &&
                                         !memchr(place->text.data, needs, place->text.size)))
    return FK_OK;
  const uint8_t *data = place->text.data ? place->text.data : (const uint8_t *)"";
  int count = pcre2_match(place->tokeniser->patterns[place->pattern], data, place->text.size, place->from,
                          PCRE2_NO_UTF_CHECK, place->tokeniser->match, NULL);
  if (count == PCRE2_ERROR_NOMATCH) return FK_OK;
  if (count == PCRE2_ERROR_NOMEMORY) return fk_no_memory(error);
  if (count < 0)
    return fk_fail(error, FK_UNSUPPORTED, "the text is too long for rule %zu of the tokeniser (PCRE2 error %d)",
                   place->pattern, count);
  const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(place->tokeniser->match);
  place->start = ends[0];
  place->end = ends[1];
  place->from = place->end > place->start ? place->end : place->text.size + 1;
  place->found = true;
  return FK_OK;
}

typedef void (*add_replacement)(fk_buffer *out, fk_bytes match, const char *with);

static void add_text(fk_buffer *out, fk_bytes match, const char *with) {
  (void)match;
  fk_buffer_add_text(out, with);
}

/* Replaces each match of a rule in a text. */
static fk_status replace_by(fk_tokeniser *tokeniser, size_t pattern, fk_buffer *text, add_replacement add,
                            const char *with, fk_error *error) {
  search place = search_for(tokeniser, pattern, (fk_bytes){text->data, text->size});
  FK_TRY(find_next(&place, error));
  if (!place.found) return FK_OK;
  fk_buffer replaced = {0};
  fk_status status = FK_OK;
  size_t copied = 0;
  while (status == FK_OK && place.found) {
    fk_buffer_add(&replaced, text->data + copied, place.start - copied);
    add(&replaced, (fk_bytes){text->data + place.start, place.end - place.start}, with);
    copied = place.end;
    status = find_next(&place, error);
  }
  fk_buffer_add(&replaced, text->data + copied, text->size - copied);
  if (status == FK_OK && replaced.failed) status = fk_no_memory(error);
  if (status != FK_OK) {
    fk_buffer_close(&replaced);
    return status;
  }
  fk_buffer_close(text);
  *text = replaced;
  return FK_OK;
}

static fk_status replace(fk_tokeniser *tokeniser, size_t pattern, fk_buffer *text, const char *with, fk_error *error) {
  return replace_by(tokeniser, pattern, text, add_text, with, error);
}

/* ---- a message ---- */

/* Adds the character that HTML 5 makes of a number; nothing for some. Source: Python's html.unescape. */
static void add_numbered(fk_buffer *out, uint32_t code) {
  static const uint16_t WINDOWS_1252[32] = {
      0x20ac, 0x81,   0x201a, 0x192,  0x201e, 0x2026, 0x2020, 0x2021, 0x2c6, 0x2030, 0x160,
      0x2039, 0x152,  0x8d,   0x17d,  0x8f,   0x90,   0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
      0x2013, 0x2014, 0x2dc,  0x2122, 0x161,  0x203a, 0x153,  0x9d,   0x17e, 0x178};
  if (code == 0 || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff) {
    fk_add_character(out, 0xfffd);
  } else if (code >= 0x80 && code <= 0x9f) {
    fk_add_character(out, WINDOWS_1252[code - 0x80]);
  } else {
    bool is_control = (code < 0x20 && !(code >= 0x9 && code <= 0xd && code != 0xb)) || code == 0xb || code == 0x7f;
    bool is_none = (code & 0xfffe) == 0xfffe || (code >= 0xfdd0 && code <= 0xfdef);
    if (!is_control && !is_none) fk_add_character(out, code);
  }
}

static void add_unescaped(fk_buffer *out, fk_bytes entity, const char *with) {
  (void)with;
  const char *inner = (const char *)entity.data + 1;
  size_t length = entity.size - 2, size;
  if (*inner != '#') {
    const char *characters = fk_entity(inner, length, &size);
    if (characters)
      fk_buffer_add(out, characters, size);
    else
      fk_buffer_add(out, entity.data, entity.size);
    return;
  }
  bool is_hex = inner[1] == 'x' || inner[1] == 'X';
  uint32_t code = 0;
  for (size_t i = is_hex ? 2 : 1; i < length; i++) {
    char c = inner[i];
    uint32_t digit = (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    code = code * (is_hex ? 16 : 10) + digit;
  }
  add_numbered(out, code);
}

static fk_status scrub(fk_tokeniser *tokeniser, fk_buffer *text, fk_error *error) {
  FK_TRY(replace_by(tokeniser, ENTITY, text, add_unescaped, NULL, error));
  FK_TRY(replace(tokeniser, INVISIBLE, text, "", error));
  FK_TRY(replace(tokeniser, KEYCAP, text, " ", error));
  FK_TRY(fk_compose(text, error));
  for (size_t pattern = SCRUB_FIRST; pattern <= SCRUB_LAST; pattern++)
    FK_TRY(replace(tokeniser, pattern, text, " ", error));
  return FK_OK;
}

/* ---- a sentence ---- */

static fk_status straighten(fk_buffer *text, fk_error *error) {
  fk_buffer straight = {0};
  uint32_t code;
  for (size_t at = 0, width; at < text->size; at += width) {
    width = fk_utf8_next(text->data + at, text->size - at, &code);
    if (width == 0) break;
    bool is_apostrophe = code == 0x2018 || code == 0x2019 || code == 0x2bc || code == 0x60 || code == 0xb4 || code == 0xff07;
    fk_add_character(&straight, is_apostrophe ? '\'' : code);
  }
  fk_buffer_close(text);
  *text = straight;
  return text->failed ? fk_no_memory(error) : FK_OK;
}

static void add_three(fk_buffer *out, fk_bytes run, const char *with) {
  (void)with;
  uint32_t code;
  size_t width = fk_utf8_next(run.data, run.size, &code);
  for (int i = 0; i < 3; i++) fk_buffer_add(out, run.data, width);
}

/* Makes a sentence its words, with a space between two. */
static fk_status find_words(fk_tokeniser *tokeniser, fk_buffer *sentence, fk_error *error) {
  FK_TRY(replace(tokeniser, FINAL_SIGMA, sentence, "\xcf\x82", error));
  FK_TRY(fk_lower(sentence, error));
  FK_TRY(fk_compose(sentence, error));
  FK_TRY(straighten(sentence, error));
  fk_buffer words = {0};
  search place = search_for(tokeniser, WORD, (fk_bytes){sentence->data, sentence->size});
  fk_status status = find_next(&place, error);
  while (status == FK_OK && place.found) {
    if (words.size) fk_buffer_add_text(&words, " ");
    fk_buffer_add(&words, sentence->data + place.start, place.end - place.start);
    status = find_next(&place, error);
  }
  if (status == FK_OK) status = replace(tokeniser, LAUGH_1, &words, "hahaha", error);
  if (status == FK_OK)
    status = replace(tokeniser, LAUGH_2, &words, "\xd1\x85\xd0\xb0\xd1\x85\xd0\xb0\xd1\x85\xd0\xb0", error);
  if (status == FK_OK) status = replace_by(tokeniser, RUN, &words, add_three, NULL, error);
  if (status == FK_OK && words.failed) status = fk_no_memory(error);
  fk_buffer_close(sentence);
  *sentence = words;
  return status;
}

static fk_status add_sentence(fk_tokeniser *tokeniser, fk_bytes piece, bool even_empty, fk_buffer *sentences,
                              fk_error *error) {
  fk_buffer words = {0};
  fk_buffer_add(&words, piece.data, piece.size);
  fk_status status = words.failed ? fk_no_memory(error) : find_words(tokeniser, &words, error);
  if (status == FK_OK && (words.size || even_empty)) {
    fk_buffer_add(sentences, words.data, words.size);
    fk_buffer_add_text(sentences, "\n");
  }
  fk_buffer_close(&words);
  return status;
}

static fk_status split(fk_tokeniser *tokeniser, fk_bytes text, bool only_open, fk_buffer *sentences, fk_error *error) {
  /* Ends are found in the whole text first: the match data is used for the words, too. */
  fk_buffer ends = {0};
  search place = search_for(tokeniser, SENTENCE_END, text);
  fk_status status = find_next(&place, error);
  while (status == FK_OK && place.found) {
    fk_buffer_add(&ends, &place.start, sizeof place.start);
    fk_buffer_add(&ends, &place.end, sizeof place.end);
    status = find_next(&place, error);
  }
  if (status == FK_OK && ends.failed) status = fk_no_memory(error);
  const uint8_t *data = text.data ? text.data : (const uint8_t *)"";
  size_t count = ends.size / (2 * sizeof(size_t)), from = 0;
  for (size_t i = 0; status == FK_OK && i <= count; i++) {
    size_t until[2] = {text.size, text.size};
    if (i < count) memcpy(until, ends.data + i * sizeof until, sizeof until);
    if (!only_open || i == count)
      status = add_sentence(tokeniser, (fk_bytes){data + from, until[0] - from}, only_open, sentences, error);
    from = until[1];
  }
  fk_buffer_close(&ends);
  return status;
}

fk_status fk_tokeniser_read(fk_tokeniser *tokeniser, fk_bytes message, bool only_open, fk_buffer *sentences,
                            fk_error *error) {
  size_t characters;
  if (!fk_utf8_count(message, &characters)) return fk_fail(error, FK_BAD_ARGUMENT, "the text is not UTF-8");
  fk_buffer text = {0};
  fk_buffer_add(&text, message.data, message.size);
  fk_status status = text.failed ? fk_no_memory(error) : scrub(tokeniser, &text, error);
  if (status == FK_OK) status = split(tokeniser, (fk_bytes){text.data, text.size}, only_open, sentences, error);
  if (status == FK_OK && sentences->failed) status = fk_no_memory(error);
  fk_buffer_close(&text);
  return status;
}
