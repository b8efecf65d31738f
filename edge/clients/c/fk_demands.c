/* What a client insists on, whatever the server says, as orchestrator/network/demands.py. This client takes part in secure
 * aggregation, or in the split sum. */
#include <math.h>
#include <string.h>

#include "../../conformance/settings.h"
#include "fk_protocol_parts.h"

#define OPERATIONS_PER_S 1e9 /* multiplications and additions in float32; one core of a slow phone */
#define FLOAT_BYTES 4
#define COPIES_OF_WEIGHTS 8 /* as received, as trained, gradient, update, its encoding, masked, and two in between */
#define COPIES_OF_LOGITS 3
#define ARRAYS_OF_TEXT 3 /* tokens, targets, mask */

fk_policy fk_default_policy(void) {
  return (fk_policy){
      .corrupt_share = fk_setting_default(FK_AGGREGATION_CORRUPT_SHARE),
      .dropout_share = fk_setting_default(FK_AGGREGATION_DROPOUT_SHARE),
      .security_bits = 40,
      .correctness_bits = 20,
      .semi_malicious = true,
      .complete_up_to = (uint32_t)fk_setting_default(FK_AGGREGATION_COMPLETE_UP_TO),
      .min_survivors = (uint32_t)fk_setting_default(FK_AGGREGATION_MIN_SURVIVORS),
      .max_clients = FK_MAX_CLIENTS,
  };
}

fk_status fk_demands_for(size_t num_enrolled, fk_demands *demands, fk_error *error) {
  if (!demands) return fk_fail(error, FK_BAD_ARGUMENT, "there is no place for the demands");
  *demands = (fk_demands){
      .policy = fk_default_policy(),
      .max_cohort = 10000,
      .max_epochs = 100,
      .max_sentences = 100000,
      .max_batch_tokens = 1000000,
      .max_weights = 0x1p26,
      .max_minutes = 30,
      .max_memory_mib = 4096,
      .max_magnitude = 1e3,
      .max_learning_rate = 10,
  };
  demands->policy.min_survivors = fk_fewest_survivors(num_enrolled, demands->policy.corrupt_share);
  return fk_ok(error);
}

/* The minutes that a round's training takes at most: a weight takes six operations for each word. */
static double training_minutes(const fk_settings *settings) {
  double num_words = fk_most_sentences(settings) * settings->values[FK_DATA_MAX_WORDS];
  return 6 * fk_num_weights(settings) * num_words / OPERATIONS_PER_S / 60;
}

/* The bytes of memory that a round's training takes at most. */
static double training_bytes(const fk_settings *settings) {
  const double *of = settings->values;
  double batch_words = of[FK_CLIENT_BATCH_SIZE] * of[FK_DATA_MAX_WORDS];
  double weights = COPIES_OF_WEIGHTS * (fk_num_weights(settings) + of[FK_MODEL_NUM_CELLS] * batch_words);
  double logits = COPIES_OF_LOGITS * batch_words * settings->vocabulary_size;
  return FLOAT_BYTES * (weights + logits + ARRAYS_OF_TEXT * fk_most_sentences(settings) * of[FK_DATA_MAX_WORDS]);
}

/* Whether the run sums as the client does, for the helpers that it knows. */
static fk_status check_sum(const fk_settings *settings, fk_sum sum, size_t num_helpers, fk_error *error) {
  const char *aggregator = fk_setting_text(settings, FK_AGGREGATION_AGGREGATOR);
  const char *own = sum == FK_SUM_SPLIT ? "split" : "secagg";
  double helpers = settings->values[FK_AGGREGATION_HELPERS];
  if (strcmp(aggregator, own) != 0) {
    return fk_fail(error, FK_DEMAND_REFUSED,
                   "the server runs the sum '%s', this client takes part in '%s' only: "
                   "agree on it, then name it by --aggregator",
                   aggregator, own);
  }
  if (sum != FK_SUM_SPLIT || (helpers >= (double)num_helpers && helpers <= (double)num_helpers)) return FK_OK;
  return fk_fail(error, FK_DEMAND_REFUSED,
                 "the server's run has %.0f helpers, this client's helpers.pub names %zu: agree on them", helpers, num_helpers);
}

