// Class probabilities at a network's resolution to a label for every pixel of the image, in one pass
// and no more memory than a few rows': what segment.cu does on GPUs, for a CPU.
//
// A pixel lies between four of the source's, so it can have a class only if that comes to a quarter
// of the highest at one of them. Rows are computed in parts, each for the classes that can be chosen
// there: on photographs one or two, whatever the network's number.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "paint.h"
#include "processor.h"

enum {
    PART = 256,             // columns of the image
    PARTS = 16,
    STRIPE = PARTS * PART,  // a wider image is computed in several: a row may have millions
};

static const uint32_t LARGEST = 0x7f7fffff;  // number; infinity, NaN and what is below 0 is above
static const float NEAR = 0.2499f;           // a quarter, but for rounding

typedef struct {
    const float *planes;  // probabilities (classes, height, width), every row contiguous
    int64_t plane, line;  // from a class to the next, from a row to the next
    int64_t height, width;
    int classes;
} Source;

typedef struct {
    int64_t low, next;
    float weight;
} Place;

// Some columns of the image, and those of the source between which they lie.
typedef struct {
    int width;
    int low[STRIPE], next[STRIPE];
    float weight[STRIPE];
} Columns;

// A row of the source as far as some columns of the image reach.
typedef struct {
    int64_t at;                            // -1: none
    uint32_t highest[PARTS][MAX_CLASSES];  // of each class
    uint32_t lowest[PARTS];                // of what is highest in a pixel
    uint8_t has[PARTS][MAX_CLASSES];       // whether `lines` have a class
    Lines lines;                           // the row, interpolated to the columns
} Row;

// A part between two rows.
typedef struct {
    Choice choice;  // what can be chosen there
    int regular;    // all are numbers, and none is below 0
} Between;

// As models/samples.py has it: pixel centres are aligned, beyond the outermost nothing changes.
INLINE Place place(int64_t at, int64_t source, int64_t length) {
    const double found = (at + 0.5) * source / length - 0.5;
    const double inside = found < 0 ? 0 : found > source - 1 ? source - 1 : found;
    const int64_t low = (int64_t)inside;
    return (Place){low, low + 1 < source ? low + 1 : low, (float)(inside - low)};
}

// Where a part of the columns ends.
INLINE int end_of(const Columns *columns, int part) {
    return least((part + 1) * PART, columns->width);
}

// As many numbers as there are, and the first again for what is missing.
INLINE Bits load(const float *from, int64_t count) {
    if (count >= LANES) return *(const Bits *)from;
    float few[LANES];
    for (int lane = 0; lane < LANES; ++lane) few[lane] = from[lane < count ? lane : 0];
    return *(const Bits *)few;
}

INLINE void survey(const Source *source, const Columns *columns, int part, Row *row) {
    const int64_t begin = columns->low[part * PART];
    const int64_t count = columns->next[end_of(columns, part) - 1] + 1 - begin;
    const float *const planes = source->planes + row->at * source->line + begin;
    const int64_t ahead = row->at + 1 < source->height ? source->line : 0;
    Bits lowest = (Bits){0} + LARGEST;
    memset(row->highest[part], 0, sizeof(uint32_t) * source->classes);
    memset(row->has[part], 0, source->classes);
    for (int64_t some = 0; some < count; some += PART) {
        const int64_t most = count - some < PART ? count - some : PART;
        Bits best[PART / LANES] = {{0}};
        for (int index = 0; index < source->classes; ++index) {
            const float *const from = planes + index * source->plane + some;
            // of itself a processor does not foresee rows of many planes
            for (int64_t at = 0; at < most; at += 16) __builtin_prefetch(from + at + ahead);
            Bits highest = {0};
            for (int64_t at = 0; at < most; at += LANES) {
                const Bits values = load(from + at, most - at);
                highest = where(values > highest, values, highest);
                best[at / LANES] = where(values > best[at / LANES], values, best[at / LANES]);
            }
            uint32_t *const found = &row->highest[part][index];
            for (int lane = 0; lane < LANES; ++lane)
                *found = highest[lane] > *found ? highest[lane] : *found;
        }
        for (int64_t at = 0; at < most; at += LANES)
            lowest = where(best[at / LANES] < lowest, best[at / LANES], lowest);
    }
    row->lowest[part] = LARGEST;
    for (int lane = 0; lane < LANES; ++lane)
        if (lowest[lane] < row->lowest[part]) row->lowest[part] = lowest[lane];
}

