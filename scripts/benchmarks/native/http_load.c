/* A load generator that costs little: plain HTTP/1.1, one thread, epoll, closed loop. Every connection asks again when it
 * is answered; one that the service closes is opened anew, as clients of such a service must.
 *
 *   http_load PORT CONNECTIONS SECONDS REQUESTS
 *
 * REQUESTS is a file of whole requests, each after its length (32 bits, little endian); they are sent in turns. Answers of
 * the first tenth of the time are not counted. An answer counts as good if it is 200 and its body begins with an
 * OCSPResponse of status successful. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct {
    int descriptor, connected;
    const char *request;
    size_t length, sent, have, want;
    char answer[16384];
} connection_t;

static const char **requests;
static size_t *lengths, count, next_one;
static long good, failed, closed;
static struct sockaddr_in address;
static int poll_descriptor;
static double counted_from, ends;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const char *what) {
    fprintf(stderr, "http_load: %s\n", what);
    exit(1);
}

static void watch(connection_t *c, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(poll_descriptor, operation, c->descriptor, &event);
}

static void ask(connection_t *c) {
    c->request = requests[next_one];
    c->length = lengths[next_one];
    next_one = (next_one + 1) % count;
    c->sent = c->have = c->want = 0;
}

static void dial(connection_t *c) {
    int one = 1;
    c->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(c->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(c->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS) die("cannot connect");
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    c->connected = 0;
    ask(c);
}

static void redial(connection_t *c) {
    close(c->descriptor);
    dial(c);
}

static void answered(connection_t *c, const char *body) {
    static const char successful[] = "\x0a\x01\x00";
    double at = now();
    if (at < counted_from || at > ends) return;
    if (atoi(c->answer + 9) == 200 && memmem(body, 16, successful, 3)) good++;
    else failed++;
}

static void handle(connection_t *c, uint32_t events) {
    if (c->sent < c->length) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
        ssize_t n = send(c->descriptor, c->request + c->sent, c->length - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) return;
            if (errno == ECONNREFUSED) die("nobody listens");
            closed++;
            redial(c);
            return;
        }
        c->connected = 1;
        c->sent += (size_t)n;
        if (c->sent == c->length) watch(c, EPOLLIN, EPOLL_CTL_MOD);
        return;
    }
    ssize_t n = recv(c->descriptor, c->answer + c->have, sizeof c->answer - 1 - c->have, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n > 0) c->have += (size_t)n;
    c->answer[c->have] = 0;
    char *end = strstr(c->answer, "\r\n\r\n");
    if (end && !c->want) {
        char *length = strcasestr(c->answer, "content-length:");
        if (length && length < end) c->want = (size_t)(end + 4 - c->answer) + strtoul(length + 15, NULL, 10);
    }
    int whole = c->want && c->have >= c->want;
    if (whole) answered(c, end + 4);
    if (n <= 0 || (whole && strcasestr(c->answer, "connection: close"))) {
        closed++;
        redial(c);
    } else if (whole) {
        ask(c);
        watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        handle(c, EPOLLOUT);
    }
}

int main(int arguments, char **a) {
    if (arguments != 5) { fprintf(stderr, "usage: http_load PORT CONNECTIONS SECONDS REQUESTS\n"); return 2; }
    int connections = atoi(a[2]);
    double seconds = atof(a[3]);
    FILE *file = fopen(a[4], "rb");
    if (!file) die("cannot read the requests");
    uint32_t size;
    while (fread(&size, sizeof size, 1, file) == 1) {
        requests = realloc(requests, (count + 1) * sizeof *requests);
        lengths = realloc(lengths, (count + 1) * sizeof *lengths);
        char *request = malloc(size);
        if (!request || fread(request, 1, size, file) != size) die("a request is cut short");
        requests[count] = request;
        lengths[count++] = size;
    }
    fclose(file);
    if (!count) die("there are no requests");
    address.sin_family = AF_INET;
    address.sin_port = htons((unsigned short)atoi(a[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    poll_descriptor = epoll_create1(0);
    connection_t *all = calloc((size_t)connections, sizeof *all);
    double begun = now();
    counted_from = begun + seconds / 10;
    ends = begun + seconds;
    for (int each = 0; each < connections; each++) dial(&all[each]);
    struct epoll_event events[256];
    while (now() < ends) {
        int n = epoll_wait(poll_descriptor, events, 256, 10);
        for (int each = 0; each < n; each++) handle(events[each].data.ptr, events[each].events);
    }
    printf("{\"per_second\": %.2f, \"failed\": %ld, \"closed\": %ld}\n", (double)good / (ends - counted_from), failed, closed);
    return 0;
}
