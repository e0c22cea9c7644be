/* A PKCS#11 module that forwards every call to a real one, and fails, hangs or crashes where it is told to.
 *
 * It reads the file beside it: faulty.so reads faulty.so.control, so that each copy of the library is steered by itself
 * and no environment is needed. Lines of the file:
 *
 *     module /usr/lib/softhsm/libsofthsm2.so       the real module; read once, at the first C_GetFunctionList
 *     environment NAME VALUE                       set for that module, before it is loaded
 *     fault C_Sign AFTER TIMES 0x30                after AFTER calls answer CKR 0x30, TIMES times (0: for ever)
 *     fault C_Sign AFTER TIMES hang                … do not return until the file changes, then do what it says now
 *     fault C_Sign AFTER TIMES crash               … die of SIGSEGV
 *
 * The file is read again whenever it was replaced, and counting starts anew; each process counts for itself. Each fault
 * is told by a line "PID FUNCTION ACTION" in faulty.so.told before it happens.
 *
 * All functions of PKCS#11 v2.40 take at most eight arguments, each a pointer or an integer. Forwarding eight words,
 * whatever a function's own number, is right on the ABIs of amd64 and arm64: the caller removes its own arguments. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CKR_GENERAL_ERROR 0x05UL

/* CK_FUNCTION_LIST, in the order of the standard (v2.40 3.6). */
#define FUNCTIONS(F) \
    F(C_Initialize) F(C_Finalize) F(C_GetInfo) F(C_GetFunctionList) F(C_GetSlotList) F(C_GetSlotInfo) \
    F(C_GetTokenInfo) F(C_GetMechanismList) F(C_GetMechanismInfo) F(C_InitToken) F(C_InitPIN) F(C_SetPIN) \
    F(C_OpenSession) F(C_CloseSession) F(C_CloseAllSessions) F(C_GetSessionInfo) F(C_GetOperationState) \
    F(C_SetOperationState) F(C_Login) F(C_Logout) F(C_CreateObject) F(C_CopyObject) F(C_DestroyObject) \
    F(C_GetObjectSize) F(C_GetAttributeValue) F(C_SetAttributeValue) F(C_FindObjectsInit) F(C_FindObjects) \
    F(C_FindObjectsFinal) F(C_EncryptInit) F(C_Encrypt) F(C_EncryptUpdate) F(C_EncryptFinal) F(C_DecryptInit) \
    F(C_Decrypt) F(C_DecryptUpdate) F(C_DecryptFinal) F(C_DigestInit) F(C_Digest) F(C_DigestUpdate) F(C_DigestKey) \
    F(C_DigestFinal) F(C_SignInit) F(C_Sign) F(C_SignUpdate) F(C_SignFinal) F(C_SignRecoverInit) F(C_SignRecover) \
    F(C_VerifyInit) F(C_Verify) F(C_VerifyUpdate) F(C_VerifyFinal) F(C_VerifyRecoverInit) F(C_VerifyRecover) \
    F(C_DigestEncryptUpdate) F(C_DecryptDigestUpdate) F(C_SignEncryptUpdate) F(C_DecryptVerifyUpdate) F(C_GenerateKey) \
    F(C_GenerateKeyPair) F(C_WrapKey) F(C_UnwrapKey) F(C_DeriveKey) F(C_SeedRandom) F(C_GenerateRandom) \
    F(C_GetFunctionStatus) F(C_CancelFunction) F(C_WaitForSlotEvent)

typedef unsigned long word;
typedef word (*function)(word, word, word, word, word, word, word, word);

#define INDEX(name) AT_##name,
enum { FUNCTIONS(INDEX) COUNT };

#define NAME(name) #name,
static const char *const names[COUNT] = {FUNCTIONS(NAME)};

struct list {
    unsigned char major, minor;
    function functions[COUNT];
};

struct fault {
    int function;
    long after, times, calls;
    enum { ANSWER, HANG, CRASH } action;
    word answer;
};

static struct list *real;
static struct fault faults[32];
static int fault_count;
static unsigned generation; /* how often the control file was read */
static struct stat seen;
static char control_path[4096], told_path[4096];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int changed(struct stat *now) {
    return stat(control_path, now) == 0 && (now->st_ino != seen.st_ino || now->st_mtim.tv_sec != seen.st_mtim.tv_sec ||
                                            now->st_mtim.tv_nsec != seen.st_mtim.tv_nsec);
}

