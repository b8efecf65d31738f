/* The degree and threshold that a cohort needs, as orchestrator/secagg/graph.py: a client computes them itself, so that no
 * server can talk it into laxer ones. */
#include <math.h>

#include "fk_protocol_parts.h"

#define LN_2 0.69314718055994530942
#define LN_2PI 1.83787706640934548356

bool fk_is_complete(const fk_graph *graph) { return graph->degree == graph->num_clients - 1; }

/* How many of some clients may collude with the server, rounded up: the safe side. */
static double most_corrupt_of(double num_clients, double corrupt_share) { return ceil(corrupt_share * num_clients - 1e-9); }

uint32_t fk_fewest_survivors(size_t num_enrolled, double corrupt_share) {
  double fewest = most_corrupt_of((double)num_enrolled, corrupt_share) + 2;
  return fewest < 3 ? 3 : fewest < UINT32_MAX ? (uint32_t)fewest : UINT32_MAX;
}

/* The least threshold; at least 2, or each share would be the secret. */
static uint32_t threshold_of(uint32_t degree, uint32_t num_corrupt_neighbours, const fk_policy *policy) {
  uint32_t least = policy->semi_malicious ? (degree + num_corrupt_neighbours) / 2 + 1 : num_corrupt_neighbours + 1;
  return least > 2 ? least : 2;
}

/* ln(n!): from the product where it is exact, else by Stirling's series, whose next term is below 1e-17. Not lgamma, which
 * keeps a sign for the whole process. */
static double log_factorial(double n) {
  if (n < 18) {
    double product = 1;
    for (double factor = 2; factor <= n; factor += 1) product *= factor;
    return log(product);
  }
  double square = n * n;
  double series = (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - 1.0 / 1188 / square) / square) / square) / square) / n;
  return (n + 0.5) * log(n) - n + 0.5 * LN_2PI + series;
}

static double log_choose(double n, double k) { return log_factorial(n) - log_factorial(k) - log_factorial(n - k); }

/* The log of a bound on the probability that the honest survivors' graph falls apart. */
static double log_disconnected(double num_clients, double degree, double num_gone) {
  if (degree > num_gone) return -INFINITY;
  return log(num_clients * (num_clients - degree - 1) / 2) + log_factorial(num_gone) + log_factorial(num_clients - degree) -
         log_factorial(num_clients) - log_factorial(num_gone - degree);
}

/* The least x with P[X > x] <= exp(log_probability); X counts the marked ones among those drawn. */
static uint32_t upper_quantile(uint32_t population, uint32_t num_marked, uint32_t num_drawn, double log_probability) {
  double limit = exp(log_probability), tail = 0; /* P[X >= x] */
  uint32_t smallest = num_marked + num_drawn > population ? num_marked + num_drawn - population : 0;
  for (uint32_t x = num_marked < num_drawn ? num_marked : num_drawn; x > smallest; x -= 1) {
    double log_mass = log_choose(num_marked, x) + log_choose(population - num_marked, num_drawn - x);
    tail += exp(log_mass - log_choose(population, num_drawn));
    if (tail > limit) return x;
  }
  return smallest;
}

/* The least threshold for a random regular graph of this degree, or 0 if there is none (Bell et al. 2020). */
static uint32_t regular_threshold(uint32_t num_clients, uint32_t degree, const fk_policy *policy) {
  uint32_t num_corrupt = (uint32_t)floor((policy->corrupt_share + 1e-14) * num_clients);
  uint32_t num_dropped = (uint32_t)floor((policy->dropout_share + 1e-14) * num_clients);
  double log_risk = -(policy->security_bits + 1.0) * LN_2; /* two bad events share the security bits */
  if (log_disconnected(num_clients, degree, (double)num_corrupt + num_dropped) >= log_risk) return 0;
  uint32_t most_corrupt = upper_quantile(num_clients, num_corrupt, degree, log_risk - log(num_clients));
  double log_failure = -(double)policy->correctness_bits * LN_2 - log(num_clients);
  uint32_t most_dropped = upper_quantile(num_clients, num_dropped, degree, log_failure);
  uint32_t threshold = threshold_of(degree, most_corrupt, policy);
  return threshold + most_dropped <= degree ? threshold : 0;
}

fk_status fk_graph_for(uint32_t num_clients, const fk_policy *policy, fk_graph *graph, fk_error *error) {
  if (num_clients < 1 || num_clients > FK_MAX_CLIENTS) return fk_fail(error, FK_BAD_ARGUMENT, "a cohort of %u", num_clients);
  if (num_clients > policy->complete_up_to) {
    for (uint32_t degree = 2; degree + 1 < num_clients; degree += 2) {
      uint32_t threshold = regular_threshold(num_clients, degree, policy);
      if (threshold == 0) continue;
      *graph = (fk_graph){num_clients, degree, threshold};
      return FK_OK;
    }
  }
  uint32_t degree = num_clients - 1, num_corrupt = (uint32_t)most_corrupt_of(num_clients, policy->corrupt_share);
  uint32_t threshold = threshold_of(degree, num_corrupt, policy);
  uint32_t num_dropped = (uint32_t)floor(policy->dropout_share * num_clients + 1e-9);
  *graph = (fk_graph){num_clients, degree, threshold};
  if (threshold + num_dropped <= degree) return FK_OK;
  return fk_fail(error, FK_WEAK_PARAMETERS,
                 "a cohort of %u with %u corrupt clients and %u drop-outs needs %u of %u neighbours left: "
                 "select more clients or assume smaller shares",
                 num_clients, num_corrupt, num_dropped, threshold, degree);
}
