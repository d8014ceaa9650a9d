/* The nearest point of a hyperplane in the box: the conditions that it alone satisfies, in double,
 * on random planes, and cases worked out by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "solve/plane.h"

enum { D = 61, N = 300 };
static Device *cpu;

static int open_device(void **state) {
    (void)state;
    Error e;
    return cpu_device(2, &cpu, &e);
}

static Tensor tensor_of(Dtype type, int64_t rows, int64_t columns) {
    Error e;
    Tensor t;
    int64_t shape[2] = {rows, columns};
    assert_int_equal(tensor_new(&t, cpu, type, columns ? 2 : 1, shape, &e), 0);
    memset(t.data, 0, tensor_bytes(&t));
    return t;
}

typedef struct Planes {
    Tensor x, w, at, c, z, distance;
} Planes;

static Planes planes_of(int64_t rows, int64_t columns) {
    return (Planes){.x = tensor_of(DTYPE_F32, rows, columns),
                    .w = tensor_of(DTYPE_F32, rows, columns),
                    .at = tensor_of(DTYPE_F32, rows, columns),
                    .c = tensor_of(DTYPE_F64, rows, 0),
                    .z = tensor_of(DTYPE_F32, rows, columns),
                    .distance = tensor_of(DTYPE_F64, rows, 0)};
}

static void free_planes(Planes *p) {
    Tensor *all[] = {&p->x, &p->w, &p->at, &p->c, &p->z, &p->distance};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_free(all[i]);
}

static void project(Planes *p, PlaneNorm norm) {
    Error e = {0};
    PlaneBatch b = {
        .x = &p->x, .w = &p->w, .at = &p->at, .c = &p->c, .z = &p->z, .distance = &p->distance};
    if (plane_project(&b, norm, &e) != 0) fail_msg("%s", e.text);
}

static float u(int stream, int64_t i) {
    return (float)random_uniform((uint64_t)(1000 + stream), (uint64_t)i);
}

/* Planes that cut the box and some that miss it; pixels on the sides, weights that are zero. */
static Planes random_planes(void) {
    Planes p = planes_of(N, D);
    for (int64_t n = 0; n < N; n++) {
        for (int64_t i = 0; i < D; i++) {
            int64_t k = n * D + i;
            float x = u(1, k);
            ((float *)p.x.data)[k] = x < 0.1F ? 0 : x > 0.9F ? 1 : x;
            ((float *)p.at.data)[k] = u(2, k);
            float w = 2 * u(3, k) - 1;
            ((float *)p.w.data)[k] = u(4, k) < 0.2F ? 0 : w * w * w;
        }
        ((double *)p.c.data)[n] = (n % 5 ? 2 : 30) * ((double)u(5, n) - 0.5);
    }
    return p;
}

/* The step of element i along d for t = 1, and its start and end. */
typedef struct Element {
    double d, x, z;
} Element;

static Element element_of(const Planes *p, int64_t n, int64_t i, double start, PlaneNorm norm) {
    double w = (double)((float *)p->w.data)[n * D + i] * (start > 0 ? -1 : 1);
    return (Element){norm == PLANE_L2 ? w : (double)((w > 0) - (w < 0)),
                     (double)((float *)p->x.data)[n * D + i],
                     (double)((float *)p->z.data)[n * D + i]};
}

/* c + <w, z - at>, z the tensor's. */
static double value_at(const Planes *p, const Tensor *z, int64_t n) {
    double sum = ((double *)p->c.data)[n];
    for (int64_t i = n * D; i < (n + 1) * D; i++)
        sum += (double)((float *)p->w.data)[i] *
               ((double)((float *)z->data)[i] - (double)((float *)p->at.data)[i]);
    return sum;
}

/* The t of the elements inside of the box, from the one that tells it most exactly; -1: none is. */
static double common_t(const Planes *p, int64_t n, double start, PlaneNorm norm) {
    double t = -1, largest = 0;
    for (int64_t i = 0; i < D; i++) {
        Element v = element_of(p, n, i, start, norm);
        if (v.d == 0 || v.z <= 0 || v.z >= 1 || fabs(v.d) < largest) continue;
        largest = fabs(v.d);
        t = (v.z - v.x) / v.d;
    }
    return t;
}

/* The problem is convex, so these conditions (Karush, Kuhn, Tucker) make z its solution: the
 * equation holds, and with one t all elements are clip(x + t d). */
