// One tile's share of the blended probabilities of an image, see models/blend.py: the softmax of its
// logits, interpolated to its pixels, added to what it has in common with the tiles before it, kept
// where tiles to come reach, and chosen from where none does. A row at a time, so that only what tiles
// have in common is ever written to memory.

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "interpolation.h"
#include "logits.h"
#include "paint.h"
#include "processor.h"

// One side of a tile: its pixels, how many of them lie in the image, and how much these count; one of
// the tile counts as its row does, times its column.
typedef struct {
    int64_t pixels, inside;
    const float *weights;
} Side;

typedef struct {
    int64_t at;  // of the source, -1: none
    float *values;
} Row;

// The logits of a row of the tile's pixels, between two of the source's.
typedef struct {
    const Logits *source;
    int64_t height;  // of the tile
    Places places;
    int is_double;  // has all columns of the tile, twice as many as the source's
    float *row;     // of the source, (classes, source_width)
    int64_t source_width;
    Row above, below;  // at the tile's columns
    float *values;     // (classes, width)
    int64_t width;
} Interpolated;

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

INLINE void reach(int lanes, Interpolated *found, int64_t at, Row *row) {
    if (row->at == at) return;
    row->at = at;
    planes(lanes, found->source, at, found->row, found->source_width);
    for (int64_t index = 0; index < found->source->classes; ++index) {
        const float *const from = found->row + index * found->source_width;
        float *const values = row->values + index * found->width;
        if (found->is_double)
            double_line(from, found->source->width, values);
        else
            widen_line(&found->places, from, 0, (int)found->width, values);
    }
}

INLINE void interpolate(int lanes, Interpolated *found, int64_t y) {
    const Place rows = place(y, found->source->height, found->height);
    if (found->above.at != rows.low) {
        const Row row = found->above;
        found->above = found->below;
        found->below = row;
    }
    reach(lanes, found, rows.low, &found->above);
    reach(lanes, found, rows.next, &found->below);
    const float *const above = found->above.values, *const below = found->below.values;
    for (int64_t at = 0; at < found->source->classes * found->width; ++at)
        found->values[at] = above[at] + rows.weight * (below[at] - above[at]);
}

// Carves the next `count` numbers out of `memory`.
INLINE float *some_of(float **memory, int64_t count) {
    float *const found = *memory;
    *memory += count;
    return found;
}

INLINE Interpolated interpolated(const Logits *tile, const Side *rows, const Side *columns,
                                 int64_t width, float **memory) {
    const int64_t source_width = with_room(tile->width), size = tile->classes * width;
    int *const low = (int *)some_of(memory, width), *const next = (int *)some_of(memory, width);
    float *const weight = some_of(memory, width);
    for (int64_t x = 0; x < columns->inside; ++x) {
        const Place found = place(x, tile->width, columns->pixels);
        low[x] = (int)found.low;
        next[x] = (int)found.next;
        weight[x] = found.weight;
    }
    return (Interpolated){
        .source = tile,
        .height = rows->pixels,
        .places = {low, next, weight},
        .is_double = columns->inside == columns->pixels && columns->pixels == 2 * tile->width,
        .row = some_of(memory, tile->classes * source_width),
        .source_width = source_width,
        .above = {-1, some_of(memory, size)},
        .below = {-1, some_of(memory, size)},
        .values = some_of(memory, size),
        .width = width,
    };
}

// 0 where there is no memory.
INLINE int blend_tile(int lanes, const Logits *tile, const Side *rows, const Side *columns,
                      const Common *across, const Common *down, int down_first,
                      const Answer *answer) {
    const int64_t inside = columns->inside, width = with_room(inside);
    const int is_exact = tile->height == rows->pixels && tile->width == columns->pixels;
    const int64_t size = (tile->classes + 1) * width;
    const int64_t more = (3 * tile->classes + 3) * width + tile->classes * with_room(tile->width);
    float *const numbers = calloc(is_exact ? size : size + more, sizeof(float));
    if (numbers == NULL) return 0;
    float *memory = numbers;
    float *const shares = some_of(&memory, width);
    const Lines sums = {some_of(&memory, tile->classes * width), width};
    Interpolated between;
    Logits row = *tile;
    if (!is_exact) {
        between = interpolated(tile, rows, columns, width, &memory);
        row = (Logits){.values = between.values, .plane = width, .column = 1,
                       .classes = tile->classes, .height = 1, .width = inside};
    }
    Choice every = {.count = (int)tile->classes};
    for (int index = 0; index < every.count; ++index) every.classes[index] = index;
    Range unused;
    for (int64_t y = 0; y < rows->inside; ++y) {
        for (int64_t x = 0; x < inside; ++x) shares[x] = rows->weights[y] * columns->weights[x];
        if (!is_exact) interpolate(lanes, &between, y);
        softmax(lanes, &row, y, 0, inside, sums.values, width, &unused);
        const int is_final = y < down->cut;
        for (int64_t index = 0; index < tile->classes; ++index) {
            float *const sum = sums.values + index * width;
            for (int64_t x = 0; x < inside; ++x) sum[x] *= shares[x];
            if (down_first) {
                share_rows(down, index, y, sum, inside);
                if (is_final) share_columns(across, index, y, sum, inside);
            } else {
                share_columns(across, index, y, sum, inside);
                share_rows(down, index, y, sum, across->cut);
            }
        }
        if (is_final) paint(&sums, &sums, 0.0f, &every, 0, (int)across->cut, y, answer);
    }
    free(numbers);
    return 1;
}

#ifdef __x86_64__
AVX2 static int blend_avx2(const Logits *tile, const Side *rows, const Side *columns,
                           const Common *across, const Common *down, int down_first,
                           const Answer *answer) {
    return blend_tile(8, tile, rows, columns, across, down, down_first, answer);
}

AVX512 static int blend_avx512(const Logits *tile, const Side *rows, const Side *columns,
                               const Common *across, const Common *down, int down_first,
                               const Answer *answer) {
    return blend_tile(16, tile, rows, columns, across, down, down_first, answer);
}
#endif

// `down_first`: of what both a tile below and one on the right reach, that below has it. By
// `instructions` that the processor has; 0 where there is no memory.
int blend(int by, const Logits *tile, const Side *rows, const Side *columns, const Common *across,
          const Common *down, int down_first, uint8_t *labels, int64_t width, int64_t *pixels,
          double *confidence) {
    const Answer answer = {labels, width, pixels, confidence};
#ifdef __x86_64__
    if (by == 2) return blend_avx512(tile, rows, columns, across, down, down_first, &answer);
    if (by == 1) return blend_avx2(tile, rows, columns, across, down, down_first, &answer);
#endif
    (void)by;
    return blend_tile(4, tile, rows, columns, across, down, down_first, &answer);
}
