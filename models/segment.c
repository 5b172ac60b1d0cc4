// Logits at a network's resolution to a label for every pixel of the image, in one pass and no more
// memory than a few rows': their softmax, and what segment.cu does with it on GPUs.
//
// A pixel lies between four of the source's, so it can have a class only if the probability of that
// comes to a quarter of the highest at one of them. Rows are computed in parts, each for the classes
// that can be chosen there: on photographs one or two, whatever the network's number.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "interpolation.h"
#include "logits.h"
#include "paint.h"
#include "processor.h"

enum {
    STRIPE = 4096,  // columns of the image; a wider one is computed in several: it may have millions
    PARTS = 16,
    LEAST_PART = 64,  // columns of the source
};

static const float NEAR = 0.2499f;  // a quarter, but for rounding

// Some columns of the image, those of the source between which they lie, and the parts of either:
// an image's column belongs to the part that has the lower of its source's.
typedef struct {
    int width;
    int low[STRIPE], next[STRIPE];
    float weight[STRIPE];
    int parts, begins[PARTS + 1];
    int64_t source_begins[PARTS + 1];
} Columns;

// A row of the source as far as some columns of the image reach.
typedef struct {
    int64_t at;            // -1: none
    float *probabilities;  // (classes, plane)
    int64_t plane;
    Range ranges[PARTS];
    uint8_t has[PARTS][MAX_CLASSES];  // whether `lines` have a class
    Lines lines;                      // the row, interpolated to the columns
} Row;

// A part between two rows.
typedef struct {
    Choice choice;  // what can be chosen there
    int regular;    // all are numbers
} Between;

// The image's columns from `begin` to `end`, and their parts.
INLINE void find_columns(int64_t source, int64_t length, int64_t begin, int64_t end,
                         Columns *columns) {
    columns->width = (int)(end - begin);
    for (int x = 0; x < columns->width; ++x) {
        const Place found = place(begin + x, source, length);
        columns->low[x] = (int)found.low;
        columns->next[x] = (int)found.next;
        columns->weight[x] = found.weight;
    }
    const int64_t first = columns->low[0], last = columns->next[columns->width - 1];
    const int64_t even = (last - first) / PARTS + 1;
    // a whole number of the longest vectors
    const int64_t part = even < LEAST_PART ? LEAST_PART : (even + 15) / 16 * 16;
    columns->parts = 0;
    for (int x = 0; x < columns->width; ++x)
        while (columns->low[x] >= first + columns->parts * part) {
            columns->begins[columns->parts] = x;
            columns->source_begins[columns->parts] = first + columns->parts * part;
            columns->parts += 1;
        }
    columns->begins[columns->parts] = columns->width;
    columns->source_begins[columns->parts] = last + 1;
}

// Adds a pixel to what a part has.
INLINE void add_column(const Logits *source, const Row *row, int64_t x, Range *range) {
    float best = 0;
    for (int64_t index = 0; index < source->classes; ++index) {
        const float value = row->probabilities[index * row->plane + x];
        if (value > range->highest[index]) range->highest[index] = value;
        if (!(value <= best)) best = value;  // no number if it has none: then no class has one
    }
    if (best < range->lowest || isnan(best)) range->lowest = best;
}

INLINE void reach(int lanes, const Logits *source, const Columns *columns, int64_t at, Row *row) {
    if (row->at == at) return;
    row->at = at;
    for (int part = 0; part < columns->parts; ++part) {
        const int64_t *const begin = &columns->source_begins[part];
        softmax(lanes, source, at, begin[0], begin[1], row->probabilities, row->plane,
                &row->ranges[part]);
        memset(row->has[part], 0, source->classes);
        // an image's column lies between a part's last one and the next part's first
        if (part > 0) add_column(source, row, begin[0], &row->ranges[part - 1]);
    }
}

INLINE void choose(const Logits *source, const Range *above, const Range *below,
                   Between *between) {
    const float lowest = above->lowest < below->lowest ? above->lowest : below->lowest;
    Choice *const choice = &between->choice;
    between->regular = !isnan(above->lowest) && !isnan(below->lowest);
    choice->count = 0;
    for (int index = 0; index < source->classes; ++index) {
        const float one = above->highest[index], other = below->highest[index];
        choice->classes[choice->count] = index;
        choice->count += !between->regular || (one > other ? one : other) >= NEAR * lowest;
    }
}

