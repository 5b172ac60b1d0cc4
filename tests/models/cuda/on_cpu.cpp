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
    unsigned int x, y;
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
    unsigned int across, unsigned int down, const float* probabilities, long long image,
    long long plane, long long num_classes, long long source_height, long long source_width,
    const Wanted* wanted, unsigned char* answers) {
    std::barrier<> barrier(THREADS);
    together = &barrier;
    std::vector<std::thread> threads;
    for (unsigned int index = 0; index < THREADS; ++index) {
        threads.emplace_back([=] {
            threadIdx.x = index;
            for (unsigned int block = 0; block < across * down; ++block) {
                blockIdx = {block % across, block / across};
                segment(
                    probabilities, image, plane, num_classes, source_height, source_width, wanted,
                    answers);
                together->arrive_and_wait();
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
}