static void test_conditions(void **state) {
    (void)state;
    for (PlaneNorm norm = PLANE_L2; norm <= PLANE_LINF; norm++) {
        Planes p = random_planes();
        project(&p, norm);
        int met = 0, missed = 0;
        for (int64_t n = 0; n < N; n++) {
            double start = value_at(&p, &p.x, n), length = 0;
            double t = common_t(&p, n, start, norm);
            assert_true(t >= 0 || t == -1);
            for (int64_t i = 0; i < D; i++) {
                Element v = element_of(&p, n, i, start, norm);
                double wanted = v.d == 0 ? v.x
                                : t >= 0 ? fmin(1, fmax(0, v.x + t * v.d))
                                         : (double)(v.d > 0);
                assert_true(fabs(v.z - wanted) < 1e-6 && v.z >= 0 && v.z <= 1);
                double far = fabs(v.z - v.x);
                length = norm == PLANE_L2 ? length + far * far : fmax(length, far);
            }
            if (norm == PLANE_L2) length = sqrt(length);
            assert_true(fabs(((double *)p.distance.data)[n] - length) < 1e-6);
            if (t >= 0) assert_true(fabs(value_at(&p, &p.z, n)) < 2e-6);
            met += t >= 0, missed += t < 0;
        }
        assert_true(met > N / 2 && missed > 0);
        free_planes(&p);
    }
}

/* z_1 + 2 z_2 = 1.7 from (0.1, 0.8, 0.5): short of it by 0; from 2.3: by 0.6. */
static void test_by_hand(void **state) {
    (void)state;
    const float w[3] = {1, 2, 0}, x[3] = {0.1F, 0.8F, 0.5F};
    const double c[4] = {0, -0.25, -0.6, -9};
    /* norm 2: t w with 5 t = 0.25; then z_2 = 1 and z_1 = 0.1 + 0.2; then the corner */
    const double two[4][2] = {{0.1, 0.8}, {0.15, 0.9}, {0.3, 1}, {1, 1}};
    /* norm inf: 3 t = 0.25; then t = 0.2 for both; then the corner */
    const double inf[4][2] = {{0.1, 0.8}, {0.1 + 0.25 / 3, 0.8 + 0.25 / 3}, {0.3, 1}, {1, 1}};
    for (PlaneNorm norm = PLANE_L2; norm <= PLANE_LINF; norm++) {
        Planes p = planes_of(4, 3);
        for (int n = 0; n < 4; n++) {
            memcpy((float *)p.x.data + 3 * n, x, sizeof x);
            memcpy((float *)p.at.data + 3 * n, x, sizeof x);
            memcpy((float *)p.w.data + 3 * n, w, sizeof w);
            ((double *)p.c.data)[n] = c[n];
        }
        project(&p, norm);
        for (int n = 0; n < 4; n++) {
            const float *z = (float *)p.z.data + 3 * n;
            const double *wanted = norm == PLANE_L2 ? two[n] : inf[n];
            for (int i = 0; i < 2; i++) assert_true(fabs((double)z[i] - wanted[i]) < 1e-6);
            assert_true(z[2] == x[2]);
        }
        free_planes(&p);
    }
}

/* An image's numbers are the same alone. */
static void test_apart(void **state) {
    (void)state;
    Planes p = random_planes(), one = planes_of(1, D);
    project(&p, PLANE_L2);
    for (int64_t n = 0; n < N; n += 17) {
        memcpy(one.x.data, (float *)p.x.data + n * D, D * sizeof(float));
        memcpy(one.w.data, (float *)p.w.data + n * D, D * sizeof(float));
        memcpy(one.at.data, (float *)p.at.data + n * D, D * sizeof(float));
        *(double *)one.c.data = ((double *)p.c.data)[n];
        project(&one, PLANE_L2);
        assert_memory_equal(one.z.data, (float *)p.z.data + n * D, D * sizeof(float));
        assert_true(*(double *)one.distance.data == ((double *)p.distance.data)[n]);
    }
    free_planes(&p);
    free_planes(&one);
}

static void test_refusals(void **state) {
    (void)state;
    Error e;
    Planes p = planes_of(2, 3), other = planes_of(3, 3);
    PlaneBatch b = {
        .x = &p.x, .w = &p.w, .at = &p.at, .c = &p.c, .z = &p.z, .distance = &p.distance};
    b.w = &other.w;
    assert_int_equal(plane_project(&b, PLANE_L2, &e), -1);
    assert_string_equal(e.text, "plane: w must be f32 [2,3], got f32 [3,3]");
    b.w = &p.w, b.c = &other.c;
    assert_int_equal(plane_project(&b, PLANE_L2, &e), -1);
    assert_string_equal(e.text, "plane: c must be f64 [2], got f64 [3]");
    b.c = &p.c, b.x = &p.c;
    assert_int_equal(plane_project(&b, PLANE_L2, &e), -1);
    assert_string_equal(e.text, "plane: x must be f32 [N,...], got f64 [2]");
    free_planes(&p);
    free_planes(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conditions),
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_apart),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, open_device, NULL);
}
