/* Encodes an update as integers: clips, weighs, rounds to a grid, and counts modulo 2**32, as orchestrator/encoding.py. The
 * arithmetic is Python's, float32 where that is float32: build without -ffast-math and with -ffp-contract=off. Only the
 * norm of an update longer than the clip norm may differ in its last bit, since numpy adds squares in an order that
 * depends on the machine. */
#include <math.h>
#include <string.h>

#include "fk_protocol_parts.h"

#define MODULUS_BITS 32u
#define BLOCK 1024u /* coordinates rounded at a time */

static const double ROUNDING_SLACK = 1.0 - 0x1p-20;
static const double LEAST_CLIP_NORM = 0x1p-96; /* of a shorter one, steps of the grid in a unit are beyond float32 */

/* The operating system's randomness: nobody can know or repeat how an update was rounded. */
static fk_status secure_float32s(void *context, float *out, size_t count, fk_error *error) {
  uint32_t word;
  (void)context;
  _Static_assert(sizeof(float) == sizeof word, "float32");
  FK_TRY(fk_random_bytes(NULL, out, count * sizeof *out, error));
  for (size_t i = 0; i < count; i += 1) {
    memcpy(&word, &out[i], sizeof word);
    out[i] = (float)(word >> 8) * 0x1p-24f;
  }
  return FK_OK;
}

static fk_status secure_float64(void *context, double *out, fk_error *error) {
  uint64_t word;
  (void)context;
  FK_TRY(fk_random_bytes(NULL, &word, sizeof word, error));
  *out = (double)(word >> 11) * 0x1p-53;
  return FK_OK;
}

fk_uniform fk_secure_uniform(void) { return (fk_uniform){secure_float32s, secure_float64, NULL}; }

fk_status fk_encoder_init(fk_encoder *encoder, double clip_norm, uint32_t num_clients, double max_weight, size_t dim,
                          fk_error *error) {
  if (!(clip_norm >= LEAST_CLIP_NORM && isfinite(clip_norm))) {
    return fk_fail(error, FK_BAD_ARGUMENT, "clip_norm must be at least %g, got clip_norm=%g", LEAST_CLIP_NORM, clip_norm);
  }
  if (!(max_weight > 0 && isfinite(max_weight)) || num_clients < 1 || dim < 1) {
    return fk_fail(error, FK_BAD_ARGUMENT, "no encoder of %zu weights for %u clients of weight %g", dim, num_clients, max_weight);
  }
  uint32_t headroom = 0; /* ceil(log2(num_clients)) */
  while (headroom < MODULUS_BITS && (num_clients - 1) >> headroom) headroom += 1;
  if (headroom > MODULUS_BITS - 2) {
    return fk_fail(error, FK_BAD_ARGUMENT, "the sums of %u clients leave %u bits for a coordinate", num_clients,
                   MODULUS_BITS - headroom);
  }
  int exponent;
  encoder->bits = MODULUS_BITS - headroom;
  frexp((ldexp(1, (int)encoder->bits) - 1) / max_weight, &exponent);
  encoder->weight_scale = ldexp(1, exponent - 1);
  encoder->step = clip_norm / ((ldexp(1, (int)encoder->bits - 1) - 1) * ROUNDING_SLACK);
  encoder->clip_norm = clip_norm;
  encoder->max_weight = max_weight;
  encoder->dim = dim;
  return FK_OK;
}

double fk_l2_norm(const float *values, size_t count) {
  double squares = 0;
  for (size_t i = 0; i < count; i += 1) squares += (double)values[i] * (double)values[i];
  return isfinite(squares) ? sqrt(squares) : INFINITY;
}

/* A word of a whole number, in two's complement. */
static uint32_t word_of(double whole) { return (uint32_t)(int64_t)whole; }

fk_status fk_encode(const fk_encoder *encoder, const float *delta, double weight, fk_uniform uniform, uint32_t *vector,
                    fk_error *error) {
  if (!(weight >= 0 && weight <= encoder->max_weight)) {
    return fk_fail(error, FK_BAD_ARGUMENT, "weight must lie in 0..%g, got %g", encoder->max_weight, weight);
  }
  double norm = fk_l2_norm(delta, encoder->dim);
  if (!isfinite(norm)) return fk_fail(error, FK_BAD_ARGUMENT, "the update holds a NaN or an infinity");
  double clip = norm > encoder->clip_norm ? encoder->clip_norm / norm : 1;
  float factor = (float)(clip * (weight / encoder->max_weight) / encoder->step);
  float draws[BLOCK];
  for (size_t start = 0; start < encoder->dim; start += BLOCK) {
    size_t count = encoder->dim - start < BLOCK ? encoder->dim - start : BLOCK;
    FK_TRY(uniform.float32s(uniform.context, draws, count, error));
    for (size_t i = 0; i < count; i += 1) { /* up with the probability of the fraction, else down */
      float scaled = delta[start + i] * factor;
      float whole = floorf(scaled);
      float fraction = scaled - whole;
      vector[start + i] = word_of((double)whole) + (draws[i] < fraction ? 1u : 0u);
    }
  }
  double draw;
  FK_TRY(uniform.float64(uniform.context, &draw, error));
  vector[encoder->dim] = word_of(floor(weight * encoder->weight_scale + draw));
  return FK_OK;
}
