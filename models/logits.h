// What a network left of an image in memory, and the class probabilities of a row of it.

#ifndef LOGITS_H
#define LOGITS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "paint.h"

typedef struct {                  // as models/compiled.py has it
    const void *values;           // float32, or
    int64_t is_bfloat16;          // not 0: bfloat16
    int64_t plane, line, column;  // numbers from a class, a row, a column to the next
    int64_t classes, height, width;
} Logits;

// What some pixels of a row have.
typedef struct {
    float highest[MAX_CLASSES];  // of each class
    float lowest;                // of what is highest in a pixel; no number where a pixel has none
} Range;

INLINE float number(const Logits *logits, int64_t at) {
    if (!logits->is_bfloat16) return ((const float *)logits->values)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)logits->values)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// For vectors as a processor has them: of longer ones a compiler makes single numbers.
#define WIDTH 4
#include "softmax.h"
#undef WIDTH
#define WIDTH 8
#include "softmax.h"
#undef WIDTH
#define WIDTH 16
#include "softmax.h"
#undef WIDTH

// The row as it is into (classes, plane), which has room as for `softmax`.
INLINE void planes(int lanes, const Logits *logits, int64_t row, float *values, int64_t plane) {
    if (lanes == 16)
        planes_16(logits, row, values, plane);
    else if (lanes == 8)
        planes_8(logits, row, values, plane);
    else
        planes_4(logits, row, values, plane);
}

// The softmax of the row's columns from `begin` to `end` into (classes, plane), `lanes` of them at a
// time: what the last vector reaches beyond the end is written as well, `with_room` has it.
INLINE void softmax(int lanes, const Logits *logits, int64_t row, int64_t begin, int64_t end,
                    float *probabilities, int64_t plane, Range *range) {
    if (lanes == 16)
        softmax_16(logits, row, begin, end, probabilities, plane, range);
    else if (lanes == 8)
        softmax_8(logits, row, begin, end, probabilities, plane, range);
    else
        softmax_4(logits, row, begin, end, probabilities, plane, range);
}

#endif
