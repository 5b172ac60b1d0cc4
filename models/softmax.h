// Logits of WIDTH pixels at a time, and the softmax over their classes: logits.h includes it for each
// WIDTH.

#define JOINED(name, width) name##_##width
#define NAMED(name, width) JOINED(name, width)
#define NAME(name) NAMED(name, WIDTH)
#define REAL NAME(Real)
#define WORD NAME(Word)

typedef float REAL __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));
typedef uint32_t WORD __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

#ifndef SOFTMAX_H
#define SOFTMAX_H

enum { WORDS = 4 };  // of 4 bytes, that are read of a pixel at a time

typedef uint32_t Few __attribute__((vector_size(4 * WORDS), aligned(2), may_alias));

#if defined(__has_builtin) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#if __has_builtin(__builtin_shufflevector)  // GCC has it from version 12 on
#define SHUFFLES
#endif
#endif

#endif

// The second where either is no number.
INLINE REAL NAME(max)(REAL one, REAL other) {
    REAL found;
    for (int lane = 0; lane < WIDTH; ++lane)
        found[lane] = one[lane] > other[lane] ? one[lane] : other[lane];
    return found;
}

INLINE float NAME(reduce_max)(REAL values) {
    float lanes[WIDTH];
    *(REAL *)lanes = values;
    for (int half = WIDTH / 2; half > 0; half /= 2)
        for (int lane = 0; lane < half; ++lane)
            lanes[lane] = lanes[lane] > lanes[lane + half] ? lanes[lane] : lanes[lane + half];
    return lanes[0];
}

// 2 to the power of what is at most 0, to 3 units in the last place; no number of what is none.
INLINE REAL NAME(exp2)(REAL exponents) {
    // of less, a share would be so small that it takes a processor a hundred times as long
    const REAL inside = NAME(max)((REAL){0} - 100.0f, exponents);
    // so large that its last bit is 1, and the last ones are the exponent of 1
    const REAL shift = (REAL){0} + (12582912.0f + 127.0f);
    const REAL whole = inside + shift;
    const REAL rest = inside - (whole - shift);
    // the polynomial of the least relative error from -1/2 to 1/2 that is 1 at 0
    REAL found = rest * 1.32647273e-3f + 9.67151299e-3f;
    found = found * rest + 5.55073358e-2f;
    found = found * rest + 2.40222424e-1f;
    found = found * rest + 6.93147004e-1f;
    found = found * rest + 1.0f;
    return found * (REAL)((WORD)whole << 23);
}

#ifdef SHUFFLES
#if WIDTH == 4
#define MIX(one, other, a, b, c, d) __builtin_shufflevector(one, other, a, b, c, d)
#elif WIDTH == 8
#define MIX(one, other, a, b, c, d) \
    __builtin_shufflevector(one, other, a, b, c, d, a + 4, b + 4, c + 4, d + 4)
#else
#define MIX(one, other, a, b, c, d)                                                               \
    __builtin_shufflevector(one, other, a, b, c, d, a + 4, b + 4, c + 4, d + 4, a + 8, b + 8,     \
                            c + 8, d + 8, a + 12, b + 12, c + 12, d + 12)
#endif