uint32_t fk_num_groups(const fk_settings *settings) { return (uint32_t)settings->values[FK_AGGREGATION_GROUPS]; }

fk_status fk_check_run(const fk_demands *demands, const fk_settings *settings, fk_sum sum, size_t num_helpers, fk_error *error) {
  const double *of = settings->values;
  FK_TRY(check_sum(settings, sum, num_helpers, error));
  if (of[FK_DATA_TOKENISER] < FK_TOKENISER || of[FK_DATA_TOKENISER] > FK_TOKENISER) {
    return fk_fail(error, FK_DEMAND_REFUSED,
                   "the run's words are those of tokeniser %.0f, this client reads text by %d: "
                   "take part in a run that was begun since",
                   of[FK_DATA_TOKENISER], FK_TOKENISER);
  }
  const char *segmenter = fk_setting_text(settings, FK_DATA_SEGMENTER);
  if (strcmp(segmenter, "none") != 0)
    return fk_fail(error, FK_DEMAND_REFUSED,
                   "the run's words can't be cut here: segmenter '%s' is not in this client", segmenter);
  const char *network = fk_setting_text(settings, FK_MODEL_KIND);
  if (strcmp(network, "cifg") != 0)
    return fk_fail(error, FK_DEMAND_REFUSED,
                   "the run's network can't be trained here: model.kind '%s' is not in this client", network);
  const struct {
    const char *what;
    double asked, most;
  } figures[] = {
      {"clients in a round", of[FK_ROUNDS_COHORT_SIZE], demands->max_cohort},
      {"epochs", of[FK_CLIENT_EPOCHS], demands->max_epochs},
      {"sentences to train on in a round", fk_most_sentences(settings), demands->max_sentences},
      {"tokens in a batch", of[FK_CLIENT_BATCH_SIZE] * of[FK_DATA_MAX_WORDS], demands->max_batch_tokens},
      {"weights in the model", fk_num_weights(settings), demands->max_weights},
      {"minutes of training in a round", ceil(training_minutes(settings)), demands->max_minutes},
      {"MiB of memory", ceil(training_bytes(settings) / 0x1p20), demands->max_memory_mib},
  };
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i += 1) {
    if (figures[i].asked <= figures[i].most) continue; /* a limit that is no number allows nothing */
    return fk_fail(error, FK_DEMAND_REFUSED, "the server asks for up to %.0f %s, this client allows %g", figures[i].asked,
                   figures[i].what, figures[i].most);
  }
  return FK_OK;
}

fk_status fk_check_round(uint32_t round_num, const fk_run *run, fk_error *error) {
  if (round_num >= 1 && round_num <= run->num_rounds) return FK_OK;
  return fk_fail(error, FK_DEMAND_REFUSED, "the server asks for round %u of a run of %u", round_num, run->num_rounds);
}

fk_status fk_check_plan(const fk_demands *demands, uint32_t round_num, double rate, const float *weights, size_t count,
                        fk_error *error) {
  if (!(rate >= 0 && rate <= demands->max_learning_rate)) {
    return fk_fail(error, FK_DEMAND_REFUSED,
                   "round %u: the server asks for a learning rate of %g, this client allows 0 to %g", round_num, rate,
                   demands->max_learning_rate);
  }
  double largest = 0;
  for (size_t i = 0; i < count && !isnan(largest); i += 1) {
    double magnitude = fabs((double)weights[i]);
    if (!(magnitude <= largest)) largest = magnitude;
  }
  if (isfinite(largest) && largest <= demands->max_magnitude) return FK_OK;
  return fk_fail(error, FK_DEMAND_REFUSED,
                 "round %u: the server sends a weight of %g, this client allows %g: "
                 "training could overflow where the server wants it to",
                 round_num, largest, demands->max_magnitude);
}
