// Class probabilities at a network's resolution to a label for every pixel of the image, in one pass
// and no more memory than a few rows': what segment.cu does on GPUs, for a CPU.
//
// A pixel lies between four of the source's, so it can have a class only if that comes to a quarter
// of the highest at one of them. Rows are computed in parts, each for the classes that can be chosen
// there: on photographs one or two, whatever the network's number.
//
// In the vectors of GCC and Clang, which they translate for any processor.

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 8,
    PART = 256,             // columns of the image
    PARTS = 16,
    STRIPE = PARTS * PART,  // a wider image is computed in several: a row may have millions
    MAX_CLASSES = 256,
};

#pragma GCC diagnostic ignored "-Wpsabi"  // of vectors between functions, all of which are inlined

#define INLINE static inline __attribute__((always_inline))
#define VECTOR __attribute__((vector_size(4 * LANES), aligned(4), may_alias))

typedef float Floats VECTOR;
typedef int32_t Integers VECTOR;
typedef uint32_t Bits VECTOR;  // of numbers from 0 on, which have the order of their bits
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

static const uint32_t LARGEST = 0x7f7fffff;  // number; infinity, NaN and what is below 0 is above
static const float NEAR = 0.2499f;           // a quarter, but for rounding

typedef struct {
    const float *planes;  // (classes, height, width), every row contiguous
    int64_t plane, line;  // from a class to the next, from a row to the next
    int64_t height, width;
    int classes;
} Source;

typedef struct {
    int64_t height, width;
    uint8_t *labels;     // (height, width)
    int64_t *pixels;     // (classes,), and
    double *confidence;  // (classes,): what is found is added
} Image;

typedef struct {
    int64_t low, next;
    float weight;
} Place;

// Some columns of the image, and those of the source between which they lie.
typedef struct {
    int64_t left;
    int width;
    int low[STRIPE], next[STRIPE];
    float weight[STRIPE];
} Columns;

// A row of the source as far as some columns of the image reach.
typedef struct {
    int64_t at;                            // -1: none
    uint32_t highest[PARTS][MAX_CLASSES];  // of each class
    uint32_t lowest[PARTS];                // of what is highest in a pixel
    uint8_t has[PARTS][MAX_CLASSES];       // whether a class is among `values`
    float *values;                         // (classes, width), interpolated to the columns,
    int64_t wide;                          // from a class to the next
} Row;

// The classes that can be chosen in a part between two rows.
typedef struct {
    int count, classes[MAX_CLASSES];
    int regular;  // they are numbers, and none is below 0
} Choice;

// As models/samples.py has it: pixel centres are aligned, beyond the outermost nothing changes.
INLINE Place place(int64_t at, int64_t source, int64_t length) {
    const double found = (at + 0.5) * source / length - 0.5;
    const double inside = found < 0 ? 0 : found > source - 1 ? source - 1 : found;
    const int64_t low = (int64_t)inside;
    return (Place){low, low + 1 < source ? low + 1 : low, (float)(inside - low)};
}

INLINE int least(int one, int other) { return one < other ? one : other; }

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

// `one` where `is`, elsewhere `other`.
INLINE Bits where(Integers is, Bits one, Bits other) {
    return ((Bits)is & one) | (~(Bits)is & other);
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
                   Choice *choice) {
    const uint32_t *const one = above->highest[part], *const other = below->highest[part];
    const uint32_t lowest =
        above->lowest[part] < below->lowest[part] ? above->lowest[part] : below->lowest[part];
    float bound;
    memcpy(&bound, &lowest, sizeof(bound));
    bound *= NEAR;
    uint32_t bits;
    memcpy(&bits, &bound, sizeof(bits));
    choice->count = 0;
    choice->regular = 1;
    for (int index = 0; index < source->classes; ++index) {
        const uint32_t highest = one[index] > other[index] ? one[index] : other[index];
        choice->classes[choice->count] = index;
        choice->count += highest >= bits;
        choice->regular &= highest <= LARGEST;
    }
    if (choice->regular) return;
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
        float *const values = row->values + index * row->wide;
        for (int x = begin; x < end; ++x) {
            const float left = from[columns->low[x]], right = from[columns->next[x]];
            values[x] = left + columns->weight[x] * (right - left);
        }
        for (int x = end; x % LANES; ++x) values[x] = 0.0f;  // vectors reach beyond the last column
    }
}

INLINE void add(const Image *image, int label, int64_t count, Floats values) {
    float half[LANES / 2];
    for (int lane = 0; lane < LANES / 2; ++lane) half[lane] = values[lane] + values[lane + LANES / 2];
    image->pixels[label] += count;
    image->confidence[label] += (double)(half[0] + half[1]) + (double)(half[2] + half[3]);
}

INLINE Floats between(const Row *above, const Row *below, float weight, int index, int x) {
    const Floats high = *(const Floats *)(above->values + index * above->wide + x);
    const Floats low = *(const Floats *)(below->values + index * below->wide + x);
    return high + weight * (low - high);
}