// Of every fourth pixel of WIDTH.
INLINE WORD NAME(fourths)(const char *from, int64_t step) {
#if WIDTH == 4
    (void)step;
    return *(const Few *)from;
#elif WIDTH == 8
    return __builtin_shufflevector(fourths_4(from, step), fourths_4(from + 4 * step, step), 0, 1, 2,
                                   3, 4, 5, 6, 7);
#else
    return __builtin_shufflevector(fourths_8(from, step), fourths_8(from + 8 * step, step), 0, 1, 2,
                                   3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
}

// WORDS of each of WIDTH pixels, which are `step` bytes from each other -> each word of all pixels.
INLINE void NAME(transpose)(const char *from, int64_t step, WORD words[WORDS]) {
    enum { N = WIDTH };
    const WORD a = NAME(fourths)(from, step), b = NAME(fourths)(from + step, step);
    const WORD c = NAME(fourths)(from + 2 * step, step), d = NAME(fourths)(from + 3 * step, step);
    const WORD low_ab = MIX(a, b, 0, N, 1, N + 1), high_ab = MIX(a, b, 2, N + 2, 3, N + 3);
    const WORD low_cd = MIX(c, d, 0, N, 1, N + 1), high_cd = MIX(c, d, 2, N + 2, 3, N + 3);
    words[0] = MIX(low_ab, low_cd, 0, 1, N, N + 1);
    words[1] = MIX(low_ab, low_cd, 2, 3, N + 2, N + 3);
    words[2] = MIX(high_ab, high_cd, 0, 1, N, N + 1);
    words[3] = MIX(high_ab, high_cd, 2, 3, N + 2, N + 3);
}
#undef MIX

// Of WIDTH pixels that have their classes beside each other, at least as many as are read at a time.
INLINE void NAME(read_pixels)(const Logits *logits, int64_t at, REAL *values) {
    const int64_t size = logits->is_bfloat16 ? 2 : 4, some = 4 * WORDS / size;
    const char *const from = (const char *)logits->values + at * size;
    for (int64_t index = 0; index < logits->classes; index += some) {
        // the last are read again where less than `some` are left
        const int64_t first = index + some > logits->classes ? logits->classes - some : index;
        WORD words[WORDS];
        NAME(transpose)(from + first * size, logits->column * size, words);
        for (int word = 0; word < WORDS; ++word) {
            if (logits->is_bfloat16) {  // two of them, which are the upper half of a float32
                values[first + 2 * word] = (REAL)(words[word] << 16);
                values[first + 2 * word + 1] = (REAL)(words[word] & 0xffff0000u);
            } else {
                values[first + word] = (REAL)words[word];
            }
        }
    }
}
#endif

// Of the pixels from `at` on, and of the last again where there are less than WIDTH.
INLINE void NAME(read)(const Logits *logits, int64_t at, int64_t count, REAL *values) {
    if (count >= WIDTH && logits->column == 1 && !logits->is_bfloat16) {
        const float *const from = (const float *)logits->values + at;
        for (int64_t index = 0; index < logits->classes; ++index)
            values[index] = *(const REAL *)(from + index * logits->plane);
        return;
    }
#ifdef SHUFFLES
    if (count >= WIDTH && logits->plane == 1 &&
        logits->classes >= (logits->is_bfloat16 ? 2 * WORDS : WORDS)) {
        NAME(read_pixels)(logits, at, values);
        return;
    }
#endif
    for (int64_t index = 0; index < logits->classes; ++index)
        for (int64_t lane = 0; lane < WIDTH; ++lane) {
            const int64_t column = lane < count ? lane : count - 1;
            values[index][lane] =
                number(logits, at + index * logits->plane + column * logits->column);
        }
}

INLINE void NAME(planes)(const Logits *logits, int64_t row, float *planes, int64_t plane) {
    REAL values[MAX_CLASSES];
    for (int64_t x = 0; x < logits->width; x += WIDTH) {
        NAME(read)(logits, row * logits->line + x * logits->column, logits->width - x, values);
        for (int64_t index = 0; index < logits->classes; ++index)
            *(REAL *)(planes + index * plane + x) = values[index];
    }
}

INLINE void NAME(softmax)(const Logits *logits, int64_t row, int64_t begin, int64_t end,
                          float *probabilities, int64_t plane, Range *range) {
    REAL values[MAX_CLASSES], highest[MAX_CLASSES];
    for (int64_t index = 0; index < logits->classes; ++index) highest[index] = (REAL){0};
    REAL most_sums = {0}, all_sums = {0};
    for (int64_t x = begin; x < end; x += WIDTH) {
        NAME(read)(logits, row * logits->line + x * logits->column, end - x, values);
        REAL most = values[0];
        for (int64_t index = 1; index < logits->classes; ++index)
            most = NAME(max)(values[index], most);
        REAL sum = {0};
        for (int64_t index = 0; index < logits->classes; ++index) {
            values[index] = NAME(exp2)((values[index] - most) * 1.44269504f);
            sum += values[index];
        }
        const REAL share = 1.0f / sum;  // of the highest, which is 1 so far
        for (int64_t index = 0; index < logits->classes; ++index) {
            const REAL probability = values[index] * share;
            *(REAL *)(probabilities + index * plane + x) = probability;
            highest[index] = NAME(max)(probability, highest[index]);
        }
        most_sums = NAME(max)(sum, most_sums);
        all_sums += sum;
    }
    for (int64_t index = 0; index < logits->classes; ++index)
        range->highest[index] = NAME(reduce_max)(highest[index]);
    range->lowest = 1.0f / NAME(reduce_max)(most_sums);
    for (int lane = 0; lane < WIDTH; ++lane)
        if (isnan(all_sums[lane])) range->lowest = NAN;
}

#undef NAME
#undef NAMED
#undef JOINED
#undef REAL
#undef WORD
