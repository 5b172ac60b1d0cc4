// One tile's share of the blended probabilities of an image, see models/blend.py: the softmax of its
// logits, added to what it has in common with the tiles before it, kept where tiles to come reach, and
// chosen from where none does. A row at a time, so that only what tiles have in common is ever written
// to memory.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "logits.h"
#include "paint.h"
#include "processor.h"

// How much a tile counts: its row's number times its column's.
typedef struct {
    const float *rows, *columns;
} Weights;

// Sums in memory that a tile has in common with the one before it along one side, and will have with
// the one after it: `reach` rows or columns of it, and those from `cut` on.
typedef struct {
    float *sums;
    int64_t plane, line;
    int64_t reach, cut;
} Common;

// With tiles on the left and on the right; as many columns are left as no later tile reaches.
INLINE void share_columns(const Common *common, int64_t index, int64_t y, float *sums,
                          int64_t columns) {
    if (common->reach == 0 && common->cut == columns) return;  // there is no other tile
    float *const there = common->sums + index * common->plane + y * common->line;
    for (int64_t x = 0; x < common->reach; ++x) sums[x] += there[x];
    memcpy(there, sums + common->cut, (columns - common->cut) * sizeof(float));
}

// With tiles above and below.
INLINE void share_rows(const Common *common, int64_t index, int64_t y, float *sums,
                       int64_t columns) {
    float *const there = common->sums + index * common->plane;
    if (y < common->reach)
        for (int64_t x = 0; x < columns; ++x) sums[x] += there[y * common->line + x];
    if (y >= common->cut)
        memcpy(there + (y - common->cut) * common->line, sums, columns * sizeof(float));
}

// 0 where there is no memory.
INLINE int blend_tile(int lanes, const Logits *tile, const Weights *weights, const Common *across,
                      const Common *down, int down_first, const Answer *answer) {
    const int64_t width = with_room(tile->width);
    float *const shares = calloc((tile->classes + 1) * width, sizeof(float));
    if (shares == NULL) return 0;
    const Lines sums = {shares + width, width};
    Choice every = {.count = (int)tile->classes};
    for (int index = 0; index < every.count; ++index) every.classes[index] = index;
    Range unused;
    for (int64_t y = 0; y < tile->height; ++y) {
        for (int64_t x = 0; x < tile->width; ++x)
            shares[x] = weights->rows[y] * weights->columns[x];
        softmax(lanes, tile, y, 0, tile->width, sums.values, width, &unused);
        const int is_final = y < down->cut;
        for (int64_t index = 0; index < tile->classes; ++index) {
            float *const sum = sums.values + index * width;
            for (int64_t x = 0; x < tile->width; ++x) sum[x] *= shares[x];
            if (down_first) {
                share_rows(down, index, y, sum, tile->width);
                if (is_final) share_columns(across, index, y, sum, tile->width);
            } else {
                share_columns(across, index, y, sum, tile->width);
                share_rows(down, index, y, sum, across->cut);
            }
        }
        if (is_final) paint(&sums, &sums, 0.0f, &every, 0, (int)across->cut, y, answer);
    }
    free(shares);
    return 1;
}

#ifdef __x86_64__
AVX2 static int blend_avx2(const Logits *tile, const Weights *weights, const Common *across,
                           const Common *down, int down_first, const Answer *answer) {
    return blend_tile(8, tile, weights, across, down, down_first, answer);
}

AVX512 static int blend_avx512(const Logits *tile, const Weights *weights, const Common *across,
                               const Common *down, int down_first, const Answer *answer) {
    return blend_tile(16, tile, weights, across, down, down_first, answer);
}
#endif

// `down_first`: of what both a tile below and one on the right reach, that below has it. By
// `instructions` that the processor has; 0 where there is no memory.
int blend(int by, const Logits *tile, const float *row_weights, const float *column_weights,
          const Common *across, const Common *down, int down_first, uint8_t *labels, int64_t width,
          int64_t *pixels, double *confidence) {
    const Weights weights = {row_weights, column_weights};
    const Answer answer = {labels, width, pixels, confidence};
#ifdef __x86_64__
    if (by == 2) return blend_avx512(tile, &weights, across, down, down_first, &answer);
    if (by == 1) return blend_avx2(tile, &weights, across, down, down_first, &answer);
#endif
    (void)by;
    return blend_tile(4, tile, &weights, across, down, down_first, &answer);
}