INLINE void widen(const Columns *columns, int part, const Choice *choice, Row *row) {
    const Places places = {columns->low, columns->next, columns->weight};
    for (int turn = 0; turn < choice->count; ++turn) {
        const int index = choice->classes[turn];
        if (row->has[part][index]) continue;
        row->has[part][index] = 1;
        widen_line(&places, row->probabilities + index * row->plane, columns->begins[part],
                   columns->begins[part + 1], row->lines.values + index * row->lines.width);
    }
}

// `paint` of whatever numbers, pixel by pixel. One without a number has the last class and NaN, as
// numpy_segment.py and segment.cu have it.
static void paint_any(const Lines *above, const Lines *below, float weight, int classes, int begin,
                      int end, int64_t y, const Answer *answer) {
    for (int x = begin; x < end; ++x) {
        float best = -INFINITY;
        int label = 0;
        for (int index = 0; index < classes; ++index) {
            const float high = above->values[index * above->width + x];
            const float low = below->values[index * below->width + x];
            const float value = high + weight * (low - high);
            if (isnan(value)) {
                best = NAN;
                label = classes - 1;
                break;
            }
            if (value > best) {
                best = value;
                label = index;
            }
        }
        answer->labels[y * answer->width + x] = (uint8_t)label;
        answer->pixels[label] += 1;
        answer->confidence[label] += best;
    }
}

INLINE void segment_columns(int lanes, const Logits *source, const Columns *columns, int64_t height,
                            Row *above, Row *below, Between parts[PARTS], const Answer *answer) {
    above->at = below->at = -1;
    int64_t low = -1;
    for (int64_t y = 0; y < height; ++y) {
        const Place rows = place(y, source->height, height);
        if (rows.low != low) {
            low = rows.low;
            if (above->at != low) {
                Row *const row = above;
                above = below;
                below = row;
            }
            reach(lanes, source, columns, rows.low, above);
            reach(lanes, source, columns, rows.next, below);
            for (int part = 0; part < columns->parts; ++part) {
                choose(source, &above->ranges[part], &below->ranges[part], &parts[part]);
                widen(columns, part, &parts[part].choice, above);
                widen(columns, part, &parts[part].choice, below);
            }
        }
        for (int part = 0; part < columns->parts; ++part) {
            const int begin = columns->begins[part], end = columns->begins[part + 1];
            const Lines *const high = &above->lines, *const other = &below->lines;
            if (parts[part].regular)
                paint(high, other, rows.weight, &parts[part].choice, begin, end, y, answer);
            else
                paint_any(high, other, rows.weight, (int)source->classes, begin, end, y, answer);
        }
    }
}

// 0 where there is no memory.
INLINE int segment_image(int lanes, const Logits *source, int64_t height, int64_t width,
                         Answer answer) {
    const int64_t across = with_room(width < STRIPE ? width : STRIPE);
    const int64_t plane = with_room(source->width), size = source->classes * (across + plane);
    float *const values = calloc(2 * size, sizeof(float));  // vectors reach beyond the last column
    if (values == NULL) return 0;
    Row rows[2];
    for (int index = 0; index < 2; ++index) {
        rows[index].lines = (Lines){values + index * size, across};
        rows[index].probabilities = values + index * size + source->classes * across;
        rows[index].plane = plane;
    }
    Columns columns;
    Between parts[PARTS];
    for (int64_t begin = 0; begin < width; begin += STRIPE) {
        const int64_t end = width - begin < STRIPE ? width : begin + STRIPE;
        find_columns(source->width, width, begin, end, &columns);
        segment_columns(lanes, source, &columns, height, &rows[0], &rows[1], parts, &answer);
        answer.labels += STRIPE;
    }
    free(values);
    return 1;
}

#ifdef __x86_64__
AVX2 static int segment_avx2(const Logits *source, int64_t height, int64_t width, Answer answer) {
    return segment_image(8, source, height, width, answer);
}

AVX512 static int segment_avx512(const Logits *source, int64_t height, int64_t width,
                                 Answer answer) {
    return segment_image(16, source, height, width, answer);
}
#endif

// By `instructions` that the processor has; 0 where there is no memory.
int segment(int by, const Logits *source, int64_t height, int64_t width, uint8_t *labels,
            int64_t *pixels, double *confidence) {
    const Answer answer = {labels, width, pixels, confidence};
#ifdef __x86_64__
    if (by == 2) return segment_avx512(source, height, width, answer);
    if (by == 1) return segment_avx2(source, height, width, answer);
#endif
    (void)by;
    return segment_image(4, source, height, width, answer);
}