// The pixels of a part of a row, a share `weight` of the way from the row above to that below.
INLINE void paint(const Row *above, const Row *below, float weight, const Choice *choice, int begin,
                  int end, uint8_t *labels, const Image *image) {
    Floats sum = {0};  // of `count` pixels of the class `current`
    int64_t count = 0;
    int current = 0;
    for (int x = begin; x < end; x += LANES) {
        Floats best = between(above, below, weight, choice->classes[0], x);
        Integers chosen = (Integers){0} + choice->classes[0];
        for (int turn = 1; turn < choice->count; ++turn) {
            const int index = choice->classes[turn];
            const Floats values = between(above, below, weight, index, x);
            const Integers is = values > best;  // the lowest of equals
            chosen = (Integers)where(is, (Bits){0} + index, (Bits)chosen);
            best = (Floats)where(is, (Bits)values, (Bits)best);
        }
        const Bytes bytes = __builtin_convertvector(chosen, Bytes);
        uint64_t all;
        memcpy(&all, &bytes, LANES);
        if (all == (all & 0xff) * 0x0101010101010101 && x + LANES <= end) {
            memcpy(labels + x, &bytes, LANES);
            if (bytes[0] != current) {
                add(image, current, count, sum);
                current = bytes[0];
                count = 0;
                sum = (Floats){0};
            }
            count += LANES;
            sum += best;
        } else {
            for (int lane = 0; lane < least(LANES, end - x); ++lane) {
                labels[x + lane] = bytes[lane];
                image->pixels[bytes[lane]] += 1;
                image->confidence[bytes[lane]] += best[lane];
            }
        }
    }
    add(image, current, count, sum);
}

// The same of whatever numbers, pixel by pixel. One without a number has the last class and NaN, as
// the other ways have it.
static void paint_any(const Source *source, const Row *above, const Row *below, float weight,
                      int begin, int end, uint8_t *labels, const Image *image) {
    for (int x = begin; x < end; ++x) {
        float best = -INFINITY;
        int label = 0;
        for (int index = 0; index < source->classes; ++index) {
            const float high = above->values[index * above->wide + x];
            const float low = below->values[index * below->wide + x];
            const float value = high + weight * (low - high);
            if (isnan(value)) {
                best = NAN;
                label = source->classes - 1;
                break;
            }
            if (value > best) {
                best = value;
                label = index;
            }
        }
        labels[x] = (uint8_t)label;
        image->pixels[label] += 1;
        image->confidence[label] += best;
    }
}

INLINE void reach(const Source *source, const Columns *columns, int64_t at, Row *row) {
    if (row->at == at) return;
    row->at = at;
    for (int part = 0; part * PART < columns->width; ++part) survey(source, columns, part, row);
}

INLINE void segment_columns(const Source *source, const Columns *columns, Row *above, Row *below,
                            Choice choices[PARTS], const Image *image) {
    above->at = below->at = -1;
    int64_t low = -1;
    for (int64_t y = 0; y < image->height; ++y) {
        const Place rows = place(y, source->height, image->height);
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
                choose(source, above, below, part, &choices[part]);
                widen(source, columns, part, &choices[part], above);
                widen(source, columns, part, &choices[part], below);
            }
        }
        uint8_t *const labels = image->labels + y * image->width + columns->left;
        for (int part = 0; part * PART < columns->width; ++part) {
            const int begin = part * PART, end = end_of(columns, part);
            const Choice *const choice = &choices[part];
            if (choice->regular)
                paint(above, below, rows.weight, choice, begin, end, labels, image);
            else
                paint_any(source, above, below, rows.weight, begin, end, labels, image);
        }
    }
}

// 0 where there is no memory.
INLINE int segment_image(const Source *source, const Image *image) {
    const int64_t widest = image->width < STRIPE ? image->width : STRIPE;
    // vectors reach beyond the last column; and what a class has is not to displace another's from
    // the cache, as it would at multiples of 4 KiB
    const int64_t wide = (widest + LANES - 1) / LANES * LANES + 16;
    float *const values = malloc(2 * source->classes * wide * sizeof(float));
    if (values == NULL) return 0;
    Row above, below;
    above.values = values;
    below.values = values + source->classes * wide;
    above.wide = below.wide = wide;
    Columns columns;
    Choice choices[PARTS];
    for (columns.left = 0; columns.left < image->width; columns.left += STRIPE) {
        const int64_t left = image->width - columns.left;
        columns.width = left < STRIPE ? (int)left : STRIPE;
        for (int x = 0; x < columns.width; ++x) {
            const Place found = place(columns.left + x, source->width, image->width);
            columns.low[x] = (int)found.low;
            columns.next[x] = (int)found.next;
            columns.weight[x] = found.weight;
        }
        segment_columns(source, &columns, &above, &below, choices, image);
    }
    free(values);
    return 1;
}

#ifdef __x86_64__
__attribute__((target("avx2,fma"))) static int segment_avx2(const Source *source,
                                                            const Image *image) {
    return segment_image(source, image);
}

__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))) static int segment_avx512(
    const Source *source, const Image *image) {
    return segment_image(source, image);
}
#endif

static int segment_anywhere(const Source *source, const Image *image) {
    return segment_image(source, image);
}

// Which instructions the processor has, asked when it runs: this may have been compiled on another.
int instructions(void) {
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 0;
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                   __builtin_cpu_supports("avx512vl")
               ? 2
               : 1;
#else
    return 0;
#endif
}

// By instructions that the processor has, 0 for those that all have. 0 where there is no memory.
int segment(int by, const float *planes, int64_t plane, int64_t line, int64_t classes,
            int64_t source_height, int64_t source_width, int64_t height, int64_t width,
            uint8_t *labels, int64_t *pixels, double *confidence) {
    const Source source = {planes, plane, line, source_height, source_width, (int)classes};
    const Image image = {height, width, labels, pixels, confidence};
#ifdef __x86_64__
    if (by == 2) return segment_avx512(&source, &image);
    if (by == 1) return segment_avx2(&source, &image);
#endif
    (void)by;
    return segment_anywhere(&source, &image);
}
