/* Words after typed words: text and model together. */
#include "fedkeys.h"
#include "fk_fail.h"

fk_status fk_predict_words(fk_predictor *predictor, fk_text *text, const char *typed, size_t size,
                           const char *words[FK_NUM_PREDICTIONS], fk_error *error) {
  fk_sentences *sentence;
  fk_prediction found[FK_NUM_PREDICTIONS];
  size_t count;
  if (!words) return fk_fail(error, FK_BAD_ARGUMENT, "fk_predict_words needs a place");
  FK_TRY(fk_text_unfinished(text, typed, size, &sentence, error));
  const int32_t *ids = fk_sentences_ids(sentence, 0, &count);
  fk_status status = fk_predictor_after(predictor, ids, count, found, error);
  fk_sentences_close(sentence);
  FK_TRY(status);
  for (int i = 0; i < FK_NUM_PREDICTIONS; i++) {
    words[i] = fk_text_word(text, found[i].id);
    if (!words[i])
      return fk_fail(error, FK_DAMAGED, "the model predicts id %d, and the list has %d words: export the run again",
                     found[i].id, fk_text_num_words(text));
  }
  return fk_ok(error);
}
