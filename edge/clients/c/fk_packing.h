/* Which of a model's fixed shapes a batch is trained in, and the batch as it stands there. Not for apps. */
#ifndef FK_PACKING_H
#define FK_PACKING_H

#include "fk_batches.h"
#include "fk_model.h"

enum { FK_MAX_SHAPES = 16 };

/* A train signature of so many rows of so many positions, in which several sentences may stand in a row. */
typedef struct {
  const char *signature; /* the model's */
  int32_t rows, time;
} fk_shape;

typedef struct {
  const fk_batches *batches;
  fk_shape shapes[FK_MAX_SHAPES]; /* those to train in, the smallest first */
  int32_t num_shapes;
  int32_t *lengths, *order, *rows, *starts; /* of each sentence of a batch */
  int32_t *used;                            /* positions of each row of a shape */
  int32_t *tokens, *targets;                /* of a packed batch */
  float *mask;
} fk_packing;

/* Chooses the shapes in which the batches take the fewest positions, at most `most` with "train": LiteRT keeps memory for
 * each signature that ran. Close it also after a failure. */
fk_status fk_packing_open(const fk_model *model, const fk_batches *batches, int32_t most, fk_packing *packing,
                          fk_error *error);
void fk_packing_close(fk_packing *packing);
/* Puts a batch into the smallest of these shapes that holds it, and returns the shape; NULL if it is best trained as it is.
 * The rule is that of edge/clients/packing.py, which has all shapes of a file. */
const fk_shape *fk_packing_pack(fk_packing *packing, int32_t batch);

#endif
