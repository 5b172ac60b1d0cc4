// Where pixels lie between those of a source of another size, and lines of numbers between them.

#ifndef INTERPOLATION_H
#define INTERPOLATION_H

#include <stdint.h>

#include "paint.h"

typedef struct {
    int64_t low, next;
    float weight;
} Place;

// As models/samples.py has it: pixel centres are aligned, beyond the outermost nothing changes.
INLINE Place place(int64_t at, int64_t source, int64_t length) {
    const double found = (at + 0.5) * source / length - 0.5;
    const double inside = found < 0 ? 0 : found > source - 1 ? source - 1 : found;
    const int64_t low = (int64_t)inside;
    return (Place){low, low + 1 < source ? low + 1 : low, (float)(inside - low)};
}

// Columns of an image between those of the source.
typedef struct {
    const int *low, *next;
    const float *weight;
} Places;

// A line of the source at the columns from `begin` to `end`.
INLINE void widen_line(const Places *places, const float *from, int begin, int end, float *values) {
    for (int x = begin; x < end; ++x) {
        const float left = from[places->low[x]], right = from[places->next[x]];
        values[x] = left + places->weight[x] * (right - left);
    }
}

// The same at twice as many columns as the source has, of which none has to be looked up: a fifth of
// a tile's time.
INLINE void double_line(const float *from, int64_t source, float *values) {
    values[0] = from[0];
    for (int64_t x = 0; x + 1 < source; ++x) {
        const float step = from[x + 1] - from[x];
        values[2 * x + 1] = from[x] + 0.25f * step;
        values[2 * x + 2] = from[x] + 0.75f * step;
    }
    values[2 * source - 1] = from[source - 1];
}

#endif
