// For which processors a function is translated beside the one that every processor runs.

#ifndef PROCESSOR_H
#define PROCESSOR_H

#ifdef __x86_64__
#define AVX2 __attribute__((target("avx2,fma")))
#define AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#endif

// 2 where this processor has those of AVX512, 1 where it has those of AVX2, else 0: asked when it
// runs, because it may not be the one that this is translated on.
int instructions(void);

// As models/compiled.py has it: raised with every change of what a function takes, for a library that
// was left from before is not to be called.
int interface(void);

#endif