static int index_of(const char *name) {
    for (int i = 0; i < COUNT; i++)
        if (strcmp(names[i], name) == 0) return i;
    fprintf(stderr, "faulty PKCS#11 module: there is no function %s\n", name);
    abort();
}

/* Read the control file; `module` gets the path of the real module. Called with the lock held. */
static void read_control(const struct stat *now, char *module) {
    char line[8192], function[64], action[64], value[4096];
    FILE *file = fopen(control_path, "re");
    if (!file) return;
    seen = *now;
    generation++;
    fault_count = 0;
    while (fgets(line, sizeof line, file)) {
        struct fault fault = {0};
        if (module && sscanf(line, "module %4095s", module) == 1) continue;
        if (module && sscanf(line, "environment %63s %4095s", function, value) == 2) setenv(function, value, 1);
        if (sscanf(line, "fault %63s %ld %ld %63s", function, &fault.after, &fault.times, action) != 4) continue;
        fault.function = index_of(function);
        fault.action = strcmp(action, "hang") == 0 ? HANG : strcmp(action, "crash") == 0 ? CRASH : ANSWER;
        fault.answer = strtoul(action, NULL, 0);
        if (fault_count < 32) faults[fault_count++] = fault;
    }
    fclose(file);
}

static void tell(int function, const char *action) {
    int file = open(told_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0) {
        dprintf(file, "%d %s %s\n", (int)getpid(), names[function], action);
        close(file);
    }
}

/* Whether this call of `function` is answered here, with `answer`. Hangs and crashes do their work inside. */
static int faulted(int function, word *answer) {
    struct stat now;
    const struct timespec pause = {0, 5 * 1000 * 1000};
    for (int told = 0;; told = 1) {
        struct fault found;
        unsigned read_now, hit = 0;
        pthread_mutex_lock(&lock);
        if (changed(&now)) read_control(&now, NULL);
        for (int i = 0; i < fault_count && !hit; i++) {
            if (faults[i].function != function) continue;
            long turn = faults[i].calls++ - faults[i].after;
            if (turn >= 0 && (faults[i].times == 0 || turn < faults[i].times)) {
                hit = 1;
                found = faults[i];
            }
        }
        read_now = generation;
        pthread_mutex_unlock(&lock);
        if (!hit) return 0;
        if (!told) tell(function, found.action == HANG ? "hang" : found.action == CRASH ? "crash" : "answer");
        if (found.action == ANSWER) {
            *answer = found.answer;
            return 1;
        }
        if (found.action == CRASH) {
            signal(SIGSEGV, SIG_DFL);
            raise(SIGSEGV);
        }
        for (unsigned then = read_now; read_now == then;) {
            nanosleep(&pause, NULL);
            pthread_mutex_lock(&lock);
            if (changed(&now)) read_control(&now, NULL);
            read_now = generation;
            pthread_mutex_unlock(&lock);
        }
    }
}

#define FORWARD(name) \
    static word forward_##name(word a, word b, word c, word d, word e, word f, word g, word h) { \
        word answer; \
        return faulted(AT_##name, &answer) ? answer : real->functions[AT_##name](a, b, c, d, e, f, g, h); \
    }
FUNCTIONS(FORWARD)

static struct list ours = {2, 40, {
#define ENTRY(name) forward_##name,
    FUNCTIONS(ENTRY)
}};

word C_GetFunctionList(struct list **out) {
    struct stat now;
    Dl_info self;
    char module[4096] = "";
    word (*get)(struct list **);
    word answer = 0;

    pthread_mutex_lock(&lock);
    if (!real) {
        answer = CKR_GENERAL_ERROR;
        dladdr((void *)C_GetFunctionList, &self);
        snprintf(control_path, sizeof control_path, "%s.control", self.dli_fname);
        snprintf(told_path, sizeof told_path, "%s.told", self.dli_fname);
        if (stat(control_path, &now) == 0) read_control(&now, module);
        void *library = dlopen(module, RTLD_NOW | RTLD_LOCAL);
        if (library && (get = (word(*)(struct list **))dlsym(library, "C_GetFunctionList"))) answer = get(&real);
        if (answer != 0) fprintf(stderr, "faulty PKCS#11 module: cannot load \"%s\"\n", module);
    }
    pthread_mutex_unlock(&lock);
    if (answer == 0) *out = &ours;
    return answer;
}