INLINE void choose(const Source *source, const Row *above, const Row *below, int part,
                   Between *between) {
    const uint32_t *const one = above->highest[part], *const other = below->highest[part];
    const uint32_t lowest =
        above->lowest[part] < below->lowest[part] ? above->lowest[part] : below->lowest[part];
    float bound;
    memcpy(&bound, &lowest, sizeof(bound));
    bound *= NEAR;
    uint32_t bits;
    memcpy(&bits, &bound, sizeof(bits));
    Choice *const choice = &between->choice;
    choice->count = 0;
    between->regular = 1;
    for (int index = 0; index < source->classes; ++index) {
        const uint32_t highest = one[index] > other[index] ? one[index] : other[index];
        choice->classes[choice->count] = index;
        choice->count += highest >= bits;
        between->regular &= highest <= LARGEST;
    }
    if (between->regular) return;
    choice->count = source->classes;
    for (int index = 0; index < source->classes; ++index) choice->classes[index] = index;
}

INLINE void widen(const Source *source, const Columns *columns, int part, const Choice *choice,
                  Row *row) {
    const int begin = part * PART, end = end_of(columns, part);
    for (int turn = 0; turn < choice->count; ++turn) {
        const int index = choice->classes[turn];
        if (row->has[part][index]) continue;
        row->has[part][index] = 1;
        const float *const from = source->planes + index * source->plane + row->at * source->line;
        float *const values = row->lines.values + index * row->lines.width;
        for (int x = begin; x < end; ++x) {
            const float left = from[columns->low[x]], right = from[columns->next[x]];
            values[x] = left + columns->weight[x] * (right - left);
        }
        for (int x = end; x % LANES; ++x) values[x] = 0.0f;
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

INLINE void reach(const Source *source, const Columns *columns, int64_t at, Row *row) {
    if (row->at == at) return;
    row->at = at;
    for (int part = 0; part * PART < columns->width; ++part) survey(source, columns, part, row);
}

INLINE void segment_columns(const Source *source, const Columns *columns, int64_t height,
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
            reach(source, columns, rows.low, above);
            reach(source, columns, rows.next, below);
            for (int part = 0; part * PART < columns->width; ++part) {
                choose(source, above, below, part, &parts[part]);
                widen(source, columns, part, &parts[part].choice, above);
                widen(source, columns, part, &parts[part].choice, below);
            }
        }
        for (int part = 0; part * PART < columns->width; ++part) {
            const int begin = part * PART, end = end_of(columns, part);
            const Lines *const high = &above->lines, *const other = &below->lines;
            if (parts[part].regular)
                paint(high, other, rows.weight, &parts[part].choice, begin, end, y, answer);
            else
                paint_any(high, other, rows.weight, source->classes, begin, end, y, answer);
        }
    }
}

// 0 where there is no memory.
INLINE int segment_image(const Source *source, int64_t height, int64_t width, Answer answer) {
    const int64_t wide = with_room(width < STRIPE ? width : STRIPE);
    float *const values = malloc(2 * source->classes * wide * sizeof(float));
    if (values == NULL) return 0;
    Row above, below;
    above.lines = (Lines){values, wide};
    below.lines = (Lines){values + source->classes * wide, wide};
    Columns columns;
    Between parts[PARTS];
    for (int64_t begin = 0; begin < width; begin += STRIPE) {
        columns.width = width - begin < STRIPE ? (int)(width - begin) : STRIPE;
        for (int x = 0; x < columns.width; ++x) {
            const Place found = place(begin + x, source->width, width);
            columns.low[x] = (int)found.low;
            columns.next[x] = (int)found.next;
            columns.weight[x] = found.weight;
        }
        segment_columns(source, &columns, height, &above, &below, parts, &answer);
        answer.labels += STRIPE;
    }
    free(values);
    return 1;
}

#ifdef __x86_64__
AVX2 static int segment_avx2(const Source *source, int64_t height, int64_t width, Answer answer) {
    return segment_image(source, height, width, answer);
}

AVX512 static int segment_avx512(const Source *source, int64_t height, int64_t width,
                                 Answer answer) {
    return segment_image(source, height, width, answer);
}
#endif

// By `instructions` that the processor has; 0 where there is no memory.
int segment(int by, const float *planes, int64_t plane, int64_t line, int64_t classes,
            int64_t source_height, int64_t source_width, int64_t height, int64_t width,
            uint8_t *labels, int64_t *pixels, double *confidence) {
    const Source source = {planes, plane, line, source_height, source_width, (int)classes};
    const Answer answer = {labels, width, pixels, confidence};
#ifdef __x86_64__
    if (by == 2) return segment_avx512(&source, height, width, answer);
    if (by == 1) return segment_avx2(&source, height, width, answer);
#endif
    (void)by;
    return segment_image(&source, height, width, answer);
}
