// The CPU kernels for AVX-512.
#include "kernels.h"

#if defined(__x86_64__)

#define TAPTRV2_ISA avx512
#define TAPTRV2_VECTOR_BYTES 64
#if defined(__clang__) || __GNUC__ >= 11  // with an assembler of that time
#define TAPTRV2_AMX
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#include "kernels.inl"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
