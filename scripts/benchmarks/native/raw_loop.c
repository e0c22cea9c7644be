/* What a token alone can do: C_SignInit and C_Sign in a loop, key handles cached, nothing around.
 *
 *   raw_loop MODULE LABEL CKA_ID MECHANISM THREADS SECONDS      PIN on standard input
 *
 * CKA_ID in hex; MECHANISM is pss, pkcs1v15 or ecdsa, each over a SHA-256 digest. Prints one line of JSON:
 * {"per_second": r, "p50_us": m, "p99_us": l}, the median and the 99th percentile being those of single calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef unsigned long ulong_t; /* CK_ULONG */
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism_t;
typedef struct { ulong_t type; void *value; ulong_t length; } attribute_t;
typedef struct { ulong_t hash, mgf, salt; } pss_t;
typedef struct { void *create, *destroy, *lock, *unlock; ulong_t flags; void *reserved; } initialize_t;
typedef struct { unsigned char major, minor; void *functions[68]; } function_list_t; /* PKCS #11 v2.40 3.6 */

enum { INITIALIZE = 0, FINALIZE = 1, GET_SLOT_LIST = 4, GET_TOKEN_INFO = 6, OPEN_SESSION = 12, LOGIN = 18,
       FIND_INIT = 26, FIND = 27, FIND_FINAL = 28, SIGN_INIT = 42, SIGN = 43 };

static function_list_t *list;
static ulong_t slot;
static unsigned char id[64];
static ulong_t id_length;
static mechanism_t mechanism;
static unsigned char data[64];
static ulong_t data_length = 32;
static double seconds;
static pthread_barrier_t gate;

typedef struct { pthread_t thread; long done; double elapsed; float *times; long kept; } worker_t;
enum { KEEP = 200000 };

#define CALL(index, ...) ((ulong_t(*)())list->functions[index])(__VA_ARGS__)
#define CHECK(what, call) do { ulong_t rv = (call); if (rv) { fprintf(stderr, "%s: 0x%lx\n", what, rv); exit(1); } } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *loop(void *argument) {
    worker_t *worker = argument;
    ulong_t session, key = 0, found = 0, object_class = 3; /* CKO_PRIVATE_KEY */
    attribute_t wanted[] = {{0, &object_class, sizeof object_class}, {0x102, id, id_length}};
    unsigned char signature[1024];
    CHECK("C_OpenSession", CALL(OPEN_SESSION, slot, 4UL, (void *)0, (void *)0, &session));
    CHECK("C_FindObjectsInit", CALL(FIND_INIT, session, wanted, 2UL));
    CHECK("C_FindObjects", CALL(FIND, session, &key, 1UL, &found));
    CHECK("C_FindObjectsFinal", CALL(FIND_FINAL, session));
    if (found != 1) { fprintf(stderr, "no such key\n"); exit(1); }
    pthread_barrier_wait(&gate);
    double begun = now(), last = begun, end = begun + seconds;
    while (last < end) {
        ulong_t length = sizeof signature;
        CHECK("C_SignInit", CALL(SIGN_INIT, session, &mechanism, key));
        CHECK("C_Sign", CALL(SIGN, session, data, data_length, signature, &length));
        double here = now();
        if (worker->kept < KEEP) worker->times[worker->kept++] = (float)(here - last);
        worker->done++;
        last = here;
    }
    worker->elapsed = last - begun;
    return NULL;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments) {
    if (count != 7) { fprintf(stderr, "usage: raw_loop MODULE LABEL CKA_ID MECHANISM THREADS SECONDS\n"); return 2; }
    static pss_t pss = {0x250, 2, 32}; /* CKM_SHA256, CKG_MGF1_SHA256 */
    static const unsigned char info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                         0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
    if (!strcmp(arguments[4], "pss")) mechanism = (mechanism_t){0xd, &pss, sizeof pss};
    else if (!strcmp(arguments[4], "ecdsa")) mechanism = (mechanism_t){0x1041, NULL, 0};
    else { mechanism = (mechanism_t){0x1, NULL, 0}; memcpy(data, info, sizeof info); data_length = sizeof info + 32; }
    for (const char *hex = arguments[3]; hex[0] && hex[1] && id_length < sizeof id; hex += 2)
        sscanf(hex, "%2hhx", &id[id_length++]);
    int threads = atoi(arguments[5]);
    seconds = atof(arguments[6]);
    char pin[256] = "";
    if (!fgets(pin, sizeof pin, stdin)) return 2;
    pin[strcspn(pin, "\n")] = 0;

    void *module = dlopen(arguments[1], RTLD_NOW);
    if (!module) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    CHECK("C_GetFunctionList", ((ulong_t(*)(function_list_t **))dlsym(module, "C_GetFunctionList"))(&list));
    initialize_t locking = {.flags = 2}; /* CKF_OS_LOCKING_OK */
    ulong_t slots[64], slot_count, session;
    int known = 0;
    /* SoftHSM2 does not see a token whose file another process writes at this moment, as it does for a login. */
    for (int attempt = 0; attempt < 10 && !known; attempt++) {
        if (attempt) { CHECK("C_Finalize", CALL(FINALIZE, (void *)0)); usleep(100000); }
        CHECK("C_Initialize", CALL(INITIALIZE, &locking));
        slot_count = 64;
        CHECK("C_GetSlotList", CALL(GET_SLOT_LIST, 1, slots, &slot_count));
        for (ulong_t each = 0; each < slot_count && !known; each++) {
            unsigned char token[512]; /* CK_TOKEN_INFO begins with the label: 32 bytes, padded with blanks */
            char padded[33];
            snprintf(padded, sizeof padded, "%-32s", arguments[2]);
            if (!CALL(GET_TOKEN_INFO, slots[each], token) && !memcmp(token, padded, 32)) { slot = slots[each]; known = 1; }
        }
    }
    if (!known) { fprintf(stderr, "no token %s\n", arguments[2]); return 1; }
    CHECK("C_OpenSession", CALL(OPEN_SESSION, slot, 4UL, (void *)0, (void *)0, &session));
    CHECK("C_Login", CALL(LOGIN, session, 1UL, pin, (ulong_t)strlen(pin)));
    memset(pin, 0, sizeof pin);

    worker_t *workers = calloc((size_t)threads, sizeof *workers);
    pthread_barrier_init(&gate, NULL, (unsigned)threads);
    for (int each = 0; each < threads; each++) {
        workers[each].times = malloc(KEEP * sizeof(float));
        pthread_create(&workers[each].thread, NULL, loop, &workers[each]);
    }
    double rate = 0;
    long kept = 0;
    for (int each = 0; each < threads; each++) {
        pthread_join(workers[each].thread, NULL);
        rate += (double)workers[each].done / workers[each].elapsed;
        kept += workers[each].kept;
    }
    float *times = malloc((size_t)kept * sizeof(float)), *next = times;
    for (int each = 0; each < threads; each++) {
        memcpy(next, workers[each].times, (size_t)workers[each].kept * sizeof(float));
        next += workers[each].kept;
    }
    qsort(times, (size_t)kept, sizeof(float), ascending);
    printf("{\"per_second\": %.2f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", rate, times[kept / 2] * 1e6, times[kept * 99 / 100] * 1e6);
    return 0;
}
