/* Shamir's secret sharing of 32-byte secrets over the prime field of 2**256 + 297, as orchestrator/secagg/shamir.py. A
 * client deals shares; only the server combines them. libcrypto has big numbers, but not ones whose time is the same for
 * all values: a share is a few multiplications by a small public point, and written out here without a branch. */
#include <string.h>

#include "fk_protocol_parts.h"

#define LIMBS 9 /* of 32 bits, lowest first: 288 bits */
#define EXCESS 297u /* the prime less 2**256 */

typedef struct {
  uint32_t limb[LIMBS];
} fk_field;

static fk_field from_bytes(const uint8_t *octets, size_t size) {
  fk_field value = {{0}};
  for (size_t i = 0; i < size; i += 1) value.limb[i / 4] |= (uint32_t)octets[size - 1 - i] << (8 * (i % 4));
  return value;
}

static void to_bytes(const fk_field *value, uint8_t octets[FK_SHARE_BYTES]) {
  for (size_t i = 0; i < FK_SHARE_BYTES; i += 1) {
    octets[FK_SHARE_BYTES - 1 - i] = (uint8_t)(value->limb[i / 4] >> (8 * (i % 4)));
  }
}

/* value = (value * point + added) modulo the prime; value and added are below it, the point at most 2**20. */
static void step(fk_field *value, uint32_t point, const fk_field *added) {
  uint64_t carry = 0;
  for (size_t i = 0; i < LIMBS; i += 1) {
    carry += (uint64_t)value->limb[i] * point + added->limb[i];
    value->limb[i] = (uint32_t)carry;
    carry >>= 32;
  }
  /* 2**256 is -297: what stands above is subtracted 297 times; if that goes below zero, the prime is added once. */
  uint64_t taken = (uint64_t)value->limb[LIMBS - 1] * EXCESS; /* below 2**31 */
  uint64_t borrow = taken;
  for (size_t i = 0; i + 1 < LIMBS; i += 1) {
    uint64_t difference = (uint64_t)value->limb[i] - borrow;
    value->limb[i] = (uint32_t)difference;
    borrow = difference >> 63;
  }
  carry = borrow * EXCESS;
  for (size_t i = 0; i + 1 < LIMBS; i += 1) {
    carry += value->limb[i];
    value->limb[i] = (uint32_t)carry;
    carry >>= 32;
  }
  value->limb[LIMBS - 1] = (uint32_t)carry;
}

/* Draws 257 bits until they are below the prime: once in nearly two draws. */
static fk_status below_prime(fk_random random, fk_field *value, fk_error *error) {
  uint8_t drawn[FK_SHARE_BYTES];
  for (;;) {
    FK_TRY(random.draw(random.context, drawn, sizeof drawn, error));
    drawn[0] &= 1;
    *value = from_bytes(drawn, sizeof drawn);
    uint32_t above = 0;
    for (size_t i = 1; i + 1 < LIMBS; i += 1) above |= value->limb[i];
    if (value->limb[LIMBS - 1] == 0 || (above == 0 && value->limb[0] < EXCESS)) break;
  }
  fk_wipe(drawn, sizeof drawn);
  return FK_OK;
}

fk_status fk_split_secret(const uint8_t secret[32], uint32_t threshold, const uint32_t *points, size_t count,
                          fk_random random, uint8_t *shares, fk_error *error) {
  if (threshold < 2 || threshold > count) {
    return fk_fail(error, FK_BAD_ARGUMENT, "threshold must lie in 2..%zu, got %u", count, (unsigned)threshold);
  }
  size_t size = threshold * sizeof(fk_field);
  fk_field *coefficients = fk_array(threshold, sizeof(fk_field));
  if (!coefficients) return fk_no_memory(error);
  coefficients[0] = from_bytes(secret, 32);
  fk_status status = FK_OK;
  for (uint32_t i = 1; status == FK_OK && i < threshold; i += 1) status = below_prime(random, &coefficients[i], error);
  for (size_t i = 0; status == FK_OK && i < count; i += 1) {
    fk_field value = {{0}};
    for (uint32_t place = threshold; place > 0; place -= 1) step(&value, points[i], &coefficients[place - 1]); /* Horner */
    to_bytes(&value, shares + i * FK_SHARE_BYTES);
    fk_wipe(&value, sizeof value);
  }
  fk_free_secret(coefficients, size);
  return status;
}
