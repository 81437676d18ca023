// Preloaded into a process under test: writes down, in order, what it does to files below a folder, so that
// a power cut at any point can be imagined afterwards. A write is noted after it returned; a sync is noted when
// it begins and when it has ended, as it covers what had returned before it began.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, RENAME, UNLINK, MKDIR, SYNC_BEGIN, SYNC_END };
enum { FDS_MAX = 4096, PATH_MAX_LEN = 512 };

struct head {
  uint32_t kind, path_len;
  uint64_t at, len;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char paths[FDS_MAX][PATH_MAX_LEN];
static const char *root;
static int log_fd = -1;
static uint64_t syncs;

__attribute__((constructor)) static void start(void) {
  const char *log = getenv("RECORDER_LOG");
  root = getenv("RECORDER_ROOT");
  if (log && root) log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int below(const char *path) { return log_fd >= 0 && path && strncmp(path, root, strlen(root)) == 0; }

static int known(int fd) { return fd >= 0 && fd < FDS_MAX && paths[fd][0]; }

static void note(uint32_t kind, const char *path, uint64_t at, const void *data, uint64_t len) {
  struct head head = {kind, (uint32_t)strlen(path), at, len};
  struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, head.path_len}, {(void *)data, len}};
  size_t whole = sizeof head + head.path_len + len;
  pthread_mutex_lock(&lock);
  if (syscall(SYS_writev, log_fd, parts, 3) != (long)whole) abort();
  pthread_mutex_unlock(&lock);
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void opened(int fd, const char *path, int flags, int existed) {
  if (fd < 0 || fd >= FDS_MAX || !below(path) || strlen(path) >= PATH_MAX_LEN) return;
  strcpy(paths[fd], path);
  if ((flags & O_CREAT) && !existed) note(CREATE, path, 0, NULL, 0);
  else if (flags & O_TRUNC) note(TRUNCATE, path, 0, NULL, 0);
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(name); \
    va_list rest; \
    va_start(rest, flags); \
    mode_t mode = va_arg(rest, mode_t); \
    va_end(rest); \
    int existed = below(path) && access(path, F_OK) == 0; \
    int fd = real(path, flags, mode); \
    opened(fd, path, flags, existed); \
    return fd; \
  }
OPEN(open)
OPEN(open64)

int close(int fd) {
  REAL(close);
  if (known(fd)) paths[fd][0] = 0;
  return real(fd);
}

ssize_t write(int fd, const void *data, size_t len) {
  REAL(write);
  off_t at = known(fd) ? lseek(fd, 0, SEEK_CUR) : 0;
  ssize_t done = real(fd, data, len);
  if (done > 0 && known(fd)) note(WRITE, paths[fd], (uint64_t)at, data, (uint64_t)done);
  return done;
}

#define PWRITE(name, offset) \
  ssize_t name(int fd, const void *data, size_t len, offset at) { \
    REAL(name); \
    ssize_t done = real(fd, data, len, at); \
    if (done > 0 && known(fd)) note(WRITE, paths[fd], (uint64_t)at, data, (uint64_t)done); \
    return done; \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define FTRUNCATE(name, offset) \
  int name(int fd, offset len) { \
    REAL(name); \
    int failed = real(fd, len); \
    if (!failed && known(fd)) note(TRUNCATE, paths[fd], (uint64_t)len, NULL, 0); \
    return failed; \
  }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define SYNC(name) \
  int name(int fd) { \
    REAL(name); \
    if (!known(fd)) return real(fd); \
    uint64_t sync = __atomic_add_fetch(&syncs, 1, __ATOMIC_SEQ_CST); \
    note(SYNC_BEGIN, paths[fd], sync, NULL, 0); \
    int failed = real(fd); \
    if (!failed) note(SYNC_END, paths[fd], sync, NULL, 0); \
    return failed; \
  }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
  REAL(rename);
  int failed = real(from, to);
  if (!failed && below(from)) note(RENAME, from, 0, to, strlen(to));
  return failed;
}

int unlink(const char *path) {
  REAL(unlink);
  int failed = real(path);
  if (!failed && below(path)) note(UNLINK, path, 0, NULL, 0);
  return failed;
}

int mkdir(const char *path, mode_t mode) {
  REAL(mkdir);
  int failed = real(path, mode);
  if (!failed && below(path)) note(MKDIR, path, 0, NULL, 0);
  return failed;
}
