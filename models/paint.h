// Which class is the highest at each pixel of a row, and what adds up for each class that is.
//
// In the vectors of GCC and Clang, which they translate for any processor.

#ifndef PAINT_H
#define PAINT_H

#include <stdint.h>
#include <string.h>

enum { LANES = 8, MAX_CLASSES = 256 };

#pragma GCC diagnostic ignored "-Wpsabi"  // of vectors between functions, all of which are inlined

#define INLINE static inline __attribute__((always_inline))
#define VECTOR __attribute__((vector_size(4 * LANES), aligned(4), may_alias))

typedef float Floats VECTOR;
typedef int32_t Integers VECTOR;
typedef uint32_t Bits VECTOR;
typedef uint8_t Bytes __attribute__((vector_size(LANES)));

// Numbers of each class for a row's columns, and room for a vector that reaches beyond the last.
typedef struct {
    float *values;  // (classes, width)
    int64_t width;
} Lines;

typedef struct {
    int count, classes[MAX_CLASSES];  // ascending
} Choice;

typedef struct {
    uint8_t *labels;     // of the pixels that are painted, row by row
    int64_t width;       // from a row to the next
    int64_t *pixels;     // (classes,), and
    double *confidence;  // (classes,): what is found is added
} Answer;

// The width of Lines for so many columns: no multiple of 4 KiB, at which one class would displace
// another from the cache.
INLINE int64_t with_room(int64_t columns) { return (columns + LANES - 1) / LANES * LANES + 16; }

INLINE int least(int one, int other) { return one < other ? one : other; }

// `one` where `is`, elsewhere `other`.
INLINE Bits where(Integers is, Bits one, Bits other) {
    return ((Bits)is & one) | (~(Bits)is & other);
}

// A share `weight` of the way from one row to another.
INLINE Floats between(const Lines *above, const Lines *below, float weight, int index, int x) {
    const Floats high = *(const Floats *)(above->values + index * above->width + x);
    if (below == above) return high;
    const Floats low = *(const Floats *)(below->values + index * below->width + x);
    return high + weight * (low - high);
}

INLINE void add(const Answer *answer, int label, int64_t count, Floats values) {
    float half[LANES / 2];
    for (int lane = 0; lane < LANES / 2; ++lane)
        half[lane] = values[lane] + values[lane + LANES / 2];
    answer->pixels[label] += count;
    answer->confidence[label] += (double)(half[0] + half[1]) + (double)(half[2] + half[3]);
}

// The columns from `begin` to `end` of the row `y`, between the rows above and below it.
INLINE void paint(const Lines *above, const Lines *below, float weight, const Choice *choice,
                  int begin, int end, int64_t y, const Answer *answer) {
    uint8_t *const labels = answer->labels + y * answer->width;
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
                add(answer, current, count, sum);
                current = bytes[0];
                count = 0;
                sum = (Floats){0};
            }
            count += LANES;
            sum += best;
        } else {
            for (int lane = 0; lane < least(LANES, end - x); ++lane) {
                labels[x + lane] = bytes[lane];
                answer->pixels[bytes[lane]] += 1;
                answer->confidence[bytes[lane]] += best[lane];
            }
        }
    }
    add(answer, current, count, sum);
}

#endif
