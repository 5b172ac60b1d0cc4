// The kernel of models/segment.cu on the CPU: a thread for each of a block's threads, one block after
// the other. What CUDA's language has beyond C++ is given here.

#include <algorithm>
#include <barrier>
#include <cmath>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __restrict__
#define __launch_bounds__(threads)

using std::fmax, std::fmin, std::max, std::min;

struct Index {
    unsigned int x;
};

static thread_local Index threadIdx;
static thread_local Index blockIdx;
static std::mutex adding;
static std::barrier<>* together;

static void __syncthreads() { together->arrive_and_wait(); }

template <typename T>
static void atomicAdd(T* to, T value) {
    const std::lock_guard<std::mutex> alone(adding);
    *to += value;
}

static float __int_as_float(unsigned int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

#include "segment.cu"

extern "C" void run(
    unsigned int blocks, const float* probabilities, long long plane, long long num_classes,
    long long source_height, long long source_width, long long height, long long width,
    unsigned char* labels, unsigned long long* pixels, double* confidence) {
    std::barrier<> barrier(THREADS);
    together = &barrier;
    std::vector<std::thread> threads;
    for (unsigned int index = 0; index < THREADS; ++index) {
        threads.emplace_back([=] {
            threadIdx.x = index;
            for (unsigned int block = 0; block < blocks; ++block) {
                blockIdx.x = block;
                segment(
                    probabilities, plane, num_classes, source_height, source_width, height, width,
                    labels, pixels, confidence);
                together->arrive_and_wait();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}
