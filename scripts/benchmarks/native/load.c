/* A load generator that costs little: HTTP/1.1 over mutual TLS 1.3, one thread, epoll. It shares the machine with what
 * it measures, so it sends the same prepared request again and again and reads no more of an answer than it must.
 *
 *   load PORT CERTIFICATE KEY CA CONNECTIONS SECONDS RATE REQUEST
 *
 * REQUEST is a file with the whole request. RATE 0: closed loop, every connection asks again when it is answered.
 * Otherwise an open loop: requests arrive RATE times a second (Poisson, fixed seed), whether the service keeps up or
 * not, and wait for a free connection; latency counts from the arrival, so that a service that stalls is not let off.
 * Answers of the first tenth of the time are not counted. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    SSL *tls;
    int busy, writing, status;
    size_t sent, have, want; /* bytes of the request sent; of the answer read; of the whole answer, 0 while unknown */
    double arrived;
    char answer[16384];
} connection_t;

static const char *request;
static size_t request_length;
static float *latencies;
static long measured, good, refused, failed, capacity = 1 << 21;
static double begun, counted_from, ends;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static void answered(connection_t *c, double at) {
    c->busy = 0;
    if (at < counted_from || at > ends) return;
    if (c->status >= 200 && c->status < 300) good++;
    else if (c->status == 503 || c->status == 429) refused++;
    else failed++;
    if (measured < capacity && c->status < 300) latencies[measured++] = (float)(at - c->arrived);
}

static void pump(connection_t *c) { /* write what is left of the request, read what there is of the answer */
    while (c->writing) {
        int n = SSL_write(c->tls, request + c->sent, (int)(request_length - c->sent));
        if (n <= 0) {
            if (SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE || SSL_get_error(c->tls, n) == SSL_ERROR_WANT_READ) return;
            die("a connection was closed while a request was sent");
        }
        c->sent += (size_t)n;
        if (c->sent == request_length) c->writing = 0;
    }
    while (c->busy) {
        /* of a long answer only the head is kept: the rest overwrites itself */
        size_t room = sizeof c->answer - 1 - (c->want ? 0 : c->have);
        char *place = c->want ? c->answer : c->answer + c->have;
        if (c->want && room > c->want - c->have) room = c->want - c->have;
        int n = SSL_read(c->tls, place, (int)room);
        if (n <= 0) {
            int error = SSL_get_error(c->tls, n);
            if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return;
            die("a connection was closed while an answer was awaited");
        }
        c->have += (size_t)n;
        if (!c->want) {
            c->answer[c->have] = 0;
            char *end = strstr(c->answer, "\r\n\r\n");
            if (!end) { if (c->have == sizeof c->answer - 1) die("the head of an answer is too long"); continue; }
            char *length = strcasestr(c->answer, "content-length:");
            if (!length || length > end) die("an answer has no Content-Length");
            c->status = atoi(c->answer + 9);
            c->want = (size_t)(end + 4 - c->answer) + strtoul(length + 15, NULL, 10);
        }
        if (c->have >= c->want) answered(c, now());
    }
}

static void ask(connection_t *c, double arrived) {
    c->busy = c->writing = 1;
    c->sent = c->have = c->want = 0;
    c->arrived = arrived;
    pump(c);
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double percentile(double p) { return measured ? latencies[(long)((double)(measured - 1) * p)] * 1e3 : 0; }

int main(int count, char **a) {
    if (count != 9) { fprintf(stderr, "usage: load PORT CERTIFICATE KEY CA CONNECTIONS SECONDS RATE REQUEST\n"); return 2; }
    int connections = atoi(a[5]);
    double seconds = atof(a[6]), rate = atof(a[7]);
    FILE *file = fopen(a[8], "rb");
    if (!file) die("cannot read the request");
    static char buffer[1 << 20];
    request_length = fread(buffer, 1, sizeof buffer, file);
    request = buffer;
    fclose(file);
    latencies = malloc((size_t)capacity * sizeof(float));

    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_use_certificate_chain_file(context, a[2]) != 1 || SSL_CTX_use_PrivateKey_file(context, a[3], SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_load_verify_locations(context, a[4], NULL) != 1)
        die("certificate, key or CA cannot be used");
    int poll = epoll_create1(0);
    connection_t *all = calloc((size_t)connections, sizeof *all);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(a[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int each = 0; each < connections; each++) {
        int descriptor = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        if (connect(descriptor, (struct sockaddr *)&address, sizeof address)) die("cannot connect");
        setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        all[each].tls = SSL_new(context);
        SSL_set_fd(all[each].tls, descriptor);
        if (SSL_connect(all[each].tls) != 1) die("no TLS");
        fcntl(descriptor, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = &all[each]};
        epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event);
    }

    begun = now();
    counted_from = begun + seconds / 10;
    ends = begun + seconds;
    srand48(20260501);
    double arrival = begun;
    int free_count = connections;
    connection_t **idle = malloc((size_t)connections * sizeof *idle);
    for (int each = 0; each < connections; each++) idle[each] = &all[each];
    struct epoll_event events[256];
    while (now() < ends) {
        double here = now();
        if (rate == 0) while (free_count) ask(idle[--free_count], here);
        else while (free_count && arrival <= here) {
            ask(idle[--free_count], arrival);
            arrival += -log(1 - drand48()) / rate;
        }
        int wait = 10;
        if (rate > 0 && free_count) { wait = (int)((arrival - now()) * 1e3); if (wait < 0) wait = 0; if (wait > 10) wait = 10; }
        int n = epoll_wait(poll, events, 256, wait);
        for (int each = 0; each < n; each++) {
            connection_t *c = events[each].data.ptr;
            if (!c->busy) continue;
            pump(c);
        }
        free_count = 0;
        for (int each = 0; each < connections; each++) if (!all[each].busy) idle[free_count++] = &all[each];
    }
    qsort(latencies, (size_t)measured, sizeof(float), ascending);
    double counted = ends - counted_from;
    printf("{\"per_second\": %.2f, \"refused_per_second\": %.2f, \"failed\": %ld, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (double)good / counted, (double)refused / counted, failed, percentile(0.5), percentile(0.99));
    return 0;
}
