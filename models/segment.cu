// Class probabilities at a network's resolution to a label for every pixel of the image, in one pass:
// what `segment_probabilities` does in a dozen kernels and as many passes over the image.
//
// A thread takes ROWS pixels below one another, so that neighbouring threads read and write
// neighbouring memory and a thread adds up what neighbouring pixels have in common.

constexpr int THREADS = 128;
constexpr int ROWS = 8;
constexpr int MAX_CLASSES = 256;

// As models/samples.py has it: pixel centres are aligned, beyond the outermost nothing changes.
struct Place {
    long long low, next;
    float weight;
};

__device__ Place place(long long at, long long source, long long length) {
    const double found = (at + 0.5) * source / length - 0.5;
    const double inside = fmin(fmax(found, 0.0), static_cast<double>(source - 1));
    const long long low = static_cast<long long>(inside);
    return {low, min(low + 1, source - 1), static_cast<float>(inside - low)};
}

// An image to be answered: which of the probabilities are its own, its size, and where in the memory
// for answers its own begins, at a multiple of 8: pixels, int64 (num_classes,), confidence, float64
// (num_classes,), both zero at first, and labels, uint8 (height, width).
struct Wanted {
    long long source, height, width, begin;
};

// probabilities: float32 (n, num_classes, source_height, source_width), `image` from one to the next,
// `plane` from one class to the next, whose plane is contiguous. A row of blocks for each image.
extern "C" __global__ void __launch_bounds__(THREADS) segment(
    const float* __restrict__ probabilities, long long image, long long plane,
    long long num_classes, long long source_height, long long source_width,
    const Wanted* __restrict__ wanted, unsigned char* __restrict__ answers) {
    const long long height = wanted[blockIdx.y].height, width = wanted[blockIdx.y].width;
    const long long across = (width + THREADS - 1) / THREADS;
    if (blockIdx.x >= across * ((height + ROWS - 1) / ROWS)) return;  // other images are larger

    probabilities += wanted[blockIdx.y].source * image;
    unsigned long long* pixels =
        reinterpret_cast<unsigned long long*>(answers + wanted[blockIdx.y].begin);
    double* confidence = reinterpret_cast<double*>(pixels + num_classes);
    unsigned char* labels = reinterpret_cast<unsigned char*>(confidence + num_classes);

    __shared__ unsigned int counts[MAX_CLASSES];
    __shared__ double sums[MAX_CLASSES];
    for (int index = threadIdx.x; index < num_classes; index += THREADS) {
        counts[index] = 0;
        sums[index] = 0.0;
    }
    __syncthreads();

    const long long x = blockIdx.x % across * THREADS + threadIdx.x;
    const long long top = blockIdx.x / across * ROWS;
    const long long bottom = min(top + ROWS, height);
    if (x < width) {
        const Place column = place(x, source_width, width);
        int current = 0;  // the class of the pixels that `count` and `sum` are of
        unsigned int count = 0;
        double sum = 0.0;
        for (long long y = top; y < bottom; ++y) {
            const Place row = place(y, source_height, height);
            const float* above = probabilities + row.low * source_width;
            const float* below = probabilities + row.next * source_width;
            float best = __int_as_float(0xff800000);  // minus infinity
            int label = 0;
            bool is_number = true;
            for (int index = 0; index < num_classes; ++index) {
                const float left =
                    above[column.low] + row.weight * (below[column.low] - above[column.low]);
                const float right =
                    above[column.next] + row.weight * (below[column.next] - above[column.next]);
                const float value = left + column.weight * (right - left);
                is_number = is_number && value == value;
                if (value > best) {  // the lowest of equals
                    best = value;
                    label = index;
                }
                above += plane;
                below += plane;
            }
            if (!is_number) {  // as the other ways have it
                best = __int_as_float(0x7fc00000);
                label = static_cast<int>(num_classes) - 1;
            }
            labels[y * width + x] = static_cast<unsigned char>(label);
            if (label != current && count > 0) {
                atomicAdd(&counts[current], count);
                atomicAdd(&sums[current], sum);
                count = 0;
                sum = 0.0;
            }
            current = label;
            ++count;
            sum += best;
        }
        atomicAdd(&counts[current], count);
        atomicAdd(&sums[current], sum);
    }
    __syncthreads();

    for (int index = threadIdx.x; index < num_classes; index += THREADS) {
        if (counts[index] > 0) {
            atomicAdd(&pixels[index], static_cast<unsigned long long>(counts[index]));
            atomicAdd(&confidence[index], sums[index]);
        }
    }
}
